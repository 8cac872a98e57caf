"""Files: equal content gives equal bytes, a file is whole or absent, and what is read back is what was written."""

import errno
import json
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.base import artifacts, splits
from src.base.splits import Split
from tests.builders.small import files_of_at_most


def weights() -> dict[str, Any]:
    return {"layer.weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(3), "classes": ("a", "b")}


def split() -> Split:
    images = torch.randint(256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split(images=images, labels=torch.tensor([0, 1, 1, 0, 1]), classes=("cat", "dög"))


def test_equal_content_gives_equal_bytes_whatever_the_path(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pt", tmp_path / "other/name.pt"]
    for path in paths:
        artifacts.save(weights(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert artifacts.sha256(paths[0]) == artifacts.sha256(paths[1])
    artifacts.save(weights() | {"steps": torch.tensor(4)}, paths[1])
    assert artifacts.sha256(paths[0]) != artifacts.sha256(paths[1])


@pytest.mark.parametrize("mmap", [False, True])
def test_tensors_and_names_read_back_as_they_were(tmp_path: Path, mmap: bool) -> None:
    artifacts.save(weights(), tmp_path / "a.pt")
    read = artifacts.load(tmp_path / "a.pt", mmap=mmap)
    assert list(read) == list(weights())
    assert torch.equal(read["layer.weight"], weights()["layer.weight"])
    assert read["classes"] == ("a", "b")


def test_a_split_reads_back_as_it_was(tmp_path: Path) -> None:
    splits.save_split(split(), tmp_path / "train.pt")
    read = splits.load_split(tmp_path / "train.pt")
    assert torch.equal(read.images, split().images)
    assert torch.equal(read.labels, split().labels)
    assert (read.images.dtype, read.labels.dtype, read.classes) == (torch.uint8, torch.int64, ("cat", "dög"))


def fail_midway(path: Path) -> None:
    with artifacts.replacing(path) as file:
        file.write(b"half of it")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_midway(tmp_path / "new/metrics.json")
    assert not list((tmp_path / "new").iterdir())


def test_an_interrupted_write_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    artifacts.write_json({"accuracy": 0.5}, path)
    with pytest.raises(KeyboardInterrupt):
        fail_midway(path)
    assert artifacts.read_json(path) == {"accuracy": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with artifacts.replacing(path) as file:
        file.write(b"content")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"content"


def test_a_read_only_link_into_a_cache_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    """DVC may link outputs to its cache: writing in place would change the cache."""
    cached, out = tmp_path / "cached", tmp_path / "out.json"
    artifacts.write_json({"run": 1}, cached)
    cached.chmod(0o444)
    os.link(cached, out)
    artifacts.write_json({"run": 2}, out)
    assert (artifacts.read_json(cached), artifacts.read_json(out)) == ({"run": 1}, {"run": 2})


def test_values_that_cannot_be_saved_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        artifacts.write_json({"loss": math.nan}, tmp_path / "metrics.json")
    with pytest.raises(ValueError, match="JSON compliant"):
        artifacts.append_line({"loss": math.inf}, tmp_path / "trials.jsonl")
    assert not [path for path in tmp_path.iterdir() if path.stat().st_size]
    assert not (tmp_path / "metrics.json").exists()


def test_json_reads_back_equal_and_is_one_value_a_line(tmp_path: Path) -> None:
    values = {"val": {"accuracy": 0.1 + 0.2, "loss": 1e-17}, "classes": ["é"], "best": None}
    artifacts.write_json(values, tmp_path / "a.json")
    assert artifacts.read_json(tmp_path / "a.json") == values
    text = (tmp_path / "a.json").read_text()
    assert text.endswith("}\n")
    assert '    "accuracy": 0.30000000000000004,\n' in text


def odd_floats(count: int = 2000) -> list[float]:
    """Floats of random bits, of every size."""
    numbers = random.Random(0)
    found = [struct.unpack("<d", numbers.randbytes(8))[0] for _ in range(count)]
    return [0.1, 1e-5, 5e-324, 1.7976931348623157e308, 1 / 3, *filter(math.isfinite, found)]


def test_floats_in_a_csv_read_back_equal(tmp_path: Path) -> None:
    artifacts.write_csv([{"epoch": i, "loss": value} for i, value in enumerate(odd_floats())], tmp_path / "curve.csv")
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss"
    assert [float(line.split(",")[1]) for line in lines[1:]] == odd_floats()
    read = pd.read_csv(tmp_path / "curve.csv")
    assert read["loss"].tolist() == odd_floats()


def test_names_with_commas_and_quotes_in_a_csv_read_back_equal(tmp_path: Path) -> None:
    names = ["a,b", 'say "x"', "line\nbreak", "ünï"]
    artifacts.write_csv([{"actual": name, "predicted": name} for name in names], tmp_path / "confusion.csv")
    assert pd.read_csv(tmp_path / "confusion.csv")["actual"].tolist() == names


def test_a_journal_holds_its_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep/trials.jsonl"
    assert artifacts.read_lines(path) == []
    for number in range(3):
        artifacts.append_line({"trial": number, "loss": 0.1 * number}, path)
    assert artifacts.read_lines(path) == [{"trial": number, "loss": 0.1 * number} for number in range(3)]


@pytest.mark.parametrize("kept", range(0, 22))
def test_a_journals_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "trials.jsonl"
    artifacts.append_line({"trial": 0}, path)
    whole = path.read_bytes()
    line = json.dumps({"trial": 1, "é": "x"}).encode()
    path.write_bytes(whole + line[:kept])
    assert artifacts.read_lines(path) == [{"trial": 0}]
    assert path.read_bytes() == whole, "the next line would be appended to the torn one"
    artifacts.append_line({"trial": 1}, path)
    assert artifacts.read_lines(path) == [{"trial": 0}, {"trial": 1}]


def test_a_scratch_tensor_is_zeroed_keeps_what_is_written_and_leaves_no_file(tmp_path: Path) -> None:
    with artifacts.scratch_tensor((3, 4, 5), torch.float16, beside=tmp_path / "features/train.pt") as scratch:
        assert (scratch.shape, scratch.dtype, scratch.count_nonzero()) == ((3, 4, 5), torch.float16, 0)
        scratch[1] = 7
        assert scratch.sum() == 140
        artifacts.save({"features": scratch}, tmp_path / "saved.pt")
    assert not list((tmp_path / "features").iterdir())
    assert artifacts.load(tmp_path / "saved.pt")["features"][1].eq(7).all()


def test_a_scratch_tensor_leaves_no_file_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with artifacts.scratch_tensor((10,), torch.float32, beside=tmp_path / "a.pt"):
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_main_checkout_is_dvcs_root_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert artifacts.main_checkout() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    assert artifacts.main_checkout() == (tmp_path / "main").resolve()


LARGE, MANY = {"weights": torch.zeros(100_000)}, {str(i): torch.zeros(1000) for i in range(100)}
WRITES: dict[str, Callable[[Path], object]] = {
    "large.pt": lambda path: artifacts.save(LARGE, path),
    "many.pt": lambda path: artifacts.save(MANY, path),
    "values.json": lambda path: artifacts.write_json({"text": "x" * 20_000}, path),
    "rows.csv": lambda path: artifacts.write_csv([{"a": 1.5}] * 20_000, path),
    "journal.jsonl": lambda path: artifacts.append_line({"text": "x" * 20_000}, path),
    "scratch": lambda path: artifacts.scratch_tensor((100_000,), torch.float32, beside=path).__enter__(),
}


def test_a_full_disk_is_an_error_that_names_the_file_whatever_was_being_written(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: a write fails half-way, through the same code."""
    for name, write in WRITES.items():
        with files_of_at_most(10_000), pytest.raises(OSError, match="File too large") as caught:
            write(tmp_path / name)
        assert (caught.value.filename, caught.value.errno) == (str(tmp_path / name), errno.EFBIG)
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"], "a torn line is cut off when it is read"


def no_objection() -> None: ...


def test_files_written_together_appear_together_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with artifacts.together(no_objection):
        artifacts.write_json({"new": 1}, tmp_path / "a.json")
        artifacts.save(weights(), tmp_path / "folder/b.pt")
        assert (tmp_path / "a.json").read_text() == "old"
        assert not (tmp_path / "folder/b.pt").exists()
    assert artifacts.read_json(tmp_path / "a.json") == {"new": 1}
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["b.pt"]
    artifacts.write_json({"later": 2}, tmp_path / "a.json")
    assert artifacts.read_json(tmp_path / "a.json") == {"later": 2}


@pytest.mark.parametrize("objects", ["at the beginning", "at the end", "the block itself"])
def test_of_files_written_together_none_appears_where_something_objects(tmp_path: Path, objects: str) -> None:
    (tmp_path / "a.json").write_text("old")
    asked = list[str]()

    def confirm() -> None:
        asked.append("asked")
        if ["at the beginning", "at the end"][len(asked) - 1] == objects:
            raise ValueError(objects)

    def work() -> None:
        with artifacts.together(confirm):
            artifacts.write_json({"new": 1}, tmp_path / "a.json")
            artifacts.write_text("new", tmp_path / "b.txt")
            if objects == "the block itself":
                raise ValueError(objects)

    with pytest.raises(ValueError, match=objects):
        work()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_an_input_is_in_memory_where_an_edit_of_its_file_does_not_reach_it(tmp_path: Path) -> None:
    splits.save_split(split(), tmp_path / "train.pt")
    read = splits.load_split(tmp_path / "train.pt")
    with open(tmp_path / "train.pt", "r+b") as file:
        file.write(bytes(os.stat(file.fileno()).st_size))
    assert torch.equal(read.images, split().images)


def test_an_input_that_would_fill_the_memory_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits.save_split(split(), tmp_path / "train.pt")
    asked = list[bool]()
    monkeypatch.setattr(artifacts, "load", lambda path, mmap: asked.append(mmap) or {})
    for available in (10**9, 100):
        monkeypatch.setattr("src.base.artifacts.psutil.virtual_memory", lambda available=available: Memory(available))
        artifacts.load_input(tmp_path / "train.pt")
    assert asked == [False, True]


class Memory:
    def __init__(self, available: int) -> None:
        self.available = available


def test_the_first_linked_folder_on_the_way_down_is_found_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("real/more/inner").mkdir(parents=True)
    Path("top").symlink_to("real")
    Path("real/link").symlink_to(tmp_path / "real/more")
    Path("real/file").symlink_to(tmp_path / "real/link")
    assert artifacts.linked_folder("top/link/inner/x.pt", "top") == Path("top/link")
    assert artifacts.linked_folder("top/more/../link", "top") == Path("top/link")
    assert artifacts.linked_folder("top/more/inner", "top") is None
    assert artifacts.linked_folder("top", "top") is None
    assert artifacts.linked_folder("elsewhere/link", "top") is None
