"""A download resumes, changes mirrors, and takes nothing for the archive whose checksum is wrong."""

import os
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from src.data import downloads
from src.data.datasets import OFFICIAL
from tests.builders.data import Mirror, archive, serving

CONTENT = os.urandom(300_000)
NAME = "cifar-10-python.tar.gz"


def test_the_table_names_torchvisions_checksums() -> None:
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN

    found = {name: [(one.name, one.md5) for one in of_name] for name, of_name in OFFICIAL.items()}
    assert found == {
        "cifar10": [(CIFAR10.filename, CIFAR10.tgz_md5)],
        "cifar100": [(CIFAR100.filename, CIFAR100.tgz_md5)],
        "svhn": [tuple(SVHN.split_list[split][1:]) for split in ("train", "test")],
    }


def test_the_slow_host_of_cifar_is_the_last_resort() -> None:
    for name in ("cifar10", "cifar100"):
        assert ["toronto" in url for url in OFFICIAL[name][0].urls] == [False, False, True]


def test_an_archive_is_downloaded_once_and_then_found_in_the_cache(tmp_path: Path) -> None:
    good = Mirror(CONTENT)
    with serving(good=good) as address:
        for _ in range(2):
            assert downloads.fetch(archive(CONTENT, f"{address}/good"), tmp_path).read_bytes() == CONTENT
    assert good.served == len(CONTENT)
    assert {path.name for path in tmp_path.iterdir()} == {NAME, ".lock"}


def test_a_cached_file_of_other_bytes_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"something else")
    with serving(good=Mirror(CONTENT)) as address:
        assert downloads.fetch(archive(CONTENT, f"{address}/good"), tmp_path).read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    cut = Mirror(CONTENT, cut_after=len(CONTENT) // 2)
    with serving(cut=cut) as address:
        assert downloads.fetch(archive(CONTENT, f"{address}/cut"), tmp_path).read_bytes() == CONTENT
    assert cut.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert cut.served == len(CONTENT)  # no byte was served twice


def test_another_mirror_goes_on_from_the_part_of_the_first(tmp_path: Path) -> None:
    poor, good = Mirror(CONTENT, cut_after=4096), Mirror(CONTENT)
    with serving(poor=poor, good=good) as address:
        downloads.fetch(archive(CONTENT, f"{address}/poor", f"{address}/good"), tmp_path)
    assert len(poor.ranges) == downloads.ATTEMPTS
    assert good.ranges == [f"bytes={downloads.ATTEMPTS * 4096}-"]
    assert poor.served + good.served == len(CONTENT)


def test_a_part_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT[:200_000])
    good = Mirror(CONTENT)
    with serving(good=good) as address:
        assert downloads.fetch(archive(CONTENT, f"{address}/good"), tmp_path).read_bytes() == CONTENT
    assert good.served == 100_000


@pytest.mark.parametrize("part", [CONTENT[:1000], bytes(1000)])
def test_a_server_that_knows_no_ranges_serves_all_of_it(part: bytes, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(part)
    old = Mirror(CONTENT, knows_ranges=False)
    with serving(old=old) as address:
        assert downloads.fetch(archive(CONTENT, f"{address}/old"), tmp_path).read_bytes() == CONTENT
    assert old.served == len(CONTENT)


@pytest.mark.parametrize("part", [bytes(1000), bytes(len(CONTENT)), bytes(len(CONTENT) + 1)])
def test_a_part_of_wrong_bytes_costs_a_download_from_the_start_and_no_mirror(part: bytes, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(part)
    with serving(only=Mirror(CONTENT)) as address:
        assert downloads.fetch(archive(CONTENT, f"{address}/only"), tmp_path).read_bytes() == CONTENT


def test_a_mirror_with_the_wrong_checksum_is_left_for_the_next(tmp_path: Path) -> None:
    wrong, good = Mirror(bytes(len(CONTENT))), Mirror(CONTENT)
    with serving(wrong=wrong, good=good) as address:
        found = downloads.fetch(archive(CONTENT, f"{address}/wrong", f"{address}/good"), tmp_path)
    assert found.read_bytes() == CONTENT
    assert (wrong.ranges, good.ranges) == ([None], [None])  # each once, from its start


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Mirror(b"", status=404), "HTTP 404"),
        (Mirror(b"<html>please log in</html>"), "offers 26 bytes"),
        (Mirror(bytes(len(CONTENT))), "wrong checksum: MD5 .* instead of"),
        (Mirror(b"", announced=len(CONTENT)), "closed the connection at 0 of 300000 bytes"),
    ],
)
def test_when_nothing_works_one_line_says_what_was_tried_and_the_ways_out(
    bad: Mirror, reason: str, tmp_path: Path
) -> None:
    closed = "http://127.0.0.1:9/x"
    with serving(bad=bad) as address, pytest.raises(ValueError, match=rf"{address}/bad: {reason}") as raised:
        downloads.fetch(archive(CONTENT, closed, f"{address}/bad"), tmp_path)
    message = str(raised.value)
    assert f"{closed}: Connection refused" in message
    for way_out in (f"dataset.source=<path of a local copy of {NAME}>", "dataset.name=digits", "`make run`"):
        assert way_out in message
    assert "\n" not in message
    assert not any(path.stat().st_size for path in tmp_path.iterdir())  # nothing that could be read


def test_a_name_that_no_server_has_is_named_with_its_reason(tmp_path: Path) -> None:
    url = "http://no-such-host.invalid/x"
    with pytest.raises(ValueError, match=rf"could not be downloaded: {url}: .*[Nn]ame"):
        downloads.fetch(archive(CONTENT, url), tmp_path)


def test_a_part_is_kept_for_the_next_try_and_the_message_says_so(tmp_path: Path) -> None:
    cut = Mirror(CONTENT, cut_after=1000)
    with serving(cut=cut) as address, pytest.raises(ValueError, match=f"; {downloads.ATTEMPTS * 1000} of 300000 bytes"):
        downloads.fetch(archive(CONTENT, f"{address}/cut"), tmp_path)
    assert (tmp_path / f"{NAME}.part").read_bytes() == CONTENT[: downloads.ATTEMPTS * 1000]


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    silent, good = Mirror(CONTENT, stall_after=8192), Mirror(CONTENT)
    with serving(silent=silent, good=good) as address:
        found = downloads.fetch(archive(CONTENT, f"{address}/silent", f"{address}/good"), tmp_path)
    assert found.read_bytes() == CONTENT
    assert good.served < len(CONTENT)


def test_a_full_disk_is_no_fault_of_the_mirrors(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # as good as a full disk
    try:
        with serving(good=Mirror(CONTENT)) as address, pytest.raises(OSError, match="File too large"):
            downloads.fetch(archive(CONTENT, f"{address}/good"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_local_copy_is_verified(tmp_path: Path) -> None:
    official, path = archive(CONTENT), tmp_path / "copy.tar.gz"
    path.write_bytes(CONTENT)
    downloads.verify(official, path)
    with pytest.raises(ValueError, match=r"copy.tar.gz has the wrong checksum: MD5 .*; cifar-10-python.tar.gz has"):
        downloads.verify(replace(official, md5="0" * 32), path)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=r"copy.tar.gz is truncated: 299999 bytes of the 300000"):
        downloads.verify(official, path)
