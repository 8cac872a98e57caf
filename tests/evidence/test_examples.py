"""Which images are shown as examples: the right ones, surest first."""

import pandas as pd
import pytest
import torch

from src.evidence import examples
from src.training import metrics

CLASSES = ("cat", "dog", "eel")
#  image:      0    1    2    3    4
LABELS = torch.tensor([0, 1, 2, 0, 1])
NAMED = {"before": torch.tensor([0, 0, 2, 1, 0]), "after": torch.tensor([1, 1, 2, 1, 0])}
SURE = {"before": torch.tensor([1.0, 2, 3, 4, 5]), "after": torch.tensor([3.0, 1, 4, 5, 3])}


@pytest.fixture(scope="module")
def rows() -> dict[str, pd.DataFrame]:
    logits = {
        method: {"test": SURE[method][:, None] * torch.nn.functional.one_hot(NAMED[method], 3)} for method in NAMED
    }
    found = metrics.collect_predictions(logits, {"test": LABELS}, CLASSES)
    return {method: examples.named_on_test(found, method) for method in NAMED}


def test_all_images_are_there_surest_first_and_of_equally_sure_ones_the_first(rows: dict[str, pd.DataFrame]) -> None:
    assert rows["after"]["index"].tolist() == [3, 2, 0, 4, 1]
    assert rows["after"]["confidence"].is_monotonic_decreasing
    first = torch.tensor([5.0, 0, 0]).softmax(0)[0]
    assert rows["after"]["confidence"][0] == pytest.approx(float(first))


def test_a_temperature_changes_how_sure_and_not_what(rows: dict[str, pd.DataFrame]) -> None:
    logits = {"after": {"test": SURE["after"][:, None] * torch.nn.functional.one_hot(NAMED["after"], 3)}}
    found = metrics.collect_predictions(logits, {"test": LABELS}, CLASSES)
    softer = examples.named_on_test(found, "after", temperature=2.0)
    assert softer[["index", "actual", "named"]].equals(rows["after"][["index", "actual", "named"]])
    assert (softer["confidence"] < rows["after"]["confidence"]).all()


def test_mistakes_repairs_and_what_was_broken(rows: dict[str, pd.DataFrame]) -> None:
    before, after = rows["before"], rows["after"]
    assert examples.mistakes(after)["index"].tolist() == [3, 0, 4]
    assert examples.repaired(before, after)["index"].tolist() == [1]
    assert examples.broken(before, after)["index"].tolist() == [0]
    assert examples.broken(before, after)["named"].tolist() == [1], "what is named now"


def test_of_a_pair_its_images_alone(rows: dict[str, pd.DataFrame]) -> None:
    assert examples.of_pair(rows["after"], 0, 1)["index"].tolist() == [3, 0]
    assert examples.of_pair(rows["after"], 2, 1).empty


def test_wrong_ones_are_explained_before_one_right_image_of_each_class(rows: dict[str, pd.DataFrame]) -> None:
    assert examples.to_explain(rows["after"], 2)["index"].tolist() == [3, 0, 2, 1]
    assert examples.to_explain(rows["after"], 9)["index"].tolist() == [3, 0, 4, 2, 1]
