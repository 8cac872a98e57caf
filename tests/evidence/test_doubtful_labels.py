"""Labels that are likely wrong: planted ones are found, and odd data do no harm."""

import numpy as np
import pytest
from numpy.typing import NDArray

from src.evidence.doubtful_labels import doubtful

Shares = NDArray[np.float64]
Labels = NDArray[np.int64]


def believed(truth: Labels, classes: int, sure: float = 6.0) -> Shares:
    """What a good classifier says of images of these true classes."""
    logits = np.random.default_rng(0).normal(size=(len(truth), classes))
    logits[np.arange(len(truth)), truth] += sure
    shares: Shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return shares


@pytest.mark.parametrize("classes", [2, 5])
def test_planted_errors_are_found_the_least_believed_first(classes: int) -> None:
    truth = np.arange(1000) % classes
    labels, wrong = truth.copy(), np.arange(0, 1000, 23)
    labels[wrong] = (truth[wrong] + 1) % classes
    shares = believed(truth, classes)
    found = doubtful(shares, labels)
    hits = np.isin(found, wrong)
    assert hits.sum() / len(wrong) > 0.85
    assert hits.mean() > 0.85
    own = shares[found, labels[found]]
    assert (np.diff(own) >= 0).all()
    assert (shares[found].argmax(axis=1) != labels[found]).all()


def test_a_perfect_classifier_doubts_nothing() -> None:
    labels = np.arange(60) % 3
    assert len(doubtful(np.eye(3)[labels], labels)) == 0


def test_a_constant_classifier_doubts_nothing() -> None:
    labels = np.arange(60) % 3
    assert len(doubtful(np.full((60, 3), 1 / 3), labels)) == 0
    assert len(doubtful(np.tile([0.8, 0.1, 0.1], (60, 1)), labels)) == 0


def test_a_class_without_images_is_never_suggested_and_changes_nothing() -> None:
    truth = np.arange(600) % 3
    labels = truth.copy()
    labels[::20] = (truth[::20] + 1) % 3
    shares = believed(truth, 3)
    wider = np.insert(shares * 0.9, 1, 0.1, axis=1)  # the class in place 1 has no image
    places = np.array([0, 2, 3])
    assert doubtful(wider, places[labels]).tolist() == doubtful(shares, labels).tolist() != []


def test_one_class_or_no_image_leaves_nothing_to_doubt() -> None:
    assert len(doubtful(np.full((5, 3), 1 / 3), np.full(5, 2))) == 0
    assert len(doubtful(np.empty((0, 3)), np.empty(0, dtype=np.int64))) == 0
    assert len(doubtful(believed(np.arange(4), 4), np.arange(4))) == 0
