"""Archives give what was put in, or one line about what is wrong; no member ever reaches the disk."""

import hashlib
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from src.data import archives
from tests.builders.data import PACKED, tar_bytes, write_archive, write_folder, zip_bytes

FILES = {f"train/{name}/{i}.jpg": os.urandom(100 * i + 1) for name in ("cat", "dog") for i in range(4)}


def read(path: Path, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {name: content for name, content in archives.entries(path, files) if not name.endswith("/")}


@pytest.mark.parametrize("kind", PACKED)
def test_every_kind_of_archive_gives_back_its_files(kind: str, tmp_path: Path) -> None:
    assert read(write_archive(FILES, tmp_path / f"photos{kind}")) == FILES


def test_a_directory_gives_back_its_files_and_names_its_directories(tmp_path: Path) -> None:
    found = dict(archives.entries(write_folder(FILES, tmp_path), FILES))
    assert found == FILES | {"train/": b"", "train/cat/": b"", "train/dog/": b""}


def test_only_wanted_members_are_read(tmp_path: Path) -> None:
    wanted = "train/cat/2.jpg"
    found = dict(archives.entries(write_archive(FILES, tmp_path / "photos.zip"), {wanted}))
    assert {name for name, content in found.items() if content} == {wanted}


@pytest.mark.parametrize("kind", PACKED)
def test_a_truncated_archive_is_an_error_wherever_it_ends(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"photos{kind}"
    whole = PACKED[kind](FILES)
    needed = whole.rstrip(b"\0") + bytes(1) if kind == ".tar" else whole[:-1]  # a tar ends in padding
    for length in range(0, len(needed), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=f"photos{kind} is no whole archive"):
            read(path)


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.xz", ".zip"])
def test_a_flipped_bit_is_an_error(kind: str, tmp_path: Path) -> None:
    content = bytearray(PACKED[kind](FILES))
    content[len(content) // 2] ^= 1
    (tmp_path / f"photos{kind}").write_bytes(content)
    with pytest.raises(ValueError, match="no whole archive"):
        read(tmp_path / f"photos{kind}")


@pytest.mark.parametrize("name", ["../x.jpg", "train/../../x.jpg", "/tmp/x.jpg", "__MACOSX/../../x.jpg"])
@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_a_member_that_points_outside_is_an_error_that_names_it(kind: str, name: str, tmp_path: Path) -> None:
    path = write_archive({**FILES, name: b"evil"}, tmp_path / f"photos{kind}")
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(ValueError, match=rf"photos{kind}: '{re.escape(name)}' points outside the archive"):
        read(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["..\\x.jpg", "C:\\x.jpg"])
def test_a_zip_of_windows_cannot_point_outside_either(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="points outside the archive"):
        read(write_archive({name: b"evil"}, tmp_path / "photos.zip"))


def test_backslashes_in_a_zip_are_directories(tmp_path: Path) -> None:
    path = write_archive({name.replace("/", "\\"): content for name, content in FILES.items()}, tmp_path / "photos.zip")
    assert read(path) == FILES


def test_names_in_utf_8_that_a_zip_does_not_say_are_read_as_such(tmp_path: Path) -> None:
    """As Info-ZIP writes them, among others; what is no UTF-8 is in MS-DOS's code page."""
    names = ("Hund im Grünen/a.jpg", "キッチン/b.jpg")
    content = zip_bytes(dict.fromkeys(names, b"x")).replace(b"\x14\x00\x00\x08", b"\x14\x00\x00\x00")
    (tmp_path / "photos.zip").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert not any(member.flag_bits for member in archive.infolist())
    assert [name for name, _ in archives.entries(tmp_path / "photos.zip", ())] == [*names]
    dos = content.replace("ü".encode(), b"\x81\x81")
    (tmp_path / "photos.zip").write_bytes(dos)
    assert next(archives.entries(tmp_path / "photos.zip", ()))[0] == "Hund im Grüünen/a.jpg"


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", "/"])
def test_no_more_of_a_member_is_read_than_shows_that_it_is_too_large(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST", 101)
    files = {"a/0.jpg": os.urandom(1000), "a/1.jpg": os.urandom(100)}
    folder = write_folder(files, tmp_path / "photos")
    path = folder if kind == "/" else write_archive(files, tmp_path / f"photos{kind}")
    assert read(path, files) == {name: content[:101] for name, content in files.items()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_link_or_a_device_in_a_tar_is_an_error_that_names_it(kind: bytes, tmp_path: Path) -> None:
    member = tarfile.TarInfo("train/cat/link.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    (tmp_path / "photos.tar").write_bytes(tar_bytes(FILES, member))
    with pytest.raises(ValueError, match=r"photos.tar: 'train/cat/link.jpg' is a link, a device"):
        read(tmp_path / "photos.tar")


def test_a_link_in_a_zip_is_an_error_that_names_it(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/cat/link.jpg")
    link.external_attr = 0o120777 << 16
    path = write_archive(FILES, tmp_path / "photos.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"'train/cat/link.jpg' is a link"):
        read(path)


def test_an_encrypted_zip_says_so(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"train/cat/1.jpg": b"secret"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "photos.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"'train/cat/1.jpg' is encrypted"):
        read(tmp_path / "photos.zip")


def test_another_kind_of_file_is_an_error_that_names_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "photos.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=r"photos.rar is no archive known here; allowed: .*\.tar\.zst, \.zip"):
        read(tmp_path / "photos.rar")


@pytest.mark.parametrize("pack", ["folder", ".tar", ".zip"])
def test_what_operating_systems_leave_behind_is_not_there(pack: str, tmp_path: Path) -> None:
    clutter = ("__MACOSX/train/cat/._1.jpg", ".DS_Store", "train/cat/.DS_Store", "train/cat/Thumbs.db", ".git/config")
    files = {**FILES, **dict.fromkeys(clutter, b"clutter")}
    path = write_folder(files, tmp_path / "p") if pack == "folder" else write_archive(files, tmp_path / f"photos{pack}")
    assert read(path) == FILES


def test_leading_dots_in_names_do_not_matter(tmp_path: Path) -> None:
    path = write_archive({"./": b"", **{f"./{name}": content for name, content in FILES.items()}}, tmp_path / "a.tar")
    assert read(path) == FILES


def test_a_directory_that_links_to_itself_is_an_error_not_a_hang(tmp_path: Path) -> None:
    (write_folder(FILES, tmp_path) / "train" / "loop").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="reached twice"):
        read(tmp_path)


def test_a_pipe_in_a_directory_is_an_error_not_a_hang(tmp_path: Path) -> None:
    os.mkfifo(write_folder(FILES, tmp_path) / "train" / "cat" / "pipe.jpg")
    with pytest.raises(ValueError, match=r"'train/cat/pipe.jpg' is a link, a device"):
        read(tmp_path)


def test_a_directorys_digest_is_that_of_what_sha256sum_prints(tmp_path: Path) -> None:
    lines = "".join(f"{hashlib.sha256(FILES[name]).hexdigest()}  {name}\n" for name in sorted(FILES))
    expected = hashlib.sha256(lines.encode()).hexdigest()
    write_folder(FILES, tmp_path)
    assert archives.sha256(tmp_path) == expected
    (tmp_path / "README.md").write_text("what lies here")
    assert archives.sha256(tmp_path) == expected
    (tmp_path / "train" / "cat" / "1.jpg").write_bytes(b"changed")
    assert archives.sha256(tmp_path) != expected
