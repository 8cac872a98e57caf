"""What a study of so many seeds can find: the smallest differences, and how many seeds a difference takes.

An arm's accuracy is taken to be arm + seed + chance, the chance normal and of one deviation in all arms.
No training stage imports this module: editing it retrains nothing.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

# the upper quantile of chi square; Student's t, non-central, and its inverse
from scipy.special import chdtri, nctdtr, stdtrit

POWER = 0.8  # the share of studies that find a difference which is there
BOUND = 0.8  # confidence of the deviation's upper bound
FEWEST_SEEDS = 4  # of a study from which a number of seeds is foretold
MOST_SEEDS = 10_000  # beyond which no number is said
STEPS = 60  # of a bisection


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The chance in training, pooled over all arms.

    Attributes:
        deviation: of one arm's accuracy with one seed, what the seed does to all arms alike left out (fraction).
        degrees: of freedom that it was estimated with; 0: it was not.
        arms: that were pooled.
    """

    deviation: float
    degrees: int
    arms: int

    @property
    def upper(self) -> float:
        """What the deviation is below with a confidence of BOUND.

        A number of seeds from the estimate itself is too small every other time. Browne, "On the use of a pilot sample
        for sample size determination", Statistics in Medicine 14 (1995), who takes a bound of 80 % at least.
        """
        return self.deviation * math.sqrt(self.degrees / float(chdtri(self.degrees, BOUND)))

    def standard_error(self, seeds: int) -> float:
        """Of the difference between two arms with `seeds` in common."""
        return self.deviation * math.sqrt(2 / seeds)


def half_width(spread: Spread, seeds: int, level: float) -> float:
    """Of the interval of 1 - `level` around a difference over `seeds`."""
    return float(stdtrit(spread.degrees, 1 - level / 2)) * spread.standard_error(seeds)


def power(difference: float, *, deviation: float, seeds: int, degrees: int, level: float) -> float:
    """The share of studies that settle, at `level`, that two arms differ which differ by `difference` in truth."""
    away = abs(difference) / (deviation * math.sqrt(2 / seeds))
    missed = float(nctdtr(degrees, away, stdtrit(degrees, 1 - level / 2)))
    return 1.0 if math.isnan(missed) else 1 - missed  # it is nan where it is 0 to all digits, far away


def detectable(spread: Spread, seeds: int, level: float) -> float:
    """The difference that a POWER of studies like this one find, if the deviation is at its upper bound."""

    def enough(difference: float) -> bool:
        found = power(difference, deviation=spread.upper, seeds=seeds, degrees=spread.degrees, level=level)
        return found >= POWER

    low, high = 0.0, half_width(spread, seeds, level)
    while not enough(high):
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def seeds_needed(difference: float, spread: Spread, seeds: int, level: float) -> int | None:
    """How many seeds give a POWER to find `difference`, with all arms, if the deviation is at its upper bound.

    None for a study of fewer than FEWEST_SEEDS, without a difference or a spread, and above MOST_SEEDS.
    """
    if seeds < FEWEST_SEEDS or not difference or not spread.deviation:
        return None

    def enough(count: int) -> bool:
        degrees = (spread.arms - 1) * (count - 1)
        return power(difference, deviation=spread.upper, seeds=count, degrees=degrees, level=level) >= POWER

    counts = range(seeds + 1, MOST_SEEDS + 1)
    first = bisect_left(counts, True, key=enough)
    return counts[first] if first < len(counts) else None
