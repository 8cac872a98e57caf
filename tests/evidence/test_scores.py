"""Scores by image: their means are scikit-learn's, and what no score can be computed from is refused."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, top_k_accuracy_score

from src.evidence import scores

CLASSES = (2, 3, 10, 100)


def answered(classes, *, images=400, seed=0):
    """Logits float32 (N, K) and labels (N,) of a fair classifier; with many classes, some have no image."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=images)
    logits = generator.normal(scale=2, size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += 2
    return logits, labels


def probabilities(logits, temperature=1.0):
    powers = np.exp(logits.astype(np.float64) / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_mean_losses_are_scikit_learns(classes, temperature):
    logits, labels = answered(classes, images=60)
    found, names = probabilities(logits, temperature), range(classes)
    assert scores.log_losses(logits, labels, temperature).mean() == pytest.approx(log_loss(labels, found, labels=names))
    expected = brier_score_loss(labels, found, labels=names, scale_by_half=False)
    assert scores.brier_losses(logits, labels, temperature).mean() == pytest.approx(expected)
    assert scores.confidences(logits, temperature) == pytest.approx(found.max(axis=1))


@pytest.mark.parametrize("classes", CLASSES[1:])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_share_of_top_hits_is_scikit_learns(classes, count):
    logits, labels = answered(classes)
    expected = top_k_accuracy_score(labels, logits, k=count, labels=range(classes)) if count < classes else 1
    assert scores.top_hits(logits, labels, count).mean() == expected


@pytest.mark.parametrize("classes", CLASSES)
def test_of_equal_logits_the_first_comes_first_as_argmax_has_it(classes):
    generator = np.random.default_rng(0)
    logits, labels = generator.integers(3, size=(300, classes)).astype(float), generator.integers(classes, size=300)
    assert scores.top_hits(logits, labels, 1).mean() == accuracy_score(labels, logits.argmax(axis=1))
    for count in (1, 2, 5):
        ranked = np.argsort(-logits, axis=1, kind="stable")[:, :count]
        assert (scores.top_hits(logits, labels, count) == (ranked == labels[:, None]).any(axis=1)).all()


def test_constant_logits_cost_the_logarithm_of_the_number_of_classes_and_name_the_first():
    logits, labels = np.zeros((6, 4)), np.array([0, 1, 2, 3, 0, 0])
    assert scores.log_losses(logits, labels) == pytest.approx(np.log(4))
    assert scores.brier_losses(logits, labels) == pytest.approx(0.75**2 + 3 / 16)
    assert scores.top_hits(logits, labels, 1).tolist() == [True, False, False, False, True, True]


def test_certain_answers_cost_nothing_if_right_and_a_finite_loss_if_wrong():
    logits, labels = np.array([[1e4, 0, 0], [1e4, 0, 0]], np.float32), np.array([0, 1])
    assert scores.log_losses(logits, labels).tolist() == [0, 1e4]
    assert scores.brier_losses(logits, labels).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "with an image and a class at least"),
        (np.zeros((4, 3)), np.zeros(5, int), r"labels of shape \(5,\)"),
        (np.zeros(4), np.zeros(4, int), r"logits of shape \(4,\)"),
        (np.zeros((2, 3)), np.array([0, 3]), "labels from 0 to 3; allowed: 0 to 2"),
        (np.zeros((2, 3)), np.array([-1, 2]), "labels from -1 to 2"),
        (np.array([[0, 1], [0, np.nan]]), np.array([0, 1]), "logits of image 1 are not finite"),
    ],
)
def test_what_has_no_score_is_refused(logits, labels, message):
    for score in (scores.log_losses, scores.brier_losses, lambda *given: scores.top_hits(*given, 1)):
        with pytest.raises(ValueError, match=message):
            score(logits, labels)


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="count 0; allowed: 1 or more"):
        scores.top_hits(*answered(3), 0)
