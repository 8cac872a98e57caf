"""How error falls with the number of images: a power law with a floor, and what it says of ten times as many.

error(n) = floor + scale * n ** -exponent, as in Rosenfeld et al., "A Constructive Prediction of the Generalization
Error Across Scales" (arXiv:1909.12673), of which this is the part in the number of images. No training stage imports
this module: editing it retrains nothing.
R rungs: numbers of images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SLOWEST, FASTEST = 0.05, 2.0  # exponents
WITH_FLOOR = 4  # rungs from which on a floor is fitted
GRID, REFINEMENTS = 61, 4  # exponents tried at a time, and how often around the best of them
RESAMPLES = 300


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """Fractions; all three at least 0."""

    floor: float
    scale: float
    exponent: float

    def error(self, images: float) -> float:
        return float(self.floor + self.scale * images**-self.exponent)

    def gain(self, images: float, times: float) -> float:
        """By how much the error falls from `images` to `times` as many."""
        return self.error(images) - self.error(images * times)


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """What the rungs before the last one say of it.

    Attributes:
        error, low, high: by their law, with its 95 % interval.
        missed, missed_low, missed_high: error less the one found, with the 95 % interval of this difference: it holds
            the luck of both.
    """

    error: float
    low: float
    high: float
    missed: float
    missed_low: float
    missed_high: float

    @property
    def agrees(self) -> bool:
        return self.missed_low <= 0 <= self.missed_high


def fit(images: Values, errors: Values, spreads: Values) -> PowerLaw | None:
    """The law with the least squares, each rung's weighed by its standard error; None below two rungs.

    For each exponent, floor and scale are a linear problem of two unknowns that may not be negative; of exponents, the
    best on ever finer grids is taken. Below WITH_FLOOR rungs the floor is 0.

    Args:
        images, errors, spreads: (R,); spreads are standard errors, of which one is taken to be at least a tenth of
            their median: no rung alone shall decide.
    """
    return _fits(images, errors[None], spreads)[0] if len(images) > 1 else None


def interval(
    images: Values, errors: Values, spreads: Values, value: Callable[[PowerLaw], float], *, seed: int
) -> tuple[float, float]:
    """Between which `value` of the law lies in 95 % of laws fitted to errors drawn anew around those found.

    It covers the luck in each rung's error, taken to be normal and the rungs' own; not that another law may hold.

    Raises:
        ValueError: fewer than two rungs.
    """
    if len(images) < 2:
        raise ValueError(f"power_law.interval: {len(images)} rungs; allowed: 2 or more")
    return _middle([value(law) for law in _fits(images, _drawn(errors, spreads, seed), spreads)])


def foretold(images: Values, errors: Values, spreads: Values, *, seed: int) -> Foretold:
    """Hold the law of all rungs but the last against the last one.

    Raises:
        ValueError: fewer than three rungs.
    """
    if len(images) < 3:
        raise ValueError(f"power_law.foretold: {len(images)} rungs; allowed: 3 or more")
    drawn = np.concatenate([errors[None], _drawn(errors, spreads, seed)])
    laws = _fits(images[:-1], drawn[:, :-1], spreads[:-1])
    found = np.array([law.error(float(images[-1])) for law in laws])
    missed = found - drawn[:, -1]
    (low, high), (missed_low, missed_high) = _middle(found[1:]), _middle(missed[1:])
    return Foretold(
        **{"error": float(found[0]), "low": low, "high": high},
        **{"missed": float(missed[0]), "missed_low": missed_low, "missed_high": missed_high},
    )


def _drawn(errors: Values, spreads: Values, seed: int) -> Values:
    """Errors drawn anew, (RESAMPLES, R)."""
    noise = np.random.default_rng(seed).standard_normal((RESAMPLES, len(errors)))
    return np.clip(errors + spreads * noise, 0, 1)


def _middle(values: Sequence[float] | Values) -> tuple[float, float]:
    """Between which 95 % of them lie."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _fits(images: Values, errors: Values, spreads: Values) -> list[PowerLaw]:
    """The law of each of S rows of errors, (S, R)."""
    weights = 1 / np.maximum(spreads, max(1e-9, 0.1 * float(np.median(spreads))))
    steps = np.linspace(-1, 1, GRID)
    middle, reach = np.full((len(errors), 1), (SLOWEST + FASTEST) / 2), (FASTEST - SLOWEST) / 2
    for _ in range(REFINEMENTS):
        exponents = np.clip(middle + reach * steps, SLOWEST, FASTEST)  # (S, GRID)
        floors, scales, residuals = _solved(images / images.min(), errors * weights, exponents, weights)
        best = residuals.argmin(axis=1)[:, None]
        middle, reach = np.take_along_axis(exponents, best, axis=1), 2 * reach / (GRID - 1)
    floors, scales = (np.take_along_axis(each, best, axis=1)[:, 0] for each in (floors, scales))
    return [
        PowerLaw(floor=float(floor), scale=float(scale * images.min() ** exponent), exponent=float(exponent))
        for floor, scale, exponent in zip(floors, scales, middle[:, 0], strict=True)
    ]


def _solved(images: Values, errors: Values, exponents: Values, weights: Values) -> tuple[Values, Values, Values]:
    """Floor, scale and squared residual of each row (S, R) for each of its exponents (S, G): three times (S, G).

    The normal equations of two columns, a constant and a power; where one would be negative, the other alone.
    """
    powers = images ** -exponents[..., None] * weights  # (S, G, R)
    ones = weights @ weights
    across, own, right = powers @ weights, (powers**2).sum(-1), (powers @ errors[..., None])[..., 0]
    level, squares = (errors @ weights)[:, None], (errors**2).sum(-1)[:, None]
    determinant = ones * own - across**2
    floor, scale = (level * own - across * right) / determinant, (ones * right - across * level) / determinant
    alone = (floor < 0) | (len(images) < WITH_FLOOR)
    floor, scale = np.where(alone, 0, floor), np.where(alone, right / own, scale)
    floor, scale = np.where(scale < 0, level / ones, floor), np.maximum(scale, 0)
    cross = 2 * floor * scale * across - 2 * (floor * level + scale * right)
    return floor, scale, squares + floor**2 * ones + scale**2 * own + cross
