"""Calibration: against scikit-learn, the published estimator, first-order conditions, and simulated studies."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, foldnorm
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from src.evidence import calibration
from src.evidence.calibration import calibration_error, fit_temperature, reliability_bins
from src.evidence.scores import confidences, log_losses, top_hits


def drawn(classes, temperature, *, images=3000, present=None, seed=0):
    """Logits, and labels drawn from softmax(logits / temperature) of the first `present` classes, or all."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=4, size=(images, classes)).astype(np.float32)
    powers = np.exp(logits.astype(float) / temperature)[:, :present]
    shares = np.cumsum(powers / powers.sum(axis=1, keepdims=True), axis=1)
    return logits, (generator.random((images, 1)) > shares).sum(axis=1)


@pytest.mark.parametrize("strength", [1e-4, 30.0])
def test_the_temperature_is_scikit_learns(strength):
    """Of a model that was held back, and states too little, and of one that was not."""
    digits = load_digits()
    model = LogisticRegression(C=strength, max_iter=200).fit(digits.data[:300], digits.target[:300])
    images, labels = digits.data[300:], digits.target[300:]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(images, labels)
    expected = 1 / calibrated.calibrated_classifiers_[0].calibrators[0].beta_
    assert (expected < 1) == (strength < 1)
    assert fit_temperature(model.decision_function(images), labels) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_of_two_classes_it_is_that_of_a_logistic_regression_of_their_difference(temperature):
    logits, labels = drawn(2, temperature)
    difference = (logits[:, 1] - logits[:, 0])[:, None].astype(float)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(difference, labels)
    assert fit_temperature(logits, labels) == pytest.approx(1 / model.coef_[0, 0], rel=1e-4)


@pytest.mark.parametrize(("classes", "present"), [(2, None), (3, 2), (10, 9), (100, 60)])
@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_at_the_temperature_the_logits_expected_are_those_of_the_classes_seen(classes, present, temperature):
    """The derivative of the log loss is 0 there; whether or not each class has images."""
    logits, labels = drawn(classes, temperature, present=present)
    found = fit_temperature(logits, labels)
    powers = np.exp(logits.astype(float) / found)
    stated = (logits * powers).sum(axis=1) / powers.sum(axis=1)
    assert stated.mean() == pytest.approx(logits[np.arange(len(labels)), labels].mean(), abs=2e-4)
    losses = [log_losses(logits, labels, found * factor).mean() for factor in (0.98, 1.0, 1.02)]
    assert losses[1] < min(losses[0], losses[2])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_by_which_labels_were_drawn_is_found_again(temperature):
    assert fit_temperature(*drawn(10, temperature)) == pytest.approx(temperature, rel=0.06)


def test_perfect_and_constant_answers_leave_the_temperature_at_1():
    assert fit_temperature(np.eye(3) * 5, np.arange(3)) == 1
    assert fit_temperature(np.zeros((4, 3)), np.array([0, 1, 2, 0])) == 1


def test_answers_that_are_worse_than_guessing_get_the_highest_temperature():
    assert fit_temperature(-5 * np.eye(3), np.arange(3)) == pytest.approx(calibration.HOTTEST, rel=1e-3)


def population(kind, images, generator):
    """Confidences, and how often an image of that confidence is right."""
    stated = 0.1 + 0.9 * generator.beta(5, 1, images)
    right = {
        "calibrated": stated,
        "a little over-confident": stated**1.1,
        "over-confident": stated**1.5,
        "under-confident": 1 - 0.8 * (1 - stated) ** 1.6,
    }
    if kind == "nearly perfect, under-confident":
        stated = 0.1 + 0.9 * generator.beta(20, 0.7, images)
        return stated, 1 - 0.8 * (1 - stated) ** 1.6
    if kind == "nearly perfect, over-sure":
        return 1 - 10 ** -generator.uniform(3, 6, images), np.full(images, 0.99)
    return stated, right[kind]


SLOW = pytest.mark.slow
KINDS = (
    "calibrated",
    "a little over-confident",
    "over-confident",
    "under-confident",
    "nearly perfect, under-confident",
    "nearly perfect, over-sure",
)
ONE_FAST = [kind if kind == "calibrated" else pytest.param(kind, marks=SLOW) for kind in KINDS]
THREE_FAST = [*ONE_FAST[:-2], *KINDS[-2:]]


def binned(values, bins=15):
    """Means over equal parts of values that are in the order of confidence."""
    return np.array([part.mean() for part in np.array_split(values, bins)])


def answers(kind="over-confident", images=1500, seed=0):
    generator = np.random.default_rng(seed)
    stated, right = population(kind, images, generator)
    return stated, generator.random(images) < right


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_bins_are_scikit_learns_with_scipys_intervals(bins):
    stated, hits = answers()
    table = reliability_bins(stated, hits, bins)
    accuracy, confidence = calibration_curve(hits, stated, n_bins=bins, strategy="quantile")
    assert table["accuracy"].tolist() == pytest.approx(accuracy.tolist())
    assert table["confidence"].tolist() == pytest.approx(confidence.tolist())
    assert set(table["images"]) == {1500 // bins}
    for row in table.itertuples():
        expected = binomtest(round(row.accuracy * row.images), int(row.images)).proportion_ci(method="wilson")
        assert (row.low, row.high) == pytest.approx(tuple(expected))


def test_equal_confidences_share_a_bin_whatever_the_order_of_the_images():
    generator = np.random.default_rng(0)
    stated = np.round(generator.beta(5, 1, 500), 1)
    hits = generator.random(500) < stated
    order = generator.permutation(500)
    table = reliability_bins(stated, hits)
    assert table.equals(reliability_bins(stated[order], hits[order]))
    assert table["images"].sum() == 500
    _, of_value = np.unique(stated, return_counts=True)
    assert set(table["images"].cumsum()) <= set(of_value.cumsum())


def test_a_constant_confidence_is_one_bin_and_its_error_the_one_gap():
    hits = np.arange(200) < 150
    table = reliability_bins(np.full(200, 0.9), hits)
    assert len(table) == 1
    found = calibration_error(table)
    assert found.error == pytest.approx(0.15)
    low, high = binomtest(150, 200).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((0.9 - high, 0.9 - low), abs=0.005)


def test_fewer_images_than_bins_have_a_bin_each():
    table = reliability_bins(np.array([0.9, 0.5, 0.7]), np.array([True, False, True]))
    assert table["confidence"].tolist() == [0.5, 0.7, 0.9]
    assert calibration_error(table).error == pytest.approx((0.5 + 0.3 + 0.1) / 3)


def test_perfect_and_certain_answers_have_no_error():
    found = calibration_error(reliability_bins(np.ones(30), np.ones(30, bool)))
    assert (found.error, found.debiased, found.low) == (0, 0, 0)


def test_certain_and_always_wrong_is_an_error_of_1():
    found = calibration_error(reliability_bins(np.ones(300), np.zeros(300, bool)))
    assert (found.error, found.debiased) == (1, 1)
    assert 0.98 < found.low < found.high == 1


def test_the_error_is_the_mean_gap_of_equal_parts():
    stated, hits = answers()
    order = np.argsort(stated)
    expected = np.abs(binned(stated[order]) - binned(hits[order])).mean()
    assert calibration_error(reliability_bins(stated, hits)).error == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["a little over-confident", "over-confident"])
def test_the_debiased_error_is_what_the_published_draws_tend_to(kind):
    """Kumar, Liang and Ma: twice the error, less the mean error of accuracies drawn around those found."""
    stated, hits = answers(kind)
    order = np.argsort(stated)
    confidence, accuracy = binned(stated[order]), binned(hits[order])
    deviation = np.sqrt(accuracy * (1 - accuracy) / 100)
    redrawn = np.random.default_rng(0).normal(accuracy, deviation, (100_000, 15))
    expected = 2 * np.abs(confidence - accuracy).mean() - np.abs(redrawn - confidence).mean()
    found = calibration_error(reliability_bins(stated, hits))
    assert found.debiased == pytest.approx(expected, abs=1e-4)
    assert found.debiased < found.error


def test_moments_of_a_folded_normal_are_scipys():
    gaps, spreads = np.array([0.0, 0.01, -0.02, 0.3, 0.1]), np.array([0.02, 0.02, 0.02, 0.02, 0.0])
    means, variances = calibration._folded(gaps, spreads)
    expected = foldnorm(np.abs(gaps[:4]) / spreads[:4], scale=spreads[:4])
    assert means.tolist() == pytest.approx([*expected.mean(), 0.1])
    assert variances.tolist() == pytest.approx([*expected.var(), 0.0])


def studies(kind, images, count):
    """Errors found, and true ones of the same bins: with the chance of being right in place of whether it was."""
    generator, found, truth = np.random.default_rng(0), [], []
    for _ in range(count):
        stated, right = population(kind, images, generator)
        order = np.argsort(stated)
        found.append(calibration_error(reliability_bins(stated, generator.random(images) < right)))
        truth.append(np.abs(binned(stated[order]) - binned(right[order])).mean())
    return found, np.array(truth)


def covered(kind, images, count):
    found, truth = studies(kind, images, count)
    return np.mean([each.low <= true + 1e-12 and true <= each.high for each, true in zip(found, truth, strict=True)])


@pytest.mark.parametrize("images", [10, 100])
@pytest.mark.parametrize("stated", [0.9999, 1.0])
def test_a_few_right_answers_do_not_prove_that_it_may_be_so_sure(images, stated):
    """Without a mistake in N images, about 3 / N of such answers may be wrong."""
    found = calibration_error(reliability_bins(np.full(images, stated), np.ones(images, bool)))
    assert found.low == 0
    assert 2.5 / images < found.high < 5 / images


@pytest.mark.parametrize("kind", THREE_FAST)
def test_the_interval_covers_in_nearly_all_simulated_studies(kind):
    assert covered(kind, 300, 150) >= 0.93 - 3 * math.sqrt(0.07 * 0.93 / 150)


@SLOW
@pytest.mark.parametrize("images", [300, 3000, 15_000])
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_covers_in_95_percent_of_many_simulated_studies(kind, images):
    assert covered(kind, images, 1500) >= 0.92


@pytest.mark.parametrize("kind", ONE_FAST[:3])
def test_the_debiased_error_is_nearer_the_truth_than_the_error(kind):
    found, truth = studies(kind, 750, 100)
    plain, debiased = (np.mean([getattr(each, name) for each in found]) for name in ("error", "debiased"))
    assert abs(debiased - truth.mean()) < 0.75 * (plain - truth.mean())


def test_the_temperature_mends_what_it_can():
    """Halves of one set of answers: fitted on the first, judged on the second."""
    logits, labels = drawn(10, 2.5, images=6000)
    found = fit_temperature(logits[:3000], labels[:3000])
    hits = top_hits(logits[3000:], labels[3000:], 1)
    before, after = (
        calibration_error(reliability_bins(confidences(logits[3000:], temperature), hits))
        for temperature in (1.0, found)
    )
    assert after.low < 0.005
    assert after.high < before.low


@pytest.mark.parametrize(
    ("stated", "hits", "bins", "message"),
    [
        ([], [], 15, "one or more"),
        ([0.5, 0.6], [True], 15, r"confidences \(2,\), hits \(1,\)"),
        ([0.5], [True], 0, "0 bins"),
        ([1.2], [True], 15, "up to 1.2; allowed: 0 to 1"),
        ([math.nan], [True], 15, "allowed: 0 to 1"),
    ],
)
def test_what_has_no_bins_is_refused(stated, hits, bins, message):
    with pytest.raises(ValueError, match=message):
        reliability_bins(np.array(stated), np.array(hits, bool), bins)
