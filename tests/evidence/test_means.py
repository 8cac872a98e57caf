"""The interval of a mean: against Hall's own equation, Student's t, and simulated studies."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from src.evidence.means import mean_interval


def losses(generator, *shape):
    """As a good classifier has them: most near 0, a few large; their mean is `EXPECTED`."""
    return np.logaddexp(0, -generator.normal(4, 2.5, shape))


EXPECTED = float(stats.norm(4, 2.5).expect(lambda margin: np.logaddexp(0, -margin)))


def test_its_ends_are_the_roots_of_halls_cubic():
    """g(t) = t + skewness / sqrt(n) (t^2 / 3 + 1 / 6) + skewness^2 / n t^3 / 27 is as Student's t at both."""
    values = losses(np.random.default_rng(0), 50)
    asymmetry, error = stats.skew(values) / np.sqrt(50), stats.sem(values)
    for end, share in zip(mean_interval(values, confidence=0.9), (0.95, 0.05), strict=True):

        def miss(t, share=share):
            return t + asymmetry * (t**2 / 3 + 1 / 6) + asymmetry**2 * t**3 / 27 - stats.t.ppf(share, 49)

        assert end == pytest.approx(values.mean() - error * brentq(miss, -50, 50))


def test_of_many_images_it_is_students_interval():
    values = np.random.default_rng(1).normal(size=10_000)
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("values", [[0.1, 0.5], [0.1, 0.2, 0.3, 0.4]])
def test_of_even_values_it_is_students_interval_exactly(values):
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert mean_interval(np.array(values)) == pytest.approx(expected)


@pytest.mark.parametrize(("factor", "shift"), [(2.5, 1e6), (-1.0, 3.0)])
def test_it_moves_with_the_values(factor, shift):
    """Of a difference the other way round it is the mirror image."""
    values = losses(np.random.default_rng(3), 80)
    moved = sorted(shift + factor * end for end in mean_interval(values))
    assert mean_interval(shift + factor * values) == pytest.approx(moved, rel=1e-9)


def test_of_two_methods_the_paired_difference_is_surer_than_either():
    generator = np.random.default_rng(4)
    shared = losses(generator, 500)
    first, second = (shared + 0.05 * generator.random(500) for _ in range(2))
    widths = [np.diff(mean_interval(values))[0] for values in (first - second, first, second)]
    assert widths[0] < min(widths[1:]) / 5


def test_where_all_images_cost_the_same_it_is_that_point():
    assert mean_interval(np.full(20, 0.3)) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("mistakes", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("images", [300, 10_000])
def test_where_few_images_have_all_of_a_loss_it_is_near_that_of_their_number(mistakes, images):
    """Of as many rare events, by Poisson's exact interval."""
    values = np.where(np.arange(images) < mistakes, 2.0, 0.0)
    low, high = (end / values.mean() for end in mean_interval(values, within=(0, 2)))
    exact = stats.chi2.ppf([0.025, 0.975], [2 * mistakes, 2 * mistakes + 2]) / 2 / mistakes
    assert 0 <= low <= exact[0] + 0.15
    assert 0.95 * exact[1] < high < 2 * exact[1]


def test_it_ends_where_a_mean_can_be():
    values = np.where(np.arange(300) < 1, 2.0, 0.0)
    assert mean_interval(values)[0] < 0
    assert mean_interval(values, within=(0, 0.02)) == (0, 0.02)


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        (np.ones(1), {}, "two images or more"),
        (np.ones((5, 2)), {}, r"shape \(5, 2\)"),
        (np.ones(5), {"confidence": 1}, "confidence 1"),
    ],
)
def test_what_has_no_interval_is_refused(values, more, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, **more)


@pytest.mark.parametrize(("images", "least"), [(20, 0.88), (50, 0.92), (100, 0.94), (1000, 0.94)])
def test_it_covers_the_log_loss_in_nearly_all_simulated_studies(images, least):
    found = np.array([mean_interval(values) for values in losses(np.random.default_rng(6), 3000, images)])
    assert np.mean((found[:, 0] <= EXPECTED) & (found[:, 1] >= EXPECTED)) >= least


@pytest.mark.parametrize(("images", "share", "least"), [(300, 0.01, 0.92), (300, 0.03, 0.95), (10_000, 0.003, 0.94)])
def test_it_covers_a_loss_that_rare_mistakes_have(images, share, least):
    """Each costs 3 or more nats, all others next to nothing. At 1 % of 300 images, a study in twenty shows none."""
    generator, number = np.random.default_rng(7), 1500
    wrong = generator.random((number, images)) < share
    costs = np.where(wrong, 3 + generator.exponential(size=wrong.shape), 0.01 * generator.random(wrong.shape))
    found, expected = np.array([mean_interval(values) for values in costs]), 4 * share + 0.005 * (1 - share)
    assert np.mean((found[:, 0] <= expected) & (found[:, 1] >= expected)) >= least
