"""The sample study, run once for all tests that look at a finished pipeline."""

from pathlib import Path

import pytest

from tests.builders.repository import ROOT, Repository

SHORTER = (
    *("tune_head.trials=4", "tune_head.epochs=5", "train_frozen.epochs=10", "finetune.epochs=4"),
    *("scaling_search.max_multiply_adds=3000000.0", "scaling_ablation.epochs=2"),
)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, one runs all tests of the sample, which some edit for a moment, and one those of a file.

    So each thing that is shared by tests is made once.
    """
    for item in items:
        shared = "sample" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("sample" if shared else item.path.name + item.path.parent.name))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone in which `make run`'s command has run, every stage under the audit hook; tests leave it as it is.

    Its recipe ends in SHORTER settings: the sample as it ships has a test of its own (test_sample.py).
    """
    repository = Repository(tmp_path_factory.mktemp("sample"))
    recipe = repository.folder / "recipes/sample.txt"
    recipe.write_text("\n".join((recipe.read_text(), *SHORTER)))
    repository.commit()
    log = audit_log(repository)
    log.mkdir()
    repository.run("python", "-m", "recipes.run", "sample", AUDIT_LOG=str(log), PYTHONPATH=str(ROOT / "tests/audit"))
    return repository


def audit_log(repository: Repository) -> Path:
    return repository.folder.parent / f"{repository.folder.name}-audit"
