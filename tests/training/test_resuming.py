"""Resuming: state is found again by who is given the same on the same machine, and by no other."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src.base import artifacts
from src.training import resuming

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to be the repository; the number of threads afterwards as before."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(before)


def given(**params: object) -> dict[str, object]:
    """As a stage's note holds it."""
    return {"params": {"seed": 0} | params, "files": {"src/a.py": "0a", "input.pt": "1b"}}


def folder(stage: str = "tune_head", *, finish: bool = True, **settings: object) -> Path:
    """The folder of a stage that ends well, or breaks off."""
    try:
        with resuming.held(stage, given(**settings), CPU) as found:
            artifacts.write_text("state", found / "state")
            if not finish:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    return found


def test_state_lies_in_the_main_checkout_by_stage(checkout: Path) -> None:
    assert folder().parent == (checkout / "main/.resume/tune_head").resolve()


def test_the_same_settings_inputs_and_code_find_the_same_state() -> None:
    assert folder(finish=False) == folder()


def test_state_is_kept_after_the_stage_ended_well() -> None:
    assert (folder() / "state").exists()
    with resuming.held("tune_head", given(), CPU) as again:
        assert (again / "state").read_text() == "state"


def test_other_settings_or_another_stage_find_no_state() -> None:
    found = {folder(), folder(seed=1), folder(trials=3), folder(stage="finetune")}
    assert len(found) == 4


@pytest.mark.parametrize("change", ["threads", "deterministic library", "device", "what the network comes from"])
def test_whatever_could_change_the_result_finds_no_state(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder()
    if change == "threads":
        torch.set_num_threads(torch.get_num_threads() + 1)
    elif change == "what the network comes from":
        monkeypatch.setattr("src.base.stage_records.imported", lambda: {"timm": "99"})
    elif change == "device":
        monkeypatch.setattr("src.base.devices.describe", lambda device: {"device": "another", "threads": 2})
    else:
        monkeypatch.setattr("src.training.resuming.metadata.version", lambda name: "99")
    assert folder() != before


def test_the_next_start_under_another_key_keeps_the_state_and_says_what_changed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = folder(lr=0.1, finish=False)
    after = folder(lr=0.2)
    assert before.exists()
    assert after.exists()
    said = capsys.readouterr().out
    assert said == "starts over, and keeps the unfinished run; since then changed: lr\n"
    assert folder(lr=0.1) == before
    assert (before / "state").exists()
    assert capsys.readouterr().out == ""


def test_the_states_of_the_last_three_other_keys_are_kept_and_older_ones_deleted() -> None:
    states = [folder(lr=number, finish=number % 2 == 0) for number in range(5)]
    assert [state.exists() for state in states] == [False, True, True, True, True]
    folder(lr=1)  # used again: now the newest
    folder(lr=5)
    assert [state.exists() for state in states] == [False, True, False, True, True]


def test_a_finished_run_makes_way_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    folder(lr=0.1)
    folder(lr=0.2)
    assert capsys.readouterr().out == ""


def test_what_a_kill_left_half_written_is_deleted() -> None:
    torn = folder(finish=False) / ".checkpoint.00000001.pt.123.tmp"
    torn.touch()
    folder()
    assert not torn.exists()


HOLDER = """
import sys, time, torch
from src.training import resuming
given = {"params": {"seed": int(sys.argv[1])}, "files": {"src/a.py": "0a", "input.pt": "1b"}}
with resuming.held("tune_head", given, torch.device("cpu")) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(checkout: Path, request: pytest.FixtureRequest) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """Another process that works under the seed of the test's parameter, and its folder."""
    threads = f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
    command = [
        sys.executable,
        "-c",
        threads + HOLDER.replace("from src", f"sys.path[0] = {str(ROOT)!r}; from src"),
        "0",
    ]
    command[-1] = str(request.param)
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


@pytest.mark.parametrize("holder", [1], indirect=True)
def test_an_experiment_that_runs_beside_this_one_keeps_its_state(holder: tuple[object, Path]) -> None:
    for number in range(5):
        folder(lr=number)
    assert (holder[1] / "identity.json").exists()


@pytest.mark.parametrize("holder", [0], indirect=True)
def test_two_processes_never_share_a_state(holder: tuple["subprocess.Popen[str]", Path]) -> None:
    process, place = holder
    with pytest.raises(ValueError, match=rf"in use by process {process.pid}: wait until it ends, or stop it"):
        artifacts.locked(place / "lock").__enter__()
    process.kill()
    process.wait()
    with artifacts.locked(place / "lock"):
        pass  # a killed process holds nothing
