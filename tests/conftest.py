"""The sample study, run once for all tests that look at a finished pipeline."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import warm
from tests.builders.repository import ROOT, Repository

SHORTER = (
    *("dataset.train_limit=320", "inference.engine=torch"),
    *("tune_head.trials=4", "tune_head.epochs=5", "train_frozen.epochs=10"),
    *("finetune.epochs=4", "finetune.batch_size=16"),
    *("~compared_backbones.pico_64", "scaling_search.max_multiply_adds=3080000.0", "scaling_ablation.epochs=1"),
    *("audit.folds=2", "audit.penalties=[0.01]", "data_efficiency.draws=2"),
)


# Files that use the sample in the fast tier; some edit it for a moment.
USES_SAMPLE = ("test_edits.py", "test_rerun.py", "test_stages.py", "test_experiments.py")
LONGEST = (*USES_SAMPLE, "test_finetune_kills.py", "test_torchrun.py", "test_kills.py", "test_sample.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes begins first, so that no process ends long after the others (with --no-loadscope-reorder)."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes, one runs all tests of a file, and one all of the sample: what tests share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    fast = "not slow" in config.option.markexpr

    class BySharing(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "sample" if fast and file.endswith(USES_SAMPLE) else file

    return BySharing(config, log)


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm.python(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> Repository:
    """A clone in which `make run`'s command has run, every stage under the audit hook; tests leave it as it is.

    Its recipe ends in SHORTER settings: the sample as it ships has a test of its own (test_sample.py), which starts
    each stage as DVC does.
    """
    repository = Repository(tmp_path_factory.mktemp("sample"), warm_python)
    recipe = repository.folder / "recipes/sample.txt"
    recipe.write_text("\n".join((recipe.read_text(), *SHORTER)))
    repository.commit()
    log = audit_log(repository)
    log.mkdir()
    command = ("python", "-m", "recipes.run", "sample")
    done = repository.run(*command, AUDIT_LOG=str(log), PYTHONPATH=str(ROOT / "tests/audit"))
    said_by(repository).write_text(done.stdout)
    return repository


@pytest.fixture(scope="session")
def gentle(sample: Repository) -> str:
    """What DVC printed for the experiment `gentle`, run in a copy of the repository as a queue would."""
    return sample.run("dvc", "exp", "run", "--name", "gentle", "--set-param", "lr=0.001", "--temp").stdout


def said_by(repository: Repository) -> Path:
    """What was printed while the sample ran."""
    return repository.folder.parent / f"{repository.folder.name}-said.txt"


def audit_log(repository: Repository) -> Path:
    return repository.folder.parent / f"{repository.folder.name}-audit"
