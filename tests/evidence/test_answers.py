"""Intervals and mistakes: against published numbers, scipy, scikit-learn and counting by hand."""

import pytest
import torch
from sklearn.metrics import confusion_matrix

from src.base import proportions
from src.evidence import answers


def predictions(names=("method",), *, images=400, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "classes": tuple(f"c{k}" for k in range(classes)),
        "label": torch.randint(classes, (images,), generator=torch.Generator().manual_seed(0)),
        "split": torch.arange(images) % 3,
        "index": torch.arange(images) // 3,
        "logits": {name: torch.randn(images, classes, generator=generator) for name in names},
    }


def test_accuracy_table_counts_each_method_on_each_split():
    first, second = predictions(("a", "b")), predictions(("c",), seed=1)
    table = answers.accuracy_table(answers.collect(first, second), ["a", "b", "c"]).set_index(["method", "split"])
    assert len(table) == 9
    for name, logits in (first["logits"] | second["logits"]).items():
        for number, split in enumerate(("train", "val", "test")):
            chosen = first["split"] == number
            row = table.loc[(name, split)]
            assert row["images"] == chosen.sum()
            assert row["accuracy"] == pytest.approx((logits.argmax(1) == first["label"])[chosen].double().mean().item())
            assert row["low"] < row["accuracy"] < row["high"]


def test_predictions_about_other_images_are_refused():
    first, second = predictions(("a",)), predictions(("b",))
    second["index"] = second["index"].flip(0)
    with pytest.raises(ValueError, match="b and a are about different images"):
        answers.collect(first, second)


def test_confusion_matrix_is_scikit_learns_on_test_images_alone():
    file = predictions()
    found = answers.collect(file)
    test = file["split"] == 2
    expected = confusion_matrix(file["label"][test], file["logits"]["method"].argmax(1)[test], labels=range(4))
    assert (answers.confusion_matrix(found, "method") == expected).all()
    rows = answers.confusion_rows(found, "method")
    assert (confusion_matrix(rows["actual"], rows["predicted"]) == expected).all()


def test_accuracy_per_class_is_the_diagonals_share_and_skips_classes_without_images():
    file = predictions(classes=5)
    file["label"][file["label"] == 3] = 2
    found = answers.collect(file)
    matrix = answers.confusion_matrix(found, "method")
    table = answers.accuracy_per_class(found, "method")
    assert list(table["class"]) == ["c0", "c1", "c2", "c4"]
    for k, row in zip((0, 1, 2, 4), table.to_dict("records"), strict=True):
        assert row["accuracy"] == matrix[k, k] / matrix[k].sum()
        assert (row["low"], row["high"]) == proportions.wilson_interval(matrix[k, k], matrix[k].sum())


def test_confused_pairs_are_the_largest_cells_beside_the_diagonal():
    file = predictions(("a", "b"))
    found = answers.collect(file)
    first, last = (answers.confusion_matrix(found, name) for name in ("a", "b"))
    pairs = answers.confused_pairs(found, ["a", "b"], 5)
    mistakes = sorted((last[i, j] for i in range(4) for j in range(4) if i != j), reverse=True)
    assert list(pairs["b"]) == mistakes[:5]
    for row in pairs.to_dict("records"):
        i, j = int(row["actual"][1]), int(row["predicted"][1])
        assert (row["a"], row["b"], row["images"]) == (first[i, j], last[i, j], last[i].sum())


def test_a_classifier_without_mistakes_has_no_confused_pairs():
    file = predictions()
    file["logits"]["method"] = torch.nn.functional.one_hot(file["label"], 4).float()
    assert answers.confused_pairs(answers.collect(file), ["method"], 5).empty


def test_the_commonest_class_is_trains_and_is_judged_on_test():
    file = predictions(images=9, classes=2)
    file["label"] = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0, 0])  # train: 1, 1, 1; test: 1, 0, 0
    assert answers.commonest_class_accuracy(answers.collect(file)) == pytest.approx(1 / 3)
