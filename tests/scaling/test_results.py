"""What several seeds found, in the numbers and tables that a stage leaves: computed by hand from three classes."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.scaling import seeds
from src.scaling.seeds import SeedResult
from src.training import metrics


def curve(*accuracies: float) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(accuracies, start=1)]


def answers(labels: Sequence[int], *, odds: float = 1.0) -> Tensor:
    """Logits that answer `labels`, of three, each with `odds` to one against either of the others."""
    return math.log(odds) * F.one_hot(torch.tensor(labels), 3).float()


LABELS = {"val": torch.tensor([0, 1, 2, 0]), "test": torch.tensor([0, 1, 2, 0, 1])}
MACHINE = {"precision": "float32", "processes": 2}
RESULTS: dict[int, SeedResult] = {
    3: SeedResult(
        curve=curve(0.25, 0.5),
        best_epoch=2,
        logits={"val": answers([0, 1, 0, 1], odds=2), "test": answers([0, 1, 2, 0, 0], odds=2)},
        machine={"images_per_second": 100.0, "compiled": False, **MACHINE},
    ),
    1: SeedResult(
        curve=curve(0.25, 0.48, 0.5),
        best_epoch=3,
        logits={"val": answers([0, 1, 2, 1], odds=6), "test": answers([0, 0, 0, 0, 0], odds=6)},
        machine={"images_per_second": 300.0, "compiled": False, **MACHINE},
    ),
}


def test_the_summary_is_means_over_seeds_with_their_deviations() -> None:
    """By hand: right at odds of 2 costs log(4 / 2) nats, wrong log 4; at odds of 6 log(8 / 6) and log 8."""
    two, six = math.log(2), (2 * math.log(8 / 6) + 3 * math.log(8)) / 5
    summary = seeds.summarise(RESULTS, LABELS)
    assert summary == {
        "val": {"accuracy": 0.625, "accuracy_std": pytest.approx(math.sqrt(2 * 0.125**2))},
        "test": {
            "accuracy": pytest.approx(0.6),
            "accuracy_std": pytest.approx(math.sqrt(2 * 0.2**2)),
            "loss": pytest.approx(((4 * two + 2 * two) / 5 + six) / 2),
        },
        "epochs_to_95": 2.0,
    }
    assert list(summary) == ["val", "test", "epochs_to_95"]


def test_one_seed_has_no_deviation() -> None:
    summary = seeds.summarise({3: RESULTS[3]}, LABELS)
    assert summary["val"] == {"accuracy": 0.5}
    assert set(summary["test"]) == {"accuracy", "loss"}
    assert summary["test"]["accuracy"] == 0.8


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ((0.1, 0.5, 0.94, 0.96, 1.0), 4),
        ((0.1, 0.5, 0.95, 0.9, 1.0), 3),  # 95 % exactly is enough, and it need not stay there
        ((0.7, 0.9, 0.6), 1),  # of the last epoch, not of the best
        ((0.7,), 1),
        ((0.0, 0.0), 1),
    ],
)
def test_epochs_to_near_counts_to_the_first_with_95_percent_of_the_last(
    accuracies: tuple[float, ...], expected: int
) -> None:
    assert seeds.epochs_to_near(curve(*accuracies)) == expected


def test_the_curves_have_a_row_per_seed_and_epoch() -> None:
    rows = seeds.curve_rows(RESULTS)
    assert [(row["seed"], row["epoch"]) for row in rows] == [(3, 1), (3, 2), (1, 1), (1, 2), (1, 3)]
    assert list(rows[0]) == ["seed", "epoch", "val_accuracy"]


def test_predictions_are_of_validation_and_test_alone_a_column_per_seed() -> None:
    by_seed = seeds.logits_by_seed(RESULTS)
    table = metrics.collect_predictions(by_seed, LABELS, ("a", "b", "c"))
    assert list(table["logits"]) == ["seed 3", "seed 1"]
    assert table["split"].tolist() == [1] * 4 + [2] * 5
    assert table["index"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert table["label"].tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1]
    for seed, result in RESULTS.items():
        expected = torch.cat([result.logits["val"], result.logits["test"]])
        assert torch.equal(table["logits"][f"seed {seed}"], expected)


def test_speeds_are_averaged_and_make_seconds_of_images() -> None:
    assert seeds.describe(RESULTS, 6000) == {
        "seeds": [3, 1],
        "compiled": False,
        **MACHINE,
        "images_per_second": 200.0,
        "training_seconds": [60.0, 20.0],
    }
