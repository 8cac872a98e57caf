"""Which arm of the ablation is better: differences over seeds, and their intervals.

No training stage imports this module: editing it retrains nothing.
M images, K classes.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t: distribution function and its inverse

from src.base.splits import SPLITS

MOST_SEEDS = 10_000  # beyond which `needed` says no number
NOISE = 1e-9  # of rounding: accuracies that differ at all differ by 1 / M or more


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm minus another, paired by seed; fractions.

    Attributes:
        difference: mean over the seeds that both arms have.
        low, high: the interval, which is a point where all seeds gave the same difference; None below 2 seeds.
        p_value: of no difference, adjusted for the number of comparisons by Holm; 1 below 2 seeds.
        seeds: how many both arms have.
        needed: how many would settle it if the difference and its standard deviation stayed as they are; None where
            it is settled, where those tell nothing (below 2 seeds, no difference, no spread), or above MOST_SEEDS.
    """

    arm: str
    other: str
    difference: float
    low: float | None
    high: float | None
    p_value: float
    seeds: int
    needed: int | None

    @property
    def settled(self) -> bool:
        """Whether there is an interval and it excludes 0; seeds without spread settle nothing, whatever `p_value`."""
        return self.low is not None and self.high is not None and self.low < self.high and self.low * self.high > 0


def seed_accuracies(predictions: Mapping[str, Any], split: str = "test") -> dict[int, float]:
    """Accuracy on `split` by seed, from data/predictions/scaling_ablation/<arm>.pt as loaded.

    Raises:
        ValueError: no image of that split.
    """
    chosen = predictions["split"] == SPLITS.index(split)
    images = int(chosen.sum())
    if not images:
        raise ValueError(f"seed_accuracies: the predictions have no images of {split}")
    labels = predictions["label"][chosen]
    return {
        int(name.removeprefix("seed ")): int((logits[chosen].argmax(dim=1) == labels).sum()) / images
        for name, logits in predictions["logits"].items()
    }


def pairs_of(arms: Sequence[str]) -> list[tuple[str, str]]:
    """Compound against each axis alone, then every arm against the baseline; of those that are among `arms`."""
    axes = [("compound", axis) for axis in ("depth", "width", "resolution") if {"compound", axis} <= set(arms)]
    return axes + [(arm, "baseline") for arm in arms if arm != "baseline" and "baseline" in arms]


def compare(
    accuracies: Mapping[str, Mapping[int, float]], pairs: Sequence[tuple[str, str]], confidence: float = 0.95
) -> list[Comparison]:
    """Paired t intervals of all `pairs`, at levels by which one excludes 0 just where Holm's procedure rejects it.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the
    chance that an interval excludes 0 for any pair that does not differ is at most 1 - `confidence`, whatever the
    other pairs do, if differences are normal. Each interval covers its own difference with `confidence` or more; that
    all do at once is not promised. They cover the chance in training, not the chance in which test images were drawn.

    Args:
        accuracies: arm -> seed -> accuracy, all on the same images.
        pairs: (arm, other); the number of comparisons is theirs, those of a single seed included.

    Raises:
        ValueError: two arms without a seed in common, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"compare: confidence {confidence}; allowed: between 0 and 1")
    samples = [_differences(accuracies, *pair) for pair in pairs]
    levels, adjusted = _holm(np.array([_p_value(sample) for sample in samples]), 1 - confidence)
    return [
        _comparison(pair, sample, level, p_value)
        for pair, sample, level, p_value in zip(pairs, samples, levels.tolist(), adjusted.tolist(), strict=True)
    ]


def _differences(accuracies: Mapping[str, Mapping[int, float]], arm: str, other: str) -> NDArray[np.float64]:
    common = sorted(accuracies[arm].keys() & accuracies[other].keys())
    if not common:
        raise ValueError(
            f"compare: {arm} has seeds {', '.join(map(str, accuracies[arm]))} and {other} "
            f"{', '.join(map(str, accuracies[other]))}; allowed: at least one in common"
        )
    differences = np.array([accuracies[arm][seed] - accuracies[other][seed] for seed in common])
    if np.ptp(differences) <= NOISE:  # else the t of a spread that rounding made is huge
        differences[:] = differences[0] if abs(differences[0]) > NOISE else 0
    return differences


def _p_value(differences: NDArray[np.float64]) -> float:
    """Of Student's paired t test, two-sided; 1 for a single seed, and the limit where there is no spread."""
    if len(differences) < 2:
        return 1.0
    if np.ptp(differences) == 0:
        return float(differences[0] == 0)
    t = abs(differences.mean()) / _standard_error(differences, len(differences))
    return 2 * float(stdtr(len(differences) - 1, -t))


def _holm(p_values: NDArray[np.float64], alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The level that each of m tests gets, and the adjusted p-values; a test is rejected where p <= level.

    The i-th smallest p, from 0, gets alpha / (m - i); from the first that is not rejected on, all get the level of
    that one, since the procedure stops there.
    """
    levels, adjusted = np.empty_like(p_values), np.empty_like(p_values)
    if not len(p_values):
        return levels, adjusted
    order = p_values.argsort(kind="stable")
    left = np.arange(len(p_values), 0, -1)
    kept = p_values[order] > alpha / left
    levels[order] = alpha / np.maximum(left, left[kept.argmax()] if kept.any() else 1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(left * p_values[order]))
    return levels, adjusted


def _comparison(pair: tuple[str, str], differences: NDArray[np.float64], level: float, p_value: float) -> Comparison:
    seeds, mean = len(differences), float(differences.mean())
    mean = mean if abs(mean) > NOISE else 0.0
    low, high, needed = None, None, None
    if seeds > 1 and np.ptp(differences) == 0:
        low = high = mean = float(differences[0])
    elif seeds > 1:
        half = _half_width(differences, seeds, level)
        low, high = mean - half, mean + half
        if low <= 0 <= high:
            candidates = range(seeds + 1, MOST_SEEDS + 1)
            found = bisect_left(candidates, True, key=lambda n: _half_width(differences, n, level) < abs(mean))
            needed = candidates[found] if found < len(candidates) else None
    return Comparison(
        arm=pair[0],
        other=pair[1],
        difference=mean,
        low=low,
        high=high,
        p_value=p_value,
        seeds=seeds,
        needed=needed,
    )


def _standard_error(differences: NDArray[np.float64], seeds: int) -> float:
    """Of the mean of `seeds` differences that spread as these do."""
    return float(differences.std(ddof=1)) / math.sqrt(seeds)


def _half_width(differences: NDArray[np.float64], seeds: int, level: float) -> float:
    """Of the interval of 1 - `level` from `seeds` differences that spread as these do."""
    return float(stdtrit(seeds - 1, 1 - level / 2)) * _standard_error(differences, seeds)
