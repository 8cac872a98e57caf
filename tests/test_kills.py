"""kill -9 in the middle of a stage: the next `dvc repro` succeeds, with the same bytes as an undisturbed run."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.repository import TINY, Repository

LONGER = (*TINY, "tune_head.trials=8", "tune_head.epochs=60", "finetune.epochs=4")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("undisturbed"))
    repository.set_params(LONGER)
    repository.repro()
    return repository


def kill_during(repository: Repository, stage: str, ready: Callable[[], bool], *, everything: bool) -> None:
    """Start `dvc repro`, and kill -9 the process of `stage` (or DVC with it) as soon as it is `ready`."""
    started = repository.start("dvc", "repro")
    deadline = time.monotonic() + 300
    while not (found := processes(repository, stage)) or not ready():
        assert started.poll() is None, started.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if everything:
        os.killpg(started.pid, signal.SIGKILL)
    else:
        found[0].kill()
    assert started.wait() != 0
    started.communicate()


def processes(repository: Repository, stage: str) -> list[psutil.Process]:
    """Python processes that run `stage` in this repository."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if (
                "python" in command[:1]
                and f"stages.{stage}" in command
                and process.cwd() == str(repository.folder.resolve())
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def journals(repository: Repository) -> list[Path]:
    return list((repository.folder / ".resume/tune_head").glob("*/trials.jsonl"))


def running_for(seconds: float, repository: Repository, stage: str) -> Callable[[], bool]:
    def ready() -> bool:
        return any(time.time() - process.create_time() > seconds for process in processes(repository, stage))

    return ready


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True], ids=["the stage", "dvc too"])
def test_killed_head_search_goes_on_and_ends_with_the_same_bytes(
    undisturbed: Repository, tmp_path: Path, everything: bool
) -> None:
    repository = Repository(tmp_path)
    repository.set_params(LONGER)

    def three_trials() -> bool:
        return any(path.read_bytes().count(b"\n") >= 3 for path in journals(repository))

    kill_during(repository, "tune_head", three_trials, everything=everything)
    (journal,) = journals(repository)
    kept = journal.read_bytes()
    assert 3 <= kept.count(b"\n") < 8
    repository.repro()
    assert journal.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])  # none of the finished trials ran again
    assert repository.results() == undisturbed.results()


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_killed_fine_tuning_leaves_nothing_half_written(undisturbed: Repository, tmp_path: Path, share: float) -> None:
    """Killed after a share of the time that the undisturbed stage took, its imports not counted."""
    record = json.loads((undisturbed.folder / "data/runs/finetune.json").read_text())
    repository = Repository(tmp_path)
    repository.set_params(LONGER)
    kill_during(
        repository, "finetune", running_for(share * record["seconds"], repository, "finetune"), everything=False
    )
    assert not (repository.folder / "models/finetuned.pt").exists()
    repository.repro()
    assert repository.results() == undisturbed.results()
