"""The interval of a mean: against a loop over resamples, Student's t, and simulated studies."""

import numpy as np
import pytest
from scipy import stats

from src.evidence import resampling
from src.evidence.resampling import mean_interval


def losses(generator, *shape):
    """As a good classifier has them: most near 0, a few large; their mean is `EXPECTED`."""
    return np.logaddexp(0, -generator.normal(4, 2.5, shape))


EXPECTED = float(stats.norm(4, 2.5).expect(lambda margin: np.logaddexp(0, -margin)))


def test_it_is_what_a_loop_over_resamples_gives():
    values = losses(np.random.default_rng(0), 50)
    drawn, ratios = np.random.default_rng(7).integers(50, size=(300, 50), dtype=np.int32), []
    for rows in drawn:
        sample = values[rows]
        ratios.append((sample.mean() - values.mean()) / stats.sem(sample))
    low, high = (values.mean() - np.quantile(ratios, share) * stats.sem(values) for share in (0.95, 0.05))
    assert mean_interval(values, seed=7, resamples=300, confidence=0.9) == pytest.approx((low, high))


def test_of_many_images_it_is_students_interval():
    values = np.random.default_rng(1).normal(size=10_000)
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert mean_interval(values, seed=0, resamples=4000) == pytest.approx(expected, abs=1e-3)


def test_a_seed_draws_the_same_images_and_another_seed_others():
    values = losses(np.random.default_rng(2), 80)
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3) != mean_interval(values, seed=4)


@pytest.mark.parametrize(("factor", "shift"), [(2.5, 1e6), (-1.0, 3.0)])
def test_it_moves_with_the_values(factor, shift):
    """Of a difference the other way round it is the mirror image."""
    values = losses(np.random.default_rng(3), 80)
    moved = sorted(shift + factor * end for end in mean_interval(values, seed=0))
    assert mean_interval(shift + factor * values, seed=0) == pytest.approx(moved, rel=1e-9)


def test_of_two_methods_the_paired_difference_is_surer_than_either():
    generator = np.random.default_rng(4)
    shared = losses(generator, 500)
    first, second = (shared + 0.05 * generator.random(500) for _ in range(2))
    widths = [np.diff(mean_interval(values, seed=0))[0] for values in (first - second, first, second)]
    assert widths[0] < min(widths[1:]) / 5


def test_many_images_in_little_memory_give_what_few_at_once_give(monkeypatch):
    values = losses(np.random.default_rng(5), 40)
    at_once = mean_interval(values, seed=0, resamples=4000)
    monkeypatch.setattr(resampling, "AT_ONCE", 300)
    assert mean_interval(values, seed=0, resamples=4000) == pytest.approx(at_once, rel=0.1)


def test_where_all_images_cost_the_same_it_is_that_point():
    assert mean_interval(np.full(20, 0.3), seed=0) == pytest.approx((0.3, 0.3))


def test_two_images_have_a_finite_interval_around_their_mean():
    low, high = mean_interval(np.array([0.1, 0.5]), seed=0)
    assert np.isfinite([low, high]).all()
    assert low <= 0.3 <= high


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        (np.ones(1), {}, "two images or more"),
        (np.ones((5, 2)), {}, r"shape \(5, 2\)"),
        (np.ones(5), {"resamples": 99}, "99 resamples"),
        (np.ones(5), {"confidence": 1}, "confidence 1"),
    ],
)
def test_what_has_no_interval_is_refused(values, more, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, seed=0, **more)


def covered(images, studies, resamples):
    samples = losses(np.random.default_rng(6), studies, images)
    found = [mean_interval(values, seed=number, resamples=resamples) for number, values in enumerate(samples)]
    return np.mean([low <= EXPECTED <= high for low, high in found])


@pytest.mark.parametrize(("images", "least"), [(100, 0.92), (1000, 0.94)])
def test_it_covers_the_log_loss_in_nearly_all_simulated_studies(images, least):
    assert covered(images, 200, 400) >= least - 3 * np.sqrt(0.05 * 0.95 / 200)


@pytest.mark.slow
@pytest.mark.parametrize(("images", "least"), [(50, 0.90), (100, 0.92), (1000, 0.94)])
def test_it_covers_the_log_loss_in_95_percent_of_many_simulated_studies(images, least):
    assert covered(images, 1500, 1000) >= least
