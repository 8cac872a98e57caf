"""Checkpoints: the last good state survives whatever happens to the newest file."""

import os
from pathlib import Path

import pytest
import torch

from src.interface import console
from src.training.checkpoints import Checkpoints
from tests.builders.small import files_of_at_most


def state(number: int) -> dict[str, object]:
    return {"images": 10 * number, "weights": torch.full((1000,), float(number)), "curve": [{"epoch": number}]}


def written(folder: Path, count: int) -> list[Path]:
    """The files that are left of `count` states."""
    checkpoints = Checkpoints(folder)
    for number in range(1, count + 1):
        checkpoints.write(state(number))
    return sorted(folder.glob("checkpoint.*"))


def test_the_newest_state_is_read_back_as_it_was(tmp_path: Path) -> None:
    files = written(tmp_path, 5)
    found = Checkpoints(tmp_path)
    assert (found.images, found.path) == (50, files[-1])
    assert found.state is not None
    assert torch.equal(found.state["weights"], torch.full((1000,), 5.0))
    assert found.state["curve"] == [{"epoch": 5}]
    assert len(files) == 2, "the newest and one to fall back on"


def test_an_empty_folder_and_none_hold_no_state_and_none_keeps_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).state is None
    nowhere = Checkpoints(None)
    nowhere.write(state(1))
    assert (nowhere.state, nowhere.images, nowhere.path) == (None, 0, None)


@pytest.mark.parametrize("damage", ["cut to half", "cut to nothing", "one bit", "a byte more"])
def test_a_damaged_file_is_left_out_for_the_one_before_it(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = written(tmp_path, 3)[-1]
    content = bytearray(newest.read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    kept = {"cut to half": content[: len(content) // 2], "cut to nothing": b"", "a byte more": content + b"x"}
    newest.write_bytes(bytes(kept.get(damage, content)))
    found = Checkpoints(tmp_path)
    assert found.images == 20
    assert f"{newest} is damaged and left out" in capsys.readouterr().err
    found.write(state(4))
    assert Checkpoints(tmp_path).images == 40


def test_all_files_damaged_is_a_fresh_start(tmp_path: Path) -> None:
    for path in written(tmp_path, 3):
        path.write_bytes(b"no checkpoint")
    assert Checkpoints(tmp_path).state is None


def test_a_full_disk_is_one_line_and_leaves_the_last_state(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: both make a write fail half-way, through the same code."""
    before = written(tmp_path, 2)
    kept = Checkpoints(tmp_path)
    with files_of_at_most(100_000), pytest.raises(OSError, match="checkpoint") as caught:
        kept.write({"images": 30, "weights": torch.zeros(1_000_000)})
    (line,) = console._message(caught.value).splitlines()
    assert line.endswith(f": {os.strerror(27)}")
    assert str(tmp_path / "checkpoint.00000003.") in line
    assert sorted(path for path in tmp_path.iterdir()) == before
    assert Checkpoints(tmp_path).images == 20
