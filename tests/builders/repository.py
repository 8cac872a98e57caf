"""A clone of this project to run the pipeline in, as a user would."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from recipes.run import overrides

ROOT = Path(__file__).parents[2]
IDENTITY = {  # git commits, and DVC's experiments, need one
    f"GIT_{role}_{part}": f"nobody{'@localhost' * (part == 'EMAIL')}"
    for role in ("AUTHOR", "COMMITTER")
    for part in ("NAME", "EMAIL")
}
RESULT = re.compile(r"dvc\.lock|(metrics|plots)/.*\.(json|csv)")  # what `make run` leaves for git to track
# The sample, so small that a stage takes little longer than its imports.
TINY = (
    *overrides(ROOT / "recipes/sample.txt"),
    *("dataset.train_limit=200", "backbone.resolution=32", "features.views=1", "inference.engine=torch"),
    *("tune_head.trials=3", "tune_head.epochs=2", "train_frozen.epochs=2", "finetune.epochs=1"),
    *("scaling.batch_size=50", "scaling_search.tolerance=0.066"),  # one candidate
    *("~compared_backbones.pico_64", "comparison.penalties=[0.1]"),
    *("scaling_ablation.match=paper", "scaling_ablation.epochs=1", "scaling_ablation.seeds=[0]"),
    *("audit.folds=2", "audit.penalties=[0.01]", "export.calibration_images=0"),  # no copy in 8 bits
    *("data_efficiency.images_per_class=[1,3]", "data_efficiency.draws=1", "data_efficiency.penalties=[0.1]"),
)
ARMS = ("baseline", "width", "compound")  # of the sample
ENTRIES = ("pico_32",)  # compared backbones of the tiny study, and of the tests' sample
WITHOUT_SCALING = (  # nor a comparison, for tests of what comes before them
    *("scaling_search.epochs=0", "~scaling_arms", "+scaling_arms={}", "~compared_backbones", "+compared_backbones={}"),
)


class Repository:
    """A git repository with this project's files in their present state, and DVC's commands in it."""

    def __init__(self, folder: Path, python: Path = Path(sys.executable).parent) -> None:
        """`python`: the folder of the one that runs stages."""
        self.folder, self.python = folder, python
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).exists() and not RESULT.fullmatch(name):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *command: str) -> str:
        return self.run("git", *command).stdout

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=state")

    def environment(self, **extra: str) -> dict[str, str]:
        """The caller's, with this Python first on PATH and nothing that would reach outside the clone."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DVC_", "MLFLOW_", "GIT_", "PYTEST_"))
        }
        path = os.pathsep.join((str(self.python), str(Path(sys.executable).parent), kept["PATH"]))
        settings = {"DEVICE": "cpu", "PYTHONDONTWRITEBYTECODE": "1", "DVC_NO_ANALYTICS": "true"}
        return kept | IDENTITY | settings | {"PATH": path} | extra

    def run(self, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run `command`; an exit status other than 0 is an error that shows its output."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment(**extra), capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *command: str, **extra: str) -> "subprocess.Popen[str]":
        """Start `command` in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(**extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )

    def set_params(self, settings: Iterable[str]) -> None:
        """Write `key=value` settings into params.yaml, the way `dvc exp run -S` does."""
        changes = [part for setting in settings for part in ("-S", setting)]
        script = "import sys; from tests.builders.repository import _set_params; _set_params(sys.argv[1:])"
        self.run(sys.executable, "-c", script, *changes[1::2], PYTHONPATH=str(ROOT))

    def repro(self, *targets: str, **extra: str) -> list[str]:
        """`dvc repro`: the stages whose command ran, in order."""
        return ran(self.run("dvc", "repro", *targets, **extra).stdout)

    def results(self) -> dict[str, bytes]:
        """Every metric, plot, prediction and model, by its path; not the page's parts, which say how long it took."""
        folders = ("metrics", "plots", "data/predictions", "models")
        files = (path for folder in folders for path in sorted((self.folder / folder).rglob("*")))
        kept = (p for p in files if p.is_file() and p.name[0] != "." and p.parent != self.folder / "plots/page")
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in kept}


def copied(original: Repository, folder: Path) -> Repository:
    """The same study elsewhere, without the state of its training."""
    shutil.copytree(original.folder, folder, symlinks=True, ignore=shutil.ignore_patterns(".resume"))
    return moved(original, folder)


def moved(original: Repository, folder: Path) -> Repository:
    """The commands of `original` for the repository that lies in `folder`."""
    repository = copy.copy(original)
    repository.folder = folder
    return repository


def cold(original: Repository) -> Repository:
    """The same repository, in which a new Python runs each stage."""
    repository = copy.copy(original)
    repository.python = Path(sys.executable).parent
    return repository


def ran(output: str) -> list[str]:
    """Names of the stages that DVC says it runs."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")]


def _set_params(settings: list[str]) -> None:
    from dvc.utils.hydra import apply_overrides

    apply_overrides(Path("params.yaml"), settings)
