"""Whatever ends `finetune` before its time, the next run goes on and ends with the bytes of an undisturbed one.

The stage's command runs without DVC here, but with what DVC does around it: DVC_ROOT, and no outputs at its start. A
Python that is warm already runs it, except where what surrounds the process matters: its limits, its mounts, Ctrl-C.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from src.base import artifacts
from src.interface import console
from tests.builders.repository import TINY, Repository, cold
from tests.pipeline.test_pipeline import declared

KILLS = 20
EPOCHS, STEPS = 4, 4  # of 200 images in batches of 50, with a checkpoint after each step
SETTINGS = (
    *(*TINY, f"finetune.epochs={EPOCHS}", "finetune.batch_size=50", "finetune.mixup=0.2"),
    "finetune.checkpoint_minutes=0",
)
STAGE = ("python", "-m", "stages.finetune")
BEGINS = "finetune: train the whole network on images, from backbone and trained head"
DVC = ("dvc", "repro", "--single-item", "--force", "finetune")
OUTPUTS = declared("finetune", "outs", "metrics", "plots")
RECORD = "data/runs/finetune.json"  # seconds and the like, which differ
# A disk that syncs 40 MB/s, so that a checkpoint's 20 MB are being written for a good part of the time on any machine.
# Python imports a sitecustomize on PYTHONPATH before anything else.
SLOW_DISK = """
import os, time
sync = os.fsync
def fsync(file):
    time.sleep(os.fstat(file).st_size / 40e6)
    sync(file)
os.fsync = fsync
"""
# A disk of 40 MB, on which two checkpoints have room and a third has not, then one of 400; it goes with the shell.
SMALL_DISK = """
mount -t tmpfs -o size=40m tmpfs .resume || exit
python -m stages.finetune > full.out 2> full.err
echo $? > full.status
sha256sum .resume/finetune/*/*checkpoint* > full.files
mount -o remount,size=400m .resume
exec python -m stages.finetune
"""


class Study:
    """A clone in which everything before `finetune` has run, and `finetune` once, undisturbed, on a slow disk.

    Attributes:
        cold: the same clone, whose stages a new Python runs.
        seconds: that it took from when it had its folder in .resume, just before its first step, to its end.
    """

    def __init__(self, folder: Path, python: Path, *settings: str) -> None:
        (folder / "clone").mkdir()
        (folder / "slow").mkdir()
        (folder / "slow/sitecustomize.py").write_text(SLOW_DISK)
        self.repository = Repository(folder / "clone", python)
        self.cold = cold(self.repository)
        self.home = self.repository.folder / ".resume/finetune"
        self.environment = {"THREADS": "1", "OMP_NUM_THREADS": "1", "DVC_ROOT": str(self.repository.folder)}
        self.slow = {"PYTHONPATH": str(folder / "slow")}
        self.repository.set_params((*SETTINGS, *settings))
        self.repository.repro("train_frozen", **self.environment)
        process = self.start()
        began = time.monotonic()
        said, _ = process.communicate()
        assert process.returncode == 0, said
        self.seconds = time.monotonic() - began
        self.undisturbed = self.results()

    def start(
        self, command: tuple[str, ...] = STAGE, *, checkpoints: int = 0, new: bool = False
    ) -> "subprocess.Popen[str]":
        """Start the stage afresh, in a new Python or a warm one; it has its folder and wrote so many checkpoints."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.delete_outputs()
        process = (self.cold if new else self.repository).start(*command, **self.environment, **self.slow)
        wanted = f"*/checkpoint.{checkpoints:08d}.*" if checkpoints else "*/identity.json"
        wait(process, lambda: any(self.home.glob(wanted)))
        return process

    def finish(self, command: tuple[str, ...] = STAGE) -> str:
        """Run the stage, from where it was, to its end; what it said."""
        self.delete_outputs()
        done = self.repository.run(*command, **self.environment)
        return done.stdout + done.stderr

    def delete_outputs(self) -> None:
        for path in OUTPUTS:
            (self.repository.folder / path).unlink(missing_ok=True)

    def results(self) -> dict[str, bytes]:
        return {path: (self.repository.folder / path).read_bytes() for path in sorted(OUTPUTS - {RECORD})}

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.home.glob("*/checkpoint.*"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> Study:
    return Study(tmp_path_factory.mktemp("finetune"), warm_python)


def wait(process: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill(process: "subprocess.Popen[str]", seconds: float = 0.0) -> None:
    """kill -9 the process and all that it started, after so many seconds, unless it ends before."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()  # returns when all of them are gone


def next_step(checkpoint: Path) -> tuple[int, int]:
    """Epoch and step, both from 1, of the step after `checkpoint`."""
    state = artifacts.load(checkpoint)
    return state["epoch"], state["record"]["step"] + 1


def announcement(step: tuple[int, int]) -> str:
    """What the stage says when it goes on with `step`."""
    if step[0] > EPOCHS:
        return "training was finished before"
    return f"goes on at epoch {step[0]} of {EPOCHS}, step {step[1]} of {STEPS}"


@pytest.mark.slow
def test_killed_at_20_random_moments_it_ends_each_time_with_the_same_bytes(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in each twentieth of the time from just before the first step to the stage's end; two kill DVC, too."""
    draws = random.Random(0)
    mid_epoch = writing = 0
    for number in range(1, KILLS + 1):
        command, moment = STAGE if number % 7 else DVC, (number - draws.random()) / KILLS * study.seconds
        kill(study.start(command), moment)
        found = study.checkpoints()
        torn = bool(list(study.home.glob("*/.checkpoint.*.tmp")))
        step = next_step(found[-1]) if found else (1, 1)
        said = study.finish(command)
        line = announcement(step) if found else "starts at epoch 1"
        with capsys.disabled():
            console.say(
                f"kill {number:2} of {command[0]} at {moment:5.2f} s of {study.seconds:.2f}: {line}"
                f"{'; mid-epoch' * (step[1] > 1)}{'; while a checkpoint was being written' * torn}"
            )
        assert line in said if found else "goes on" not in said
        assert study.results() == study.undisturbed
        mid_epoch, writing = mid_epoch + (step[1] > 1), writing + torn
    assert mid_epoch >= 5
    assert writing >= 3


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut to half", "one bit"])
def test_a_damaged_checkpoint_is_left_out_and_the_one_before_it_leads_to_the_same_bytes(
    study: Study, damage: str
) -> None:
    kill(study.start(checkpoints=3))
    before, newest = study.checkpoints()[-2:]
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    newest.write_bytes(content[:middle] if damage == "cut to half" else content)
    step = next_step(before)
    said = study.finish()
    assert f"{newest} is damaged and left out" in said
    assert announcement(step) in said
    assert study.results() == study.undisturbed


def complaint(text: str) -> str:
    """The one line that is said, what begins and progress apart."""
    (line,) = [line for line in text.splitlines() if "images/s" not in line and line != BEGINS]
    return line


def may_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "x", "/mnt"]
    return bool(shutil.which("unshare")) and not subprocess.run(command, capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.skipif(not may_mount(), reason="may not mount a file system of its own")
def test_a_full_disk_is_one_line_and_the_checkpoints_before_it_lead_to_the_same_bytes(study: Study) -> None:
    shutil.rmtree(study.home, ignore_errors=True)
    study.delete_outputs()
    said = study.cold.run("unshare", "-rm", "sh", "-c", SMALL_DISK, **study.environment).stdout
    status, line, files = (
        (study.repository.folder / f"full.{name}").read_text() for name in ("status", "err", "files")
    )
    assert status == "2\n"
    assert complaint(line).endswith(": No space left on device")
    assert f"finetune: {study.home.resolve()}/" in line
    assert "/checkpoint.00000003." in line
    assert [Path(name).name.split(".")[:3] for _, name in map(str.split, files.splitlines())] == [
        ["checkpoint", f"{number:08d}", digest[:16]]
        for number, (digest, _) in enumerate(map(str.split, files.splitlines()), start=1)
    ]
    assert announcement((1, 3)) in said
    assert study.results() == study.undisturbed


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits a process that runs")
def test_a_file_that_may_not_grow_is_one_line_and_the_next_run_goes_on(study: Study) -> None:
    """As a full disk, where nothing may be mounted: a limit of 10 MB on the size of files, set on the running stage."""
    process = study.start(checkpoints=1, new=True)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))
    said, _ = process.communicate()
    assert process.returncode == 2
    assert complaint(said).endswith(": File too large")
    assert f"finetune: {study.home.resolve()}/" in said
    step = next_step(study.checkpoints()[-1])
    assert announcement(step) in study.finish()
    assert study.results() == study.undisturbed


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_next_run_goes_on(study: Study) -> None:
    process = study.start(checkpoints=2, new=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130
    assert complaint(said) == "finetune: interrupted"
    step = next_step(study.checkpoints()[-1])
    assert announcement(step) in study.finish()
    assert study.results() == study.undisturbed


@pytest.mark.slow
def test_a_kill_after_the_last_file_and_before_dvc_noted_it_costs_no_step(study: Study) -> None:
    study.start().communicate()
    said = study.finish(DVC)
    assert announcement((EPOCHS + 1, 1)) in said
    assert "epoch 1/" not in said
    assert study.results() == study.undisturbed


@pytest.mark.slow
def test_a_kill_within_a_repeat_costs_nothing_of_the_model_and_leads_to_the_same_bytes(
    tmp_path: Path, warm_python: Path
) -> None:
    repeated = Study(tmp_path, warm_python, "finetune.repeats=3")
    process = repeated.start()
    wait(process, lambda: any(repeated.home.glob("*/seed_2/checkpoint.00000003.*")))
    kill(process)
    said = repeated.finish()
    assert announcement((EPOCHS + 1, 1)) in said, "of the model"
    assert "seed 1: epoch" not in said
    assert "finetune, seed 2: epoch 4/4" in said
    assert "goes on at epoch" in said
    assert repeated.results() == repeated.undisturbed
    rows = repeated.undisturbed["plots/finetune/seeds.csv"].decode().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["seed", "0", "1", "2"]
