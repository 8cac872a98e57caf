"""kill -9 in the middle of a stage: the next start goes on, and ends with the same bytes as an undisturbed run."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import torch

from src.base import artifacts
from src.training import fitting
from src.training.checkpoints import Checkpoints
from src.training.fitting import Session
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from tests.builders.repository import ROOT, TINY, WITHOUT_SCALING, Repository, cold, copied
from tests.builders.small import convolutional, images

LONGER = (
    *(*TINY, "tune_head.trials=8", "tune_head.epochs=60", "train_frozen.epochs=40", "finetune.epochs=4"),
    *("finetune.checkpoint_minutes=0", *WITHOUT_SCALING),
)


def train(folder: Path, *, last: int | None = None) -> None:
    """Train 3 epochs of 4 steps, with a checkpoint after each step; kill -9 this process after `last` of them."""
    taken = 0

    def advance(count: int) -> None:
        nonlocal taken
        taken += 1
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    model = convolutional(dropout=0.3)
    groups = parameter_groups(model, "head", lr=0.01, weight_decay=0.01)
    recipe = Recipe(
        epochs=3, batch_size=8, schedule="cosine", mixup=0.2, cutmix=1.0, ema_decay=0.9, checkpoint_minutes=0.0
    )
    fitted = fitting.fit(
        model,
        build_optimizer("adamw", groups, epsilon=EPSILON),
        images(32),
        images(16, name="val"),
        recipe,
        session=Session(seed=0, advance=advance, checkpoints=Checkpoints(folder)),
    )
    artifacts.save(fitting.weights(model), folder / "weights.pt")
    artifacts.write_csv(fitted.curve, folder / "curve.csv")


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads afterwards as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_training_killed_in_an_epoch_goes_on_in_another_process_to_the_same_bytes(
    tmp_path: Path, threads: None, capfd: pytest.CaptureFixture[str]
) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    script = (
        f"from pathlib import Path; from tests.pipeline.test_kills import train; train(Path({str(killed)!r}), last=6)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not (killed / "weights.pt").exists()
    train(killed)
    assert capfd.readouterr().out == "goes on at epoch 2 of 3, step 3 of 4\n"
    train(undisturbed)
    for name in ("weights.pt", "curve.csv"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("undisturbed"), warm_python)
    repository.set_params(LONGER)
    repository.repro()
    return repository


def kill_during(repository: Repository, stage: str, ready: Callable[[], bool], *, everything: bool) -> str:
    """Start `dvc repro`, and kill -9 the process of `stage` (or DVC with it) when it is `ready`; what was said."""
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
    return started.communicate()[0]


def processes(repository: Repository, stage: str) -> list[psutil.Process]:
    """Python processes that run `stage` in this repository."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if (
                Path(command[0]).name.startswith("python")
                and f"stages.{stage}" in command
                and process.cwd() == str(repository.folder.resolve())
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, IndexError):
            continue
    return found


def kept(repository: Repository, stage: str, pattern: str) -> list[Path]:
    """What `stage` keeps for its next start."""
    return sorted((repository.folder / ".resume" / stage).glob(f"*/{pattern}"))


@pytest.mark.slow
def test_sigterm_is_one_line_keeps_the_checkpoint_and_ends_mlflows_run_as_killed(
    undisturbed: Repository, tmp_path: Path
) -> None:
    repository = cold(copied(undisturbed, tmp_path / "study"))
    repository.set_params(["lr=0.00321"])
    started = repository.start("dvc", "repro", "finetune")
    while len(kept(repository, "finetune", "checkpoint.*")) < 2:
        assert started.poll() is None, started.communicate()[0]
        time.sleep(0.02)
    (process,) = processes(repository, "finetune")
    process.terminate()
    said = started.communicate(timeout=60)[0]
    assert "\nfinetune: terminated\n" in said
    assert "exited with 143" in said
    assert "Traceback" not in said
    with closing(sqlite3.connect(repository.folder / "mlflow.db")) as database:
        statuses = database.execute("select status from runs where name = 'finetune' order by start_time").fetchall()
    assert statuses == [("FINISHED",), ("KILLED",)]
    assert "goes on at epoch " in repository.run("dvc", "repro", "finetune").stdout


@pytest.mark.slow
@pytest.mark.parametrize("everything", [False, True], ids=["the stage", "dvc too"])
def test_each_stage_that_trains_goes_on_after_a_kill_and_all_end_with_the_same_bytes(
    undisturbed: Repository, tmp_path: Path, warm_python: Path, everything: bool
) -> None:
    repository = Repository(tmp_path, warm_python)
    repository.set_params(LONGER)

    def three_trials() -> bool:
        return any(path.read_bytes().count(b"\n") >= 3 for path in kept(repository, "tune_head", "trials.jsonl"))

    def two_checkpoints_of(stage: str) -> Callable[[], bool]:
        return lambda: len(kept(repository, stage, "checkpoint.*")) >= 2

    kill_during(repository, "tune_head", three_trials, everything=everything)
    (journal,) = kept(repository, "tune_head", "trials.jsonl")
    found = journal.read_bytes()
    assert 3 <= found.count(b"\n") < 8
    kill_during(repository, "train_frozen", two_checkpoints_of("train_frozen"), everything=everything)
    assert journal.read_bytes().startswith(found[: found.rfind(b"\n") + 1])  # none of the finished trials ran again
    said = kill_during(repository, "finetune", two_checkpoints_of("finetune"), everything=everything)
    assert "goes on at epoch " in said[: said.index("stages.finetune")]
    assert not (repository.folder / "models/finetuned.pt").exists()
    assert "goes on at epoch " in repository.run("dvc", "repro").stdout
    assert repository.results() == undisturbed.results()
