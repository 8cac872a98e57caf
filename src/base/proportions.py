"""How sure a share is: Wilson's interval, and Newcombe's of a difference. Imports nothing of the project.

Here, and not in `evidence/`, because the search for coefficients decides by it: its stage depends on this file.
"""

import math
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion, within [0, 1]; sound for few trials and for proportions near 0 and 1.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), without
    continuity correction. It covers the chance in which images were drawn, not the chance in training.

    Raises:
        ValueError: no trials, successes outside 0..trials, or a confidence outside (0, 1).
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(
            f"wilson_interval: {successes} successes in {trials} trials; allowed: 0 <= successes <= trials"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"wilson_interval: confidence {confidence}; allowed: between 0 and 1")
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * share * (1 - share) / trials + (z2 / (2 * trials)) ** 2) / (1 + z2 / trials)
    # rounding would leave 1e-17 where the formula gives exactly 0 or 1
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == trials else centre + half)


def difference_interval(
    first: tuple[int, int], second: tuple[int, int], confidence: float = 0.95
) -> tuple[float, float]:
    """Of the first share minus the second, each as (successes, trials) of trials of its own.

    Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17
    (1998), method 10. Where both answer the same images, whose difficulty they share, it is wider than need be.
    """
    one, other = (successes / trials for successes, trials in (first, second))
    (low, high), (other_low, other_high) = (wilson_interval(*share, confidence) for share in (first, second))
    difference = one - other
    below, above = math.hypot(one - low, other_high - other), math.hypot(high - one, other - other_low)
    return difference - below, difference + above
