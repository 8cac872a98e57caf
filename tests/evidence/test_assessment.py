"""Everything about one method: each score against scikit-learn, and what odd predictions come to."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from src.evidence import assessment
from src.evidence.assessment import Judged
from src.evidence.calibration import BINS


def answered(images: int, classes: int = 8, *, sure: float = 3.0, seed: int = 0) -> Judged:
    """Logits that lean to the class, by `sure` times what they ought to."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    logits = generator.normal(size=(images, classes)) + 2 * np.eye(classes)[labels]
    return Judged(logits=(sure * logits).astype(np.float32), labels=labels)


def assessed(val: Judged, test: Judged, targets: tuple[float, ...] = (0.8, 0.95)) -> assessment.Assessment:
    classes = [f"c{k}" for k in range(test.logits.shape[1])]
    return assessment.assess(val, test, classes, bins=BINS, targets=targets)


def test_every_score_is_scikit_learns() -> None:
    val, test = answered(400, seed=1), answered(500)
    found = assessed(val, test)
    probabilities = np.exp(test.logits.astype(float))
    probabilities /= probabilities.sum(1, keepdims=True)
    named = test.logits.argmax(1)
    expected = {
        "accuracy": metrics.accuracy_score(test.labels, named),
        "top5_accuracy": metrics.top_k_accuracy_score(test.labels, test.logits, k=5),
        "balanced_accuracy": metrics.balanced_accuracy_score(test.labels, named),
        "confidence": probabilities.max(1).mean(),
        "log_loss": metrics.log_loss(test.labels, probabilities),
        "brier_score": np.square(probabilities - np.eye(8)[test.labels]).sum(1).mean(),
    }
    assert {name: found.value(name) for name in expected} == pytest.approx(expected, rel=1e-5)
    for row in found.scores:
        assert row["low"] <= row["value"] or row["score"] == "calibration_error"
        assert row["value"] <= row["high"] or row["score"] == "calibration_error"
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(test.labels, named)
    table = found.classes[["precision", "recall", "f1"]].to_numpy().T
    np.testing.assert_allclose(table, [precision, recall, f1])


def test_a_temperature_from_validation_mends_test() -> None:
    found = assessed(answered(2000, seed=1), answered(2000))
    rows = pd.DataFrame(found.scores).pivot(index="score", columns="calibrated", values="value")
    assert found.temperature == pytest.approx(1.5, rel=0.1)  # of such logits 2 is the right slope, and 3 was taken
    for name in ("log_loss", "brier_score", "calibration_error"):
        assert rows.loc[name, True] < rows.loc[name, False]
    assert rows[True].notna().sum() == 5
    assert found.reliability.groupby("calibrated")["images"].sum().tolist() == [2000, 2000]


def test_coverage_is_counted_with_the_threshold_that_validation_chose() -> None:
    val, test = answered(400, seed=1), answered(500)
    found = assessed(val, test)
    for row in found.coverage:
        shares = torch.softmax(torch.from_numpy(test.logits).double() / found.temperature, 1).max(1).values.numpy()
        chosen = shares >= row["threshold"]
        assert (row["answered"], row["images"]) == (chosen.sum(), 500)
        assert row["accuracy"] == test.hits[chosen].mean()
    assert found.headline["coverage"] == found.coverage[-1]["coverage"]


def test_few_classes_have_no_top_five_and_the_headline_says_so() -> None:
    found = assessed(answered(60, 2, seed=1), answered(60, 2))
    assert "top5_accuracy" not in {row["score"] for row in found.scores}
    assert set(found.headline) == {"balanced_accuracy", "log_loss", "calibration_error", "temperature", "coverage"}


def test_where_validation_has_no_mistake_nothing_is_calibrated_and_every_image_is_answered() -> None:
    right = answered(50, seed=1)
    right = Judged(logits=right.logits + 99 * np.eye(8)[right.labels], labels=right.labels)
    found = assessed(right, answered(60))
    assert found.temperature == 1
    assert not any(row["calibrated"] for row in found.scores)
    assert not found.reliability["calibrated"].any()
    assert [row["coverage"] for row in found.coverage] == [1.0, 1.0]


def test_where_no_confidence_serves_nothing_is_answered() -> None:
    wrong = answered(50, seed=1)
    wrong = Judged(logits=wrong.logits, labels=(wrong.logits.argmax(1) + 1) % 8)
    for row in assessed(wrong, answered(60)).coverage:
        assert (row["threshold"], row["answered"], row["coverage"], row["accuracy"]) == (None, 0, 0.0, None)


def test_one_image_has_scores_and_means_without_an_interval() -> None:
    found = pd.DataFrame(assessed(answered(1, seed=1), answered(1)).scores).set_index("score")
    means = found.loc[["confidence", "log_loss", "brier_score"]]
    assert means["low"].isna().all()
    assert found["value"].notna().all()
    assert found.drop(means.index)["low"].notna().all()


def test_a_constant_answer_is_assessed() -> None:
    """All logits equal: the first class is named, with the confidence of a guess."""
    labels = np.arange(40) % 8
    constant = Judged(logits=np.zeros((40, 8), np.float32), labels=labels)
    found = assessed(constant, constant)
    assert (found.value("accuracy"), found.value("confidence")) == (0.125, 0.125)
    assert found.value("calibration_error") == pytest.approx(0)
    assert found.classes["precision"].isna().sum() == 7


def test_the_tables_have_every_method() -> None:
    found = {"a": assessed(answered(60, seed=1), answered(60)), "b": assessed(answered(60, seed=2), answered(60))}
    for part in ("scores", "classes", "reliability", "coverage"):
        table = assessment.table(found, part)
        assert table.columns[0] == "method"
        assert table["method"].drop_duplicates().tolist() == ["a", "b"]
        assert len(table) == sum(len(pd.DataFrame(getattr(each, part))) for each in found.values())
