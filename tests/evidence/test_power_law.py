"""Power laws: scipy's curve_fit as oracle, planted laws, coverage of the gain by simulation, and the corners."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from src.evidence import power_law
from src.evidence.power_law import PowerLaw

IMAGES = np.array([10.0, 30, 100, 300, 1000, 3000, 10000, 45000])
TRUTH = PowerLaw(floor=0.06, scale=1.2, exponent=0.38)
ERRORS = np.array([TRUTH.error(images) for images in IMAGES])
SPREADS = np.array([0.02, 0.012, 0.007, 0.004, 0.003, 0.003, 0.003, 0.003])


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power_law, "RESAMPLES", 100)


def test_a_law_without_noise_is_found() -> None:
    found = power_law.fit(IMAGES, ERRORS, SPREADS)
    assert found is not None
    assert (found.floor, found.scale, found.exponent) == pytest.approx((0.06, 1.2, 0.38), rel=1e-3)
    assert found.gain(45000, 10) == pytest.approx(1.2 * (45000**-0.38 - 450000**-0.38), rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_fits_are_those_of_scipys_curve_fit(seed: int) -> None:
    errors = ERRORS + SPREADS * np.random.default_rng(seed).standard_normal(len(IMAGES))

    def law(images, floor, scale, exponent):  # type: ignore[no-untyped-def]
        return floor + scale * images**-exponent

    bounds = ([0, 0, power_law.SLOWEST], [1, np.inf, power_law.FASTEST])
    best, _ = curve_fit(law, IMAGES, errors, p0=(0.05, 1, 0.4), sigma=SPREADS, bounds=bounds, xtol=1e-12, ftol=1e-12)
    found = power_law.fit(IMAGES, errors, SPREADS)
    assert found is not None
    assert [found.error(images) for images in IMAGES] == pytest.approx(law(IMAGES, *best).tolist(), abs=1e-4)


def test_three_rungs_have_no_floor_and_two_are_met_exactly() -> None:
    found = power_law.fit(IMAGES[:3], ERRORS[:3], SPREADS[:3])
    assert found is not None
    assert found.floor == 0
    two = power_law.fit(IMAGES[:2], ERRORS[:2], SPREADS[:2])
    assert two is not None
    assert two.exponent == pytest.approx(np.log(ERRORS[0] / ERRORS[1]) / np.log(3), rel=1e-3)
    assert power_law.fit(IMAGES[:1], ERRORS[:1], SPREADS[:1]) is None


@pytest.mark.parametrize("error", [0.0, 0.4, 1.0])
def test_what_more_images_do_not_change_gains_next_to_nothing(error: float) -> None:
    """Perfect predictions, constant ones, and hopeless ones."""
    found = power_law.fit(IMAGES, np.full(8, error), np.zeros(8))
    assert found is not None
    assert found.error(1e5) == pytest.approx(error, abs=1e-6)
    assert found.gain(45000, 10) == pytest.approx(0, abs=1e-6)


def test_a_rung_of_no_spread_does_not_decide_alone() -> None:
    errors = ERRORS.copy()
    errors[0] += 0.1
    spreads = SPREADS.copy()
    spreads[0] = 0
    found = power_law.fit(IMAGES, errors, spreads)
    assert found is not None
    assert abs(found.error(45000) - ERRORS[-1]) < 0.02


def test_the_interval_of_the_gain_covers_it(fewer_resamples: None) -> None:
    """Where the law holds, and each rung's luck is its own; 95 % is meant."""
    draws, times = np.random.default_rng(1), 100
    truth = TRUTH.gain(45000, 10)
    covered = 0
    for seed in range(times):
        errors = ERRORS + SPREADS * draws.standard_normal(len(IMAGES))
        low, high = power_law.interval(IMAGES, errors, SPREADS, lambda law: law.gain(45000, 10), seed=seed)
        covered += low <= truth <= high
    assert covered / times >= 0.85


def test_the_last_rung_seldom_contradicts_the_law_that_holds_and_mostly_one_that_does_not(
    fewer_resamples: None,
) -> None:
    draws, agreed, broken = np.random.default_rng(2), 0, 0
    for seed in range(50):
        errors = ERRORS + SPREADS * draws.standard_normal(len(IMAGES))
        agreed += power_law.foretold(IMAGES, errors, SPREADS, seed=seed).agrees
        errors[-1] += 0.02
        broken += not power_law.foretold(IMAGES, errors, SPREADS, seed=seed).agrees
    assert agreed >= 44
    assert broken >= 44


def test_what_is_foretold_is_the_law_of_the_rungs_before() -> None:
    errors = ERRORS + np.array([0, 0, 0, 0, 0, 0, 0, 0.5])
    found, law = (
        power_law.foretold(IMAGES, errors, SPREADS, seed=0),
        power_law.fit(IMAGES[:-1], ERRORS[:-1], SPREADS[:-1]),
    )
    assert law is not None
    assert found.error == law.error(IMAGES[-1])
    assert found.low < found.error < found.high
    assert found.missed == pytest.approx(found.error - errors[-1])
    assert found.missed_low < found.missed < found.missed_high < 0


def test_an_interval_needs_two_rungs() -> None:
    with pytest.raises(ValueError, match="1 rungs; allowed: 2 or more"):
        power_law.interval(IMAGES[:1], ERRORS[:1], SPREADS[:1], lambda law: law.floor, seed=0)
    with pytest.raises(ValueError, match="2 rungs; allowed: 3 or more"):
        power_law.foretold(IMAGES[:2], ERRORS[:2], SPREADS[:2], seed=0)
