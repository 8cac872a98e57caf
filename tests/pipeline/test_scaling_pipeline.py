"""The scaling study's stages: killed half-way, and under settings that cannot be met."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders.repository import ROOT, TINY, Repository, copied
from tests.pipeline.test_pipeline import declared

ONE_THREAD = {"THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone with what the arms of the tiny study start from; tests leave it as it is."""
    repository = Repository(tmp_path_factory.mktemp("study"))
    repository.set_params(TINY)
    repository.repro("scaling_search")
    return repository


@dataclass(frozen=True)
class Stage:
    """A stage's command, run without DVC, but with no outputs at its start, as under DVC."""

    repository: Repository
    name: str

    @property
    def command(self) -> tuple[str, ...]:
        family, _, member = self.name.partition("@")
        return ("python", "-m", f"stages.{family}", *filter(None, [member]))

    @property
    def outputs(self) -> set[str]:
        return declared(self.name, "outs", "metrics", "plots")

    def kept(self, pattern: str) -> list[Path]:
        """What it keeps for its next start."""
        return sorted((self.repository.folder / ".resume" / self.name).glob(f"*/{pattern}"))

    def kill(self, ready: Callable[[], object]) -> None:
        """Start it from the beginning, and kill -9 it when it is `ready`."""
        shutil.rmtree(self.repository.folder / ".resume")
        self._delete_outputs()
        started = self.repository.start(*self.command, **ONE_THREAD)
        deadline = time.monotonic() + 300
        while not ready():
            assert started.poll() is None, started.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
        assert not any((self.repository.folder / path).exists() for path in self.outputs)

    def finish(self, **extra: str) -> str:
        """Run it, from where it was, to its end; what it said."""
        self._delete_outputs()
        return self.repository.run(*self.command, **ONE_THREAD, **extra).stdout

    def results(self) -> dict[str, bytes]:
        """Its outputs, but for the record of its speed."""
        return {
            path: (self.repository.folder / path).read_bytes()
            for path in self.outputs
            if not path.startswith("data/runs")
        }

    def _delete_outputs(self) -> None:
        for path in self.outputs:
            (self.repository.folder / path).unlink(missing_ok=True)


@pytest.mark.slow
def test_a_killed_arm_goes_on_with_the_seed_that_trained_and_ends_with_the_same_bytes(
    study: Repository, tmp_path: Path
) -> None:
    repository = copied(study, tmp_path / "study")
    repository.set_params(["scaling_ablation.seeds=[0,1]", "scaling_ablation.epochs=3", "scaling.checkpoint_minutes=0"])
    stage = Stage(repository, "scaling_ablation@baseline")
    stage.finish()
    undisturbed = stage.results()
    stage.kill(lambda: stage.kept("seed_0.pt") and stage.kept("seed_1/checkpoint.*"))
    assert not stage.kept("seed_1.pt")
    (first,) = stage.kept("seed_0.pt")
    before = first.stat()
    said = stage.finish()
    assert "goes on at epoch " in said
    assert "seed 1: epoch 3/3" in said
    assert "seed 0" not in said
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(undisturbed) == 3
    assert stage.results() == undisturbed


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_candidate_that_trained_and_ends_with_the_same_bytes(
    study: Repository, tmp_path: Path
) -> None:
    repository = copied(study, tmp_path / "study")
    settings = ["scaling_search.tolerance=0.2", "scaling_search.max_multiply_adds=3060000.0"]
    repository.set_params([*settings, "scaling.checkpoint_minutes=0", "scaling_search.epochs=2"])
    stage = Stage(repository, "scaling_search")
    stage.finish()
    undisturbed = stage.results()
    assert undisturbed["plots/scaling_search/candidates.csv"].count(b"\n") == 1 + 2
    stage.kill(lambda: stage.kept("candidates.jsonl") and stage.kept("candidate_01/checkpoint.*"))
    (journal,) = stage.kept("candidates.jsonl")
    finished = journal.read_bytes()
    assert finished.count(b"\n") == 1
    audit = {"AUDIT_LOG": str(tmp_path), "DVC_STAGE": stage.name, "PYTHONPATH": str(ROOT / "tests/audit")}
    assert "goes on at epoch " in stage.finish(**audit)
    assert journal.read_bytes().startswith(finished)
    opened = (tmp_path / f"{stage.name}.jsonl").read_text()
    assert "/candidate_01/checkpoint." in opened
    assert "/candidate_00/" not in opened
    assert len(undisturbed) == 3
    assert stage.results() == undisturbed


def refusal(repository: Repository, stage: str, settings: list[str]) -> str:
    """What `stage` says under settings that it refuses: one line; it leaves nothing behind."""
    before = files(repository)
    repository.set_params(settings)
    done = subprocess.run(
        Stage(repository, stage).command,
        cwd=repository.folder,
        env=repository.environment(**ONE_THREAD),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done
    assert len(done.stdout.splitlines()) <= 1, "what begins, where its values are allowed each by itself"
    assert files(repository) == before
    (line,) = done.stderr.splitlines()
    return line


def files(repository: Repository) -> dict[Path, int]:
    """When each result, or state of a training, was written."""
    folders = (repository.folder / name for name in (".resume", "data", "metrics", "models", "plots", "reports"))
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()}


def test_an_arm_that_is_no_axis_and_no_backbone_is_refused_in_one_line(tmp_path: Path) -> None:
    line = refusal(Repository(tmp_path), "scaling_ablation@efficientnet_b9", ["+scaling_arms.efficientnet_b9={}"])
    assert line.startswith("scaling_ablation: scaling_arms.efficientnet_b9: unknown; allowed: baseline, depth, width, ")


REFUSALS = {
    "an arm that params lack": ("scaling_ablation@depth", [], "depth: allowed: one of scaling_arms in params.yaml ("),
    "an empty grid": (
        "scaling_search",
        ["scaling_search.step=0.3", "scaling_search.tolerance=0.05"],
        "scaling_search.tolerance: 0.05 leaves no candidate on the grid of step 0.3; "
        "nearest (alpha, beta, gamma) by their cost over the base's, of those that scale two axes or all: (1.3, ",
    ),
    "a base too small for the strides": (
        "scaling_search",
        ["scaling.base_resolution=31"],
        "scaling.base_resolution: 31 is too small; allowed: 32 or more, ",
    ),
    "an arm too small for the strides": (
        "scaling_ablation@resnet50",
        ["+scaling_arms.resnet50={resolution:16}"],
        "scaling_arms.resnet50.resolution: 16 is too small; allowed: 32 or more, ",
    ),
    "a budget below the baseline": (
        "scaling_ablation@width",
        ["scaling_ablation.match=multiply_adds", "scaling_ablation.budget=0.5"],
        "scaling_ablation.budget: 0.5 is not allowed; allowed: a number > 1 ",
    ),
    "a budget that not all arms can meet": (
        "scaling_ablation@baseline",
        ["scaling_ablation.match=multiply_adds", "scaling_ablation.budget=3.0"],
        "scaling_ablation.budget: 3.0 cannot be met within 2 % by ",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_in_one_line_before_anything_starts(
    study: Repository, tmp_path: Path, case: str
) -> None:
    stage, settings, line = REFUSALS[case]
    assert refusal(copied(study, tmp_path / "study"), stage, settings).startswith(f"{stage.partition('@')[0]}: {line}")
