"""Which of several classifiers is better where all named the same images: differences, image by image.

Each image that only one of two names right speaks for that one; images that both name alike say nothing. Overlapping
intervals of two accuracies are no test of it. No training stage imports this module: editing it retrains nothing.
N images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from src.base.proportions import wilson_interval
from src.evidence.holm import holm

Right = NDArray[np.bool_]  # (N,): which images a classifier names right


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy of `first` minus that of `second` on the same images; fractions.

    Attributes:
        low, high: the interval at the level that Holm's procedure leaves this pair.
        p_value: of no difference, exact (McNemar's test), adjusted for the number of pairs by Holm.
        alone: images that only `first`, and that only `second` names right.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float
    alone: tuple[int, int]
    confidence: float = 0.95

    @property
    def settled(self) -> bool:
        """Whether the two can be told apart: by the exact test, with which an interval may disagree at its very end."""
        return self.p_value <= 1 - self.confidence


def compare(
    right: Mapping[str, Right], pairs: Sequence[tuple[str, str]] | None = None, confidence: float = 0.95
) -> list[Difference]:
    """Every pair of classifiers, in their order, or the `pairs` that are asked about, corrected for their number.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the
    chance that any two that do not differ are told apart is at most 1 - `confidence`. They cover the chance in which
    images were drawn, not that in training.

    Raises:
        ValueError: they are not about the same images, or about none.
    """
    if len({len(each) for each in right.values()} | {0}) > 2 or not all(map(len, right.values())):
        sizes = ", ".join(f"{name} {len(each)}" for name, each in right.items())
        raise ValueError(f"paired.compare: images {sizes}; allowed: the same, and at least one")
    pairs = list(combinations(right, 2)) if pairs is None else pairs
    alone = [(int((right[a] & ~right[b]).sum()), int((right[b] & ~right[a]).sum())) for a, b in pairs]
    levels, adjusted = holm(np.array([mcnemar(*counts) for counts in alone]), 1 - confidence)
    found = []
    for (first, second), counts, level, p_value in zip(pairs, alone, levels, adjusted, strict=True):
        both, images = int((right[first] & right[second]).sum()), len(right[first])
        low, high = interval(both, *counts, images - both - sum(counts), confidence=1 - float(level))
        found.append(
            Difference(
                first=first,
                second=second,
                difference=(counts[0] - counts[1]) / images,
                low=low,
                high=high,
                p_value=float(p_value),
                alone=counts,
                confidence=confidence,
            )
        )
    return found


def mcnemar(first: int, second: int) -> float:
    """p, two-sided and exact, of the images that only the first, and only the second, names right.

    McNemar, Psychometrika 12 (1947): without a difference, each such image falls to either with a chance of 1/2.
    """
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def interval(both: int, first: int, second: int, neither: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Of the difference between two accuracies on the same images, from how many both name right, only one, or neither.

    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 17 (1998), method 10: Wilson's intervals of both, joined by their correlation.
    """
    images = both + first + second + neither
    one, other = (both + first) / images, (both + second) / images
    (low, high), (other_low, other_high) = (
        wilson_interval(both + alone, images, confidence) for alone in (first, second)
    )
    correlation = _correlation(both, first, second, neither)
    below = _joined(one - low, other_high - other, correlation)
    above = _joined(high - one, other - other_low, correlation)
    return one - other - below, one - other + above


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))


def _correlation(both: int, first: int, second: int, neither: int) -> float:
    """phi of the two by two table, its numerator corrected towards 0 where it is above it; 0 with an empty margin."""
    images = both + first + second + neither
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    if not margins:
        return 0.0
    product = float(both * neither - first * second)
    if product > 0:
        product = max(0.0, product - images / 2)
    return product / math.sqrt(margins)
