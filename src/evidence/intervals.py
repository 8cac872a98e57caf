"""How sure an accuracy is: intervals of proportions. N images."""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any


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


def intervals_overlap(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether the intervals from `low` to `high` share a point; where they do not, the two accuracies differ."""
    return bool(first["low"] <= second["high"] and second["low"] <= first["high"])


def proportion(successes: int, images: int) -> dict[str, float]:
    low, high = wilson_interval(successes, images)
    return {"images": images, "accuracy": successes / images, "low": low, "high": high}
