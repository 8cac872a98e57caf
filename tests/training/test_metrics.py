"""Metrics: accuracy and loss as scikit-learn counts them, and predictions in one table."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor

from src.training import metrics
from src.transfer.feature_batches import FeatureBatches


def logits_and_labels(count: int = 200, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, classes, generator=generator) * 3, torch.arange(count) % classes


def test_accuracy_and_loss_are_scikit_learns() -> None:
    logits, labels = logits_and_labels()
    scores = metrics.score(logits, labels)
    assert scores["accuracy"] == accuracy_score(labels, logits.argmax(1))
    assert scores["loss"] == pytest.approx(log_loss(labels, logits.double().softmax(1)), rel=1e-6)


def test_the_loss_of_knowing_nothing_is_the_logarithm_of_the_number_of_classes() -> None:
    scores = metrics.score(torch.zeros(12, 4), torch.arange(12) % 4)
    assert scores["loss"] == pytest.approx(math.log(4), rel=1e-6)
    assert scores["accuracy"] == 0.25


def splits() -> dict[str, FeatureBatches]:
    found = {}
    for name, count in (("train", 6), ("val", 2), ("test", 3)):
        features = torch.randn(1, count, 4, generator=torch.Generator().manual_seed(count)).half()
        found[name] = FeatureBatches(features=features, labels=torch.arange(count) % 3, classes=("a", "b", "c"), seed=0)
    return found


def test_predictions_name_split_row_and_label_of_every_image() -> None:
    data = splits()
    predictions, scores = metrics.evaluate(
        "half", data, lambda split: split.features[0, :, :3].float(), ("a", "b", "c")
    )
    assert predictions["split"].tolist() == [0] * 6 + [1] * 2 + [2] * 3
    assert predictions["index"].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 0, 1, 2]
    assert predictions["label"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 2]
    assert predictions["classes"] == ("a", "b", "c")
    for number, (name, split) in enumerate(data.items()):
        rows = predictions["logits"]["half"][predictions["split"] == number]
        assert torch.equal(rows, split.features[0, :, :3].float())
        assert scores[name] == metrics.score(rows, split.labels)


def test_several_methods_share_one_table_whatever_the_order_of_their_splits() -> None:
    labels = {"test": torch.tensor([2]), "train": torch.tensor([0, 1]), "val": torch.tensor([1])}
    logits = {method: {name: torch.full((len(y), 3), value) for name, y in labels.items()} for method, value in METHODS}
    table = metrics.collect_predictions(logits, labels, ("a", "b", "c"))
    assert table["label"].tolist() == [0, 1, 1, 2]
    assert {method: rows.unique().tolist() for method, rows in table["logits"].items()} == {"one": [1.0], "two": [2.0]}
    assert {key: table[key].dtype for key in ("label", "split", "index")} == dict.fromkeys(
        ("label", "split", "index"), torch.int64
    )


def test_a_split_that_has_no_labels_here_is_left_out() -> None:
    """As the scaling study's arms leave out train: validation and test are the second and the third of SPLITS."""
    labels = {"test": torch.tensor([2, 0]), "val": torch.tensor([1])}
    logits = {"seed 0": {"train": torch.full((9, 3), 9.0), "val": torch.ones(1, 3), "test": torch.zeros(2, 3)}}
    table = metrics.collect_predictions(logits, labels, ("a", "b", "c"))
    assert table["split"].tolist() == [1, 2, 2]
    assert table["index"].tolist() == [0, 0, 1]
    assert table["label"].tolist() == [1, 2, 0]
    assert torch.equal(table["logits"]["seed 0"], torch.tensor([[1.0] * 3, [0.0] * 3, [0.0] * 3]))


METHODS = (("one", 1.0), ("two", 2.0))


def test_a_stages_metrics_open_with_its_answer_under_a_name_of_its_own() -> None:
    scores = {"val": {"accuracy": 0.7}, "test": {"accuracy": 0.8}}
    assert next(iter(metrics.headed("frozen", scores).items())) == ("frozen", 0.8)
    assert metrics.headed("searched", {"val": {"accuracy": 0.7}}) == {"searched": 0.7, "val": {"accuracy": 0.7}}
    arm = metrics.headed("depth", {"depth": 1.8, **scores})
    assert (next(iter(arm)), arm["depth_accuracy"], arm["depth"]) == ("depth_accuracy", 0.8, 1.8)
