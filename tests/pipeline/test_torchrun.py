"""`LAUNCHER="torchrun …" dvc repro`: fine-tuning in many processes, through the real stage, as a user would."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from tests.builders.repository import ROOT, TINY, WITHOUT_SCALING, Repository, copied, ran
from tests.pipeline.test_pipeline import declared

pytestmark = pytest.mark.slow

EPOCHS = 10
ARM_EPOCHS = 20  # until a network from scratch has learnt from 200 images
SETTINGS = (
    *(*TINY, "lr=0.01", f"finetune.epochs={EPOCHS}", "finetune.batch_size=50", *WITHOUT_SCALING),
    f"+scaling_arms.small_cnn={{resolution:16,epochs:{ARM_EPOCHS}}}",
)
OTHER = "lr=0.0101"  # as good a rate, under which DVC finds no result yet
BEGINS = "finetune: train the whole network on images, from backbone and trained head"
TWO = {"LAUNCHER": "torchrun --nproc-per-node 2", "THREADS": "1"}
SECONDS = 60.0  # until a run whose process was killed counts as hanging
OUTPUTS = ("models/finetuned.pt", "data/predictions/finetune.pt", "metrics/finetune.json", "plots/finetune/curves.csv")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A study by one process; tests leave it as it is."""
    repository = Repository(tmp_path_factory.mktemp("one"))
    repository.set_params(SETTINGS)
    repository.repro(THREADS="1")
    return repository


@dataclass(frozen=True)
class Finished:
    repository: Repository
    output: str


@pytest.fixture(scope="module")
def two(one: Repository, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Its fine-tuning by two processes, at almost the same learning rate; tests leave it as it is."""
    repository = copied(one, tmp_path_factory.mktemp("two") / "study")
    repository.set_params([OTHER])
    return Finished(repository, repository.run("dvc", "repro", **TWO).stdout)


def outputs(repository: Repository) -> dict[str, bytes]:
    return {name: (repository.folder / name).read_bytes() for name in OUTPUTS}


def accuracy(repository: Repository, metrics: str = "finetune") -> float:
    scores = json.loads((repository.folder / f"metrics/{metrics}.json").read_text())
    return float(scores["test"]["accuracy"])


def runs(repository: Repository) -> Counter[tuple[str, str]]:
    """How many MLflow runs of stages there are, by name and status."""
    database = sqlite3.connect(repository.folder / "mlflow.db")
    found = Counter(database.execute("select name, status from runs where name not like 'workspace%'").fetchall())
    database.close()
    return found


def test_another_launcher_reruns_nothing(one: Repository) -> None:
    assert one.repro(**TWO) == []


def test_two_processes_do_the_work_of_one_and_the_first_writes_it_down(one: Repository, two: Finished) -> None:
    assert ran(two.output) == ["finetune", "average_flips", "explain", "evidence", "export", "report"]
    assert runs(two.repository) - runs(one) == {
        (stage, "FINISHED"): 1 for stage in ("finetune", "average_flips", "explain", "evidence", "export", "report")
    }
    lines = [line.partition(":")[2] for line in two.output.splitlines() if line.startswith("finetune: epoch ")]
    assert [line.split()[1] for line in lines] == [f"{number}/{EPOCHS}:" for number in range(1, EPOCHS + 1)]
    record = {
        name: json.loads((study.folder / "data/runs/finetune.json").read_text())["facts"]
        for name, study in (("one", one), ("two", two.repository))
    }
    assert (record["one"]["processes"], record["two"]["processes"]) == (1, 2)
    assert accuracy(two.repository) > 0.5, "ten classes"
    assert accuracy(two.repository) == pytest.approx(accuracy(one), abs=0.2)


def test_two_processes_train_an_arm_from_scratch_and_write_each_file_once(one: Repository, tmp_path: Path) -> None:
    repository, stage, log = copied(one, tmp_path / "study"), "scaling_ablation@small_cnn", tmp_path / "log"
    repository.set_params(["+scaling_arms.small_cnn.learning_rate=0.0031"])
    log.mkdir()
    audited = {"AUDIT_LOG": str(log), "PYTHONPATH": str(ROOT / "tests/audit")}
    output = repository.run("dvc", "repro", **TWO, **audited).stdout
    assert ran(output) == [stage, "report"]
    names = (stage, f"{stage} seed 00", "report")
    assert runs(repository) - runs(one) == {(name, "FINISHED"): 1 for name in names}
    lines = [line for line in output.splitlines() if line.startswith("small_cnn, seed 0: epoch ")]
    epochs = [f"{number}/{ARM_EPOCHS}:" for number in range(1, ARM_EPOCHS + 1)]
    assert [line.split()[4] for line in lines] == epochs
    opened = map(json.loads, (log / f"{stage}.jsonl").read_text().splitlines())
    written = Counter(path for kind, path in opened if kind == "w")
    outputs = {str(repository.folder / path) for path in declared(stage, "outs", "metrics", "plots")}
    assert {path: written[path] for path in outputs} == dict.fromkeys(outputs, 1)
    scores = [accuracy(study, "scaling_ablation/small_cnn") for study in (one, repository)]
    assert min(scores) > 0.5, "ten classes"
    assert scores[0] == pytest.approx(scores[1], abs=0.2)


def members(repository: Repository) -> dict[int, psutil.Process]:
    """The processes of a fine-tuning in this repository, by rank."""
    found = {}
    for process in psutil.process_iter():
        try:
            if "stages.finetune" in process.cmdline() and process.cwd() == str(repository.folder.resolve()):
                found[int(process.environ()["RANK"])] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied, KeyError):
            continue
    return found


def checkpoints(repository: Repository) -> list[Path]:
    return sorted(repository.folder.glob(".resume/finetune/*/checkpoint.*.pt"))


def wait(started: "subprocess.Popen[str]", ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        assert started.poll() is None, started.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_run_by_name_and_the_next_one_goes_on(
    one: Repository, two: Finished, tmp_path: Path, rank: int
) -> None:
    """In the second epoch; it ends with the bytes of the run that nobody disturbed."""
    repository = copied(one, tmp_path / "study")
    repository.set_params([OTHER, "finetune.checkpoint_minutes=0"])  # a checkpoint after each of an epoch's 4 steps
    started = repository.start("dvc", "repro", **TWO)
    wait(started, lambda: bool(checkpoints(repository)) and int(checkpoints(repository)[-1].name.split(".")[1]) >= 7)
    members(repository)[rank].kill()
    output = started.communicate(timeout=SECONDS)[0]
    assert started.returncode != 0
    cause = output.partition("Root Cause")[2]
    assert f"rank      : {rank} " in cause
    assert "Signal 9 (SIGKILL)" in cause
    assert "failed to reproduce 'finetune'" in output
    assert members(repository) == {}
    assert not any((repository.folder / name).exists() for name in OUTPUTS)
    assert torch.load(checkpoints(repository)[-1], weights_only=True)["epoch"] < EPOCHS

    again = repository.run("dvc", "repro", **TWO).stdout
    assert ran(again) == ["finetune", "average_flips", "explain", "evidence", "export", "report"]
    (line,) = [line for line in again.splitlines() if line.startswith("goes on at epoch ")]
    assert line.endswith(" of 4")
    assert line.split()[4] != "1"
    assert outputs(repository) == outputs(two.repository)


def test_sigterm_to_the_launcher_is_one_line_and_mlflows_run_is_killed(one: Repository, tmp_path: Path) -> None:
    """torchrun sends it on to its processes: the first one speaks and tells MLflow, the other ends at once."""
    repository = copied(one, tmp_path / "study")
    repository.set_params([OTHER, "finetune.checkpoint_minutes=0"])
    started = repository.start("dvc", "repro", **TWO)
    wait(started, lambda: bool(checkpoints(repository)))
    members(repository)[0].parent().terminate()
    output = started.communicate(timeout=SECONDS)[0]
    said = [line for line in output.splitlines() if "terminated" in line and line.startswith("finetune")]
    assert said == ["finetune: terminated"]
    assert members(repository) == {}
    assert runs(repository) - runs(one) == {("finetune", "KILLED"): 1}


@pytest.mark.parametrize("launcher", ["torchrun --nproc-per-node 2", "python"])
def test_synchronised_batch_norm_on_the_cpu_is_one_clear_line_of_each_process(
    one: Repository, tmp_path: Path, launcher: str
) -> None:
    repository = copied(one, tmp_path / "study")
    repository.set_params(["finetune.sync_batch_norm=true"])
    started = repository.start("dvc", "repro", LAUNCHER=launcher, THREADS="1")
    output = started.communicate(timeout=300)[0]
    assert started.returncode != 0
    said = {line for line in output.splitlines() if line.startswith("finetune")} - {BEGINS}
    line = "finetune.sync_batch_norm: true needs a GPU, and this runs on cpu; allowed here: false"
    ended = {f"finetune: terminated{when}" for when in ("", " while it was starting")}  # by torchrun, after the other
    assert {f"finetune: {line}", f"finetune (process 1): {line}"} & said
    assert said - ended <= {f"finetune: {line}", f"finetune (process 1): {line}"}
    assert output.count("Traceback") == launcher.count("torchrun"), "the launcher's own"


def test_two_machines_are_two_processes(one: Repository, two: Finished, tmp_path: Path) -> None:
    """The first runs `dvc repro`; the second the stage alone, with the same files, and writes none."""
    nodes = [copied(one, tmp_path / name) for name in ("first", "second")]
    for node in nodes:
        node.set_params([OTHER])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    launchers = [
        f"torchrun --nnodes 2 --node-rank {rank} --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port}"
        for rank in range(2)
    ]
    for name in OUTPUTS:
        (nodes[1].folder / name).unlink()
    first = nodes[0].start("dvc", "repro", LAUNCHER=launchers[0], THREADS="1")
    second = nodes[1].start(*launchers[1].split(), "-m", "stages.finetune", THREADS="1")
    try:
        output = first.communicate(timeout=300)[0]
        assert first.returncode == 0, output
        other = second.communicate(timeout=SECONDS)[0]
        assert second.returncode == 0, other
    finally:
        for process in (first, second):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert ran(output) == ["finetune", "average_flips", "explain", "evidence", "export", "report"]
    assert outputs(nodes[0]) == outputs(two.repository)
    assert "epoch" not in other
    assert not any((nodes[1].folder / name).exists() for name in OUTPUTS)
    assert runs(nodes[1]) == runs(one)
