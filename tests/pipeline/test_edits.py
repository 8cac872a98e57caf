"""Values, code and inputs edited while a stage runs: never a result under the wrong cause, never an hour lost unsaid.

Each edit is made after the first epoch and before the last, which each test asserts, else it fails.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.builders.repository import TINY, Repository, copied, ran
from tests.pipeline.test_pipeline import declared

ARM = "scaling_ablation@width"
SETTINGS = (
    *(*TINY, "tune_head.trials=6", "tune_head.epochs=60", "train_frozen.epochs=100", "finetune.epochs=6"),
    *("finetune.checkpoint_minutes=100.0", "scaling.checkpoint_minutes=100.0", "scaling_ablation.epochs=8"),
    *("scaling_search.tolerance=0.2", "scaling_search.max_multiply_adds=3060000.0", "scaling_search.epochs=5"),
    *("~scaling_arms.baseline", "~scaling_arms.compound", "~compared_backbones", "+compared_backbones={}"),
)
ONE = {"THREADS": "1", "OMP_NUM_THREADS": "1"}
TWO = {"LAUNCHER": "torchrun --nproc-per-node 2", "THREADS": "1"}
WARNING = "put it back before the stage ends, or its result will not count"
PUT_BACK = "all is again as it was at the start; its result counts"
REFUSAL = "so nothing was written: put it back and run this again, and this run counts (what was trained is kept)"
# Of each stage: a value, a file of code and an input to edit.
TARGETS = {
    "tune_head": ("  trials: 6", "src/transfer/head_search.py", "data/features/val.pt"),
    "train_frozen": ("  batch_size: 128", "src/transfer/head_training.py", "models/best_head.json"),
    "finetune": ("lr: 0.003", "src/transfer/finetuning.py", "data/images/val.pt"),
    "scaling_search": ("  tolerance: 0.2", "src/scaling/grid.py", "data/images/val.pt"),
    ARM: ("  width: {}", "src/scaling/arms.py", "models/coefficients.json"),
}
KINDS = ("value", "code", "input")
# Every stage's value, and what else it was given where another stage has no like of it; all kinds of the longest.
CASES = (
    *(("finetune", kind) for kind in KINDS),
    *(("tune_head", "value"), ("tune_head", "code"), ("train_frozen", "value"), ("train_frozen", "input")),
    *(("scaling_search", "value"), ("scaling_search", "code"), (ARM, "value"), (ARM, "input")),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> Repository:
    """A finished and committed study that nobody disturbed, by one thread; tests leave it as it is."""
    repository = Repository(tmp_path_factory.mktemp("study"), warm_python)
    repository.set_params(SETTINGS)
    repository.repro(ARM, "finetune", **ONE)
    repository.commit()
    return repository


@pytest.fixture(scope="module")
def two(study: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The same by two processes where a stage can."""
    repository = copied(study, tmp_path_factory.mktemp("two") / "study")
    repository.run("dvc", "repro", "-f", "-s", "finetune", ARM, **TWO)
    return repository


@dataclass
class Edit:
    """One edit of a file below `folder`, which can be taken back, written into the file as an editor or `>>` would."""

    folder: Path
    stage: str
    kind: str
    before: bytes = field(init=False)

    @property
    def path(self) -> Path:
        _, code, given = TARGETS[self.stage]
        return self.folder / {"value": "params.yaml", "code": code, "input": given}[self.kind]

    def make(self) -> None:
        self.before = self.path.read_bytes()
        line = TARGETS[self.stage][0]
        changed = {"lr: 0.003": "lr: 0.004", "  width: {}": "  width: {dropout: 0.1}"}.get(line, f"{line}1")
        edited = self.before.replace(line.encode(), changed.encode()) if self.kind == "value" else self.before + b"\n"
        assert edited != self.before
        self.path.write_bytes(edited)

    def take_back(self) -> None:
        self.path.write_bytes(self.before)


class Run:
    """A command of DVC's that runs `stage`, and what it says meanwhile."""

    def __init__(self, repository: Repository, stage: str, *command: str, **extra: str) -> None:
        self.repository, self.stage, self.said = repository, stage, ""
        self.process = repository.start(*command, **extra)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said += line

    def wait(self, ready: Callable[[], object]) -> None:
        deadline = time.monotonic() + 300
        while not ready():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)

    def end(self) -> int:
        self.process.wait(300)
        self._reader.join()
        return self.process.returncode

    def edit(self, edit: Edit) -> None:
        """Make it after the first epoch, and wait until the stage says so, before the last."""
        self.wait(lambda: epochs(self.repository, self.stage) > 0)
        edit.make()
        self.wait(lambda: WARNING in self.said)
        assert 0 < epochs(self.repository, self.stage) < ALL[self.stage], "the edit came too late"

    def put_back(self, edit: Edit) -> None:
        edit.take_back()
        self.wait(lambda: PUT_BACK in self.said)
        assert epochs(self.repository, self.stage) < ALL[self.stage], "the edit was taken back too late"


ALL = {"tune_head": 6, "train_frozen": 100, "finetune": 6, "scaling_search": 10, ARM: 8}  # epochs; of tune_head trials


def epochs(repository: Repository, stage: str) -> int:
    """How many epochs the newest state of `stage` has behind it (trials, of tune_head)."""
    home = repository.folder / ".resume" / stage
    newest = max(home.glob("*/identity.json"), key=lambda path: path.stat().st_mtime_ns, default=home / "x").parent
    journals = [path.read_bytes().count(b"\n") for path in newest.glob("*.jsonl")]
    numbers = [int(path.name.split(".")[1]) for path in newest.rglob("checkpoint.*.pt")]
    if stage == "tune_head":
        return sum(journals)
    done = len(list(newest.glob("seed_*.pt"))) * ALL[stage] + sum(journals) * ALL[stage] // 2  # of two candidates
    return done + max(numbers, default=0)


def outputs(repository: Repository, stage: str) -> dict[str, bytes]:
    """What `stage` left, but for the record of how it ran."""
    paths = (repository.folder / path for path in sorted(declared(stage, "outs", "metrics", "plots")))
    return {path.name: path.read_bytes() for path in paths if path.exists() and "data/runs" not in str(path)}


def status(repository: Repository, stage: str) -> list[str]:
    """Of the MLflow runs that `stage` made itself, oldest first."""
    database = sqlite3.connect(repository.folder / "mlflow.db")
    name = f"select status from runs where name = '{stage}' or name like '{stage} hot' order by start_time"
    found = [row[0] for row in database.execute(name)]
    database.close()
    return found


def again(stage: str) -> tuple[str, ...]:
    """DVC's options to run this stage alone, whatever it has in its caches."""
    return ("--force", "--single-item", stage)


def disturb(repository: Repository, stage: str, edit: Edit, *command: str, **extra: str) -> None:
    """Not put back, the run ends with a line and leaves nothing; put back in time, it counts.

    In time: every stage's value, and all kinds of finetune.
    """
    undisturbed, lock = outputs(repository, stage), repository.folder / "dvc.lock"
    if edit.kind == "value" or stage == "finetune":
        run = Run(repository, stage, *command, **extra)
        run.edit(edit)
        run.put_back(edit)
        assert run.end() == 0, run.said
        assert outputs(repository, stage) == undisturbed
        assert status(repository, stage)[-1] == "FINISHED"
        shutil.rmtree(repository.folder / ".resume")
    filed = lock.read_bytes()
    run = Run(repository, stage, *command, **extra)
    run.edit(edit)
    assert run.end() != 0, run.said
    (line,) = [line for line in run.said.splitlines() if line.endswith(REFUSAL)]
    assert str(edit.path.name) in line or edit.kind == "value"
    assert run.said.count("Traceback (most recent") == ("LAUNCHER" in extra), "but for the launcher's own"
    assert outputs(repository, stage) == {}
    assert lock.read_bytes() == filed
    assert status(repository, stage)[-1] == "FAILED"


def count_after_put_back(repository: Repository, stage: str, expected: dict[str, bytes], **extra: str) -> None:
    """The refused run counts when it is run again: not one epoch is trained."""
    before = epochs(repository, stage)
    said = repository.run("dvc", "repro", *again(stage), **extra).stdout
    assert epochs(repository, stage) == before
    assert not re.search(r": epoch \d+/", said)
    assert outputs(repository, stage) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kind"), CASES)
def test_an_edit_of_what_a_training_stage_was_given_is_said_at_once_and_never_filed_as_its_cause(
    study: Repository, tmp_path: Path, stage: str, kind: str
) -> None:
    repository = copied(study, tmp_path / "study")
    expected = outputs(repository, stage)
    edit = Edit(repository.folder, stage, kind)
    disturb(repository, stage, edit, "dvc", "repro", *again(stage), **ONE)
    edit.take_back()
    count_after_put_back(repository, stage, expected, **ONE)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kind"), [("finetune", "value"), (ARM, "input")])
def test_of_two_processes_the_first_decides_and_both_end(
    two: Repository, tmp_path: Path, stage: str, kind: str
) -> None:
    repository = copied(two, tmp_path / "study")
    expected = outputs(repository, stage)
    edit = Edit(repository.folder, stage, kind)
    disturb(repository, stage, edit, "dvc", "repro", *again(stage), **TWO)
    edit.take_back()
    count_after_put_back(repository, stage, expected, **TWO)


def experiments(repository: Repository) -> str:
    return repository.run("dvc", "exp", "list", "--name-only").stdout


@pytest.mark.slow
def test_an_experiment_that_was_disturbed_is_not_made(study: Repository, tmp_path: Path) -> None:
    repository = copied(study, tmp_path / "study")
    edit = Edit(repository.folder, "finetune", "value")
    run = Run(repository, "finetune", "dvc", "exp", "run", "-n", "hot", *again("finetune"), **ONE)
    run.edit(edit)
    assert run.end() != 0
    assert REFUSAL in run.said
    assert experiments(repository) == ""
    edit.take_back()
    said = repository.run("dvc", "exp", "run", "-n", "hot", *again("finetune"), **ONE).stdout
    assert "training was finished before" in said
    assert outputs(repository, "finetune") == outputs(study, "finetune")


def copy_of(repository: Repository) -> Path:
    """The folder in which DVC runs an experiment beside the workspace."""
    (found,) = (repository.folder / ".dvc/tmp/exps").rglob("params.yaml")
    return found.parent


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["code", "input"])
def test_an_experiment_in_a_copy_is_disturbed_by_edits_there_and_by_none_of_the_workspace(
    study: Repository, tmp_path: Path, kind: str
) -> None:
    repository = copied(study, tmp_path / "study")
    command = ("dvc", "exp", "run", "--temp", "-n", "hot", *again("finetune"))
    run = Run(repository, "finetune", *command, **ONE)
    run.wait(lambda: epochs(repository, "finetune") > 0)
    Edit(repository.folder, "finetune", kind).make()  # of the workspace
    there = Edit(copy_of(repository), "finetune", kind)
    run.edit(there)
    assert run.end() != 0
    assert REFUSAL in run.said
    assert experiments(repository) == ""
    repository.git("checkout", "--", ".")
    run = Run(repository, "finetune", *command, **ONE)
    assert run.end() == 0, run.said
    assert experiments(repository) == "hot\n"
    if kind == "input":
        return  # git does not know it: the workspace's, edited, went to the copy
    assert "training was finished before" in run.said


@pytest.mark.slow
def test_a_queued_experiment_that_was_disturbed_fails_and_counts_when_queued_again(
    study: Repository, tmp_path: Path
) -> None:
    repository = copied(study, tmp_path / "study")
    for name, disturbed in (("hot", True), ("again", False)):
        repository.run("dvc", "exp", "run", "--queue", "-n", name, *again("finetune"), **ONE)
        start_queue(repository)
        try:
            wait(lambda: epochs(repository, "finetune") > 0)
            if disturbed:
                Edit(copy_of(repository), "finetune", "value").make()
                assert 0 < epochs(repository, "finetune") < ALL["finetune"], "the edit came too late"
            wait(lambda name=name: end_in_queue(repository, name))
        finally:
            repository.run("dvc", "queue", "stop", "--kill")
        assert end_in_queue(repository, name) == ("Failed" if disturbed else "Success")
        said = repository.run("dvc", "queue", "logs", name).stdout
        assert (WARNING in said, REFUSAL in said) == (disturbed, disturbed)
        assert ("training was finished before" in said) == (not disturbed)
    assert experiments(repository) == "again\n"


def start_queue(repository: Repository) -> None:
    """Its worker keeps the command's output open until it ends, so nobody may wait for that."""
    quiet = subprocess.DEVNULL
    command = ("dvc", "queue", "start", "-j", "1")
    subprocess.run(
        command, cwd=repository.folder, env=repository.environment(**ONE), stdout=quiet, stderr=quiet, check=True
    )


def end_in_queue(repository: Repository, name: str) -> str:
    """How the experiment of this name ended, or nothing while it has not.

    As it ends, DVC may list it twice for a moment, running and ended.
    """
    table = [line.split() for line in repository.run("dvc", "queue", "status").stdout.splitlines()]
    return next((line[-1] for line in table if name in line and line[-1] in ("Failed", "Success")), "")


def wait(ready: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_experiment_that_is_turned_away_does_not_lend_the_first_its_value(
    study: Repository, tmp_path: Path
) -> None:
    """It says that DVC is busy, but has overwritten params.yaml by then."""
    repository = copied(study, tmp_path / "study")
    repository.set_params([f"finetune.epochs={LONG}"])
    first = ("dvc", "exp", "run", "-n", "hot", "-S", "lr=0.0041", "finetune")
    second = ("dvc", "exp", "run", "-n", "second", "-S", "lr=0.0042", "finetune")
    run = Run(repository, "finetune", *first, **ONE)
    run.wait(lambda: epochs(repository, "finetune") > 0)
    turned_away = subprocess.run(
        second, cwd=repository.folder, env=repository.environment(), capture_output=True, text=True
    )
    assert "busy" in turned_away.stderr
    assert epochs(repository, "finetune") < LONG, "the edit came too late"
    assert run.end() != 0
    assert f"lr was 0.0041 when this stage began and is 0.0042 now, {REFUSAL}" in run.said
    assert "training was finished before" not in repository.run(*second, **ONE).stdout
    assert "training was finished before" in repository.run(*first, **ONE).stdout
    locks = [repository.git("show", f"{ref}:dvc.lock") for ref in refs(repository)]
    assert {re.findall(r"\n +lr: (\S+)", lock)[0] for lock in locks} == {"0.0041", "0.0042"}
    assert len({models(lock) for lock in locks}) == 2


LONG = 25  # epochs: until DVC has said that it is busy


def refs(repository: Repository) -> list[str]:
    found = repository.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [name for name in found if name.endswith(("/hot", "/second"))]


def models(lock: str) -> str:
    return lock.partition("- path: models/finetuned.pt")[2].split("md5: ")[1].split()[0]


@pytest.mark.slow
def test_what_a_refused_run_trained_outlives_kills_of_what_runs_next(study: Repository, tmp_path: Path) -> None:
    repository = copied(study, tmp_path / "study")
    command = ("dvc", "repro", *again("finetune"))
    edit = Edit(repository.folder, "finetune", "value")
    run = Run(repository, "finetune", *command, **ONE)
    run.edit(edit)
    assert run.end() != 0
    started = Run(repository, "finetune", *command, **ONE)  # under the new value
    started.wait(lambda: 1 < epochs(repository, "finetune") < ALL["finetune"] and states(repository) == 2)
    os.killpg(started.process.pid, signal.SIGKILL)
    started.end()
    assert "starts over, and keeps the unfinished run; since then changed: lr" in started.said
    edit.take_back()
    said = repository.run(*command, **ONE).stdout
    assert "training was finished before" in said
    assert outputs(repository, "finetune") == outputs(study, "finetune")
    edit.make()
    said = repository.run(*command, **ONE).stdout
    assert "goes on at epoch " in said
    assert states(repository) == 2


def states(repository: Repository) -> int:
    return len(list(repository.folder.glob(".resume/finetune/*/identity.json")))


@pytest.fixture
def finished(sample: Repository, tmp_path: Path) -> Repository:
    """A copy of the sample in which a stage can run without DVC."""
    return copied(sample, tmp_path / "study")


EDITS_AT_IMPORT = {
    "params.yaml": (".replace('neighbours: 20', 'neighbours: 21')", "baseline.neighbours was 20 when this stage began"),
    "src/transfer/baselines.py": (
        " + '# edited'",
        "src/transfer/baselines.py changed while this stage was starting: run it again",
    ),
}


@pytest.mark.parametrize("path", EDITS_AT_IMPORT)
def test_what_is_edited_while_a_stage_imports_its_code_is_noticed(finished: Repository, path: str) -> None:
    """The note of what a stage is given is older than the first import of anything of src."""
    edit, line = EDITS_AT_IMPORT[path]
    script = f"from pathlib import Path\npath = Path({path!r})\npath.write_text(path.read_text(){edit})\n"
    (finished.folder / "src/__init__.py").write_text(script)
    before = outputs(finished, "baseline")
    done = subprocess.run(
        ("python", "-m", "stages.baseline"),
        cwd=finished.folder,
        env=finished.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == "baseline: classify the cached features without any training\n"
    assert done.stderr.splitlines()[-1].startswith(f"baseline: {line}")
    assert outputs(finished, "baseline") == before


def test_the_report_refuses_a_record_that_was_made_with_other_values(finished: Repository) -> None:
    """As DVC would file it where params.yaml changes between a stage's exit and DVC's look at it."""
    finished.set_params(["lr=0.0044"])
    lock = finished.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("lr: 0.003", "lr: 0.0044", 1))
    started = finished.start("dvc", "repro", "report")
    said = started.communicate()[0]
    assert started.returncode != 0
    assert ran(said) == ["report"]
    assert "report: finetune ran with lr 0.003, and params.yaml has 0.0044: `dvc repro -f -s finetune` makes it" in said
