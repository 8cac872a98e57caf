"""The choice of coefficients: by no more than validation can tell; on chance and on ties, by the paper's."""

from typing import Any

import pytest

from src.scaling import choosing, equations
from src.scaling.equations import PAPER, Coefficients

IMAGES, CHANCE = 1000, 0.1
PAPERS = {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}


def row(alpha: float, accuracy: float | None, multiply_adds: int = 100, loss: float | None = 1.0) -> dict[str, Any]:
    found: dict[str, Any] = {"alpha": alpha, "beta": 1.1, "gamma": 1.3, "multiply_adds": multiply_adds}
    return found | {"val_accuracy": accuracy, "val_loss": loss}


def chosen(*rows: dict[str, Any], images: int = IMAGES, chance: float = CHANCE) -> dict[str, Any]:
    return choosing.chosen(rows, images=images, chance=chance)


def test_the_best_candidate_has_the_highest_accuracy_of_equals_the_lowest_cost_then_comes_first() -> None:
    best = choosing.best_of
    assert best([row(1.0, 0.5), row(1.1, 0.6, 900), row(1.2, 0.4)])["alpha"] == 1.1
    assert best([row(1.0, 0.6, 300), row(1.1, 0.6, 200), row(1.2, 0.6, 250)])["alpha"] == 1.1
    assert best([row(1.0, 0.6, 300, 0.1), row(1.1, 0.6, 200, 2.0)])["alpha"] == 1.1, "the loss decides nothing"
    assert best([row(1.0, 0.1), row(1.1, 0.6), row(1.2, 0.6)])["alpha"] == 1.1


def test_validation_chooses_where_one_candidate_is_better_than_all_others() -> None:
    rows = [row(1.0, 0.5), row(1.9, 0.6, loss=0.9), row(1.2, 0.52)]
    found = choosing.chosen(rows, images=IMAGES, chance=CHANCE)
    assert found == {"alpha": 1.9, "beta": 1.1, "gamma": 1.3, "chosen_by": "validation"}
    summary = choosing.summarise(rows, found, images=IMAGES)
    scores = {"accuracy": 0.6, "loss": 0.9}
    assert summary == {"alpha": 1.9, "beta": 1.1, "gamma": 1.3, "candidates": 3, "tied": 1, "val": scores}


def test_of_candidates_that_cannot_be_told_apart_the_nearest_to_the_papers_is_taken() -> None:
    """By Newcombe's interval at 1 - 0.05 / 3: 60 against 57 % of 1 000 images may be luck, 60 against 50 % is not."""
    rows = [row(1.9, 0.60), row(1.3, 0.57, loss=1.1), row(1.2, 0.50)]
    found = choosing.chosen(rows, images=IMAGES, chance=CHANCE)
    assert found == {"alpha": 1.3, "beta": 1.1, "gamma": 1.3, "chosen_by": "nearest"}
    summary = choosing.summarise(rows, found, images=IMAGES)
    assert (summary["tied"], summary["val"]) == (2, {"accuracy": 0.57, "loss": 1.1})
    assert chosen(*rows, images=100_000)["alpha"] == 1.9, "more images tell more"


def test_one_image_decides_nothing() -> None:
    """The sample's search: 14 or 15 of 144 images, where chance is 10 %."""
    rows = [row(1.4, 15 / 144), row(1.2, 14 / 144), row(2.0, 14 / 144)]
    found = choosing.chosen(rows, images=144, chance=0.1)
    assert found == PAPERS | {"chosen_by": "chance"}
    summary = choosing.summarise(rows, found, images=144)
    assert summary["val"] == {"accuracy": 15 / 144, "loss": 1.0}, "the best, at least"
    assert (summary["alpha"], summary["tied"]) == (1.2, 3)


@pytest.mark.parametrize(("right", "chosen_by"), [(118, "chance"), (121, "nearest"), (60, "chance")])
def test_a_single_candidate_is_above_chance_by_wilsons_interval_or_not(right: int, chosen_by: str) -> None:
    found = chosen(row(1.4, right / IMAGES))["chosen_by"]
    assert found == ("validation" if chosen_by == "nearest" else chosen_by)


def test_the_best_of_many_has_to_be_further_above_chance() -> None:
    """Of 20 candidates at chance, one is above it by its own 95 % interval in 40 % of searches."""
    rows = [row(1.0 + number / 20, 0.1) for number in range(19)]
    assert chosen(*rows, row(2.0, 0.121))["chosen_by"] == "chance"
    assert chosen(*rows, row(2.0, 0.15))["chosen_by"] != "chance"


def test_the_paper_chooses_where_none_was_trained() -> None:
    rows = [row(1.0, None, loss=None), row(1.1, None, loss=None)]
    found = choosing.chosen(rows, images=IMAGES, chance=CHANCE)
    assert found == PAPERS | {"chosen_by": "paper"}
    assert choosing.summarise(rows, found, images=IMAGES) == PAPERS | {"candidates": 2}


def test_what_was_chosen_is_read_back() -> None:
    assert equations.coefficients(chosen(row(1.4, 0.5))) == Coefficients(alpha=1.4, beta=1.1, gamma=1.3)
    assert equations.coefficients(chosen(row(1.4, None))) == PAPER
