"""The sample as it ships, by the command of `make run`: a study that learns."""

import json
from pathlib import Path

import pytest

from tests.builders.repository import Repository


def accuracy(repository: Repository, stage: str) -> float:
    return float(json.loads((repository.folder / f"metrics/{stage}.json").read_text())["test"]["accuracy"])


@pytest.mark.slow
def test_in_the_sample_each_network_learns_and_fine_tuning_is_worth_it(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.run("python", "-m", "recipes.run", "sample")
    chance = 0.1
    assert chance < accuracy(repository, "train_frozen") < accuracy(repository, "finetune")
    assert accuracy(repository, "scaling_ablation/baseline") > 2 * chance
    assert (repository.folder / "reports/report.html").is_file()
