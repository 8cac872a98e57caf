"""Resuming: state is found again under the same settings, inputs, code and threads, and under no others."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src import artifacts, resuming


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be the repository, with one input; the number of threads afterwards as before."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.chdir(tmp_path)
    artifacts.write_text("features", "input.pt")
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def folder(stage: str = "tune_head", **settings: object) -> Path:
    return resuming.folder(stage, {"seed": 0} | settings, ["input.pt"])


def test_state_lies_in_the_main_checkout_by_stage_and_is_not_created(checkout: Path) -> None:
    assert folder().parent == (checkout / "main/.resume/tune_head").resolve()
    assert not (checkout / "main").exists()


def test_the_same_settings_inputs_and_code_find_the_same_state() -> None:
    assert folder() == folder()


def test_other_settings_or_another_stage_find_no_state() -> None:
    found = {folder(), folder(seed=1), folder(trials=3), folder(stage="finetune")}
    assert len(found) == 4


def test_a_changed_input_finds_no_state() -> None:
    before = folder()
    artifacts.write_text("other features", "input.pt")
    assert folder() != before


def test_another_number_of_threads_finds_no_state() -> None:
    before = folder()
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert folder() != before
