"""Coverage at a target accuracy: against trying every threshold, and what a threshold from validation comes to."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from src.evidence.selective import choose_threshold, select


def answers(images, generator, *, worse=0.0):
    """Confidences, and hits as often as they say, or by `worse` less often."""
    stated = 0.2 + 0.8 * generator.beta(4, 1, images)
    return stated, generator.random(images) < stated - worse


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("digits", [2, 8])
def test_no_lower_threshold_reaches_the_target(target, digits):
    """With two digits, many confidences are equal."""
    for seed in range(20):
        stated, hits = answers(150, np.random.default_rng(seed))
        stated = np.round(stated, digits)
        reaching = [value for value in np.unique(stated) if hits[stated >= value].mean() >= target]
        found = choose_threshold(stated, hits, target)
        if not reaching:
            assert found is None
        elif reaching[0] == stated.min():
            assert found == 0
        else:
            assert found == reaching[0]


def test_equal_confidences_are_answered_together():
    stated, hits = np.array([0.9, 0.9, 0.8, 0.7]), np.array([True, False, True, True])
    assert choose_threshold(stated, hits, 0.75) == 0
    assert choose_threshold(stated, hits, 0.8) is None
    assert choose_threshold(stated, ~hits, 0.5) == 0.9


def test_a_constant_confidence_answers_all_or_nothing():
    hits = np.arange(10) < 9
    assert choose_threshold(np.full(10, 0.6), hits, 0.9) == 0
    assert choose_threshold(np.full(10, 0.6), hits, 0.91) is None


def test_perfect_answers_are_all_given_and_those_that_are_less_sure_on_test_too():
    threshold = choose_threshold(np.array([0.8, 0.9]), np.ones(2, bool), 0.99)
    found = select(np.array([0.3, 0.9, 0.9]), np.array([False, True, True]), threshold=threshold, target=0.99)
    assert (found.answered, found.coverage, found.accuracy) == (3, 1, pytest.approx(2 / 3))


def test_where_no_threshold_reached_the_target_nothing_is_answered_and_that_is_said():
    threshold = choose_threshold(np.array([0.9, 0.8]), np.array([False, True]), 0.99)
    found = select(np.array([0.9, 0.8]), np.ones(2, bool), threshold=threshold, target=0.99)
    assert (found.threshold, found.answered, found.coverage, found.accuracy, found.held) == (None, 0, 0, None, None)
    assert found.coverage_high == pytest.approx(binomtest(0, 2).proportion_ci(method="wilson").high)


def test_where_no_image_of_test_is_sure_enough_nothing_is_answered():
    found = select(np.array([0.5, 0.6]), np.ones(2, bool), threshold=0.7, target=0.9)
    assert (found.threshold, found.answered, found.low, found.high, found.held) == (0.7, 0, None, None, None)


def test_shares_have_scipys_wilson_intervals():
    stated, hits = answers(500, np.random.default_rng(0))
    found, chosen = select(stated, hits, threshold=0.9, target=0.95), stated >= 0.9
    coverage = binomtest(int(chosen.sum()), 500).proportion_ci(method="wilson")
    accuracy = binomtest(int(hits[chosen].sum()), int(chosen.sum())).proportion_ci(method="wilson")
    assert (found.coverage_low, found.coverage_high) == pytest.approx(tuple(coverage))
    assert (found.low, found.high) == pytest.approx(tuple(accuracy))
    assert (found.images, found.coverage, found.accuracy) == (500, chosen.mean(), hits[chosen].mean())


@pytest.mark.parametrize(("right", "held"), [(100, True), (95, None), (80, False)])
def test_a_target_holds_or_fails_where_the_interval_excludes_it(right, held):
    found = select(np.full(100, 0.9), np.arange(100) < right, threshold=0.5, target=0.95)
    assert found.held is held


@pytest.mark.parametrize(("worse", "failed"), [(0.0, (0, 0.2)), (0.1, (0.95, 1))])
def test_where_test_is_harder_than_validation_the_target_is_seen_to_fail(worse, failed):
    """Of 100 studies; without a difference it fails in hardly more than the interval's share of one side."""
    generator, found = np.random.default_rng(0), []
    for _ in range(100):
        threshold = choose_threshold(*answers(2000, generator), 0.95)
        found.append(select(*answers(2000, generator, worse=worse), threshold=threshold, target=0.95).held)
    assert failed[0] <= found.count(False) / 100 <= failed[1]


def covered(studies):
    """Shares of studies whose intervals have the coverage and the accuracy that the threshold has in truth."""
    generator, found = np.random.default_rng(0), []
    everyone, _ = answers(200_000, generator)
    for _ in range(studies):
        threshold = choose_threshold(*answers(300, generator), 0.9)
        if threshold is not None:
            of_test = select(*answers(500, generator), threshold=threshold, target=0.9)
            chosen = everyone >= threshold
            within = of_test.coverage_low <= chosen.mean() <= of_test.coverage_high
            found.append((within, of_test.low <= everyone[chosen].mean() <= of_test.high))
    return np.mean(found, axis=0)


def test_the_intervals_on_test_cover_whatever_threshold_validation_gave():
    assert (covered(200) >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 200)).all()


@pytest.mark.slow
def test_the_intervals_on_test_cover_in_95_percent_of_many_simulated_studies():
    assert covered(3000) == pytest.approx([0.95, 0.95], abs=0.015)


@pytest.mark.parametrize(
    ("stated", "hits", "target", "message"),
    [
        ([], [], 0.9, "one or more"),
        ([0.5, 0.6], [True], 0.9, r"shape \(2,\)"),
        ([math.nan], [True], 0.9, "finite"),
        ([0.5], [True], 0, "target 0; allowed: above 0, up to 1"),
        ([0.5], [True], 95, "target 95"),
    ],
)
def test_what_has_no_threshold_is_refused(stated, hits, target, message):
    with pytest.raises(ValueError, match=message):
        choose_threshold(np.array(stated), np.array(hits, bool), target)
