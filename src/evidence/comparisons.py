"""Which arm of the ablation is better: differences over seeds, and their intervals.

No training stage imports this module: editing it retrains nothing.
M images, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr  # Student's t: its distribution function

from src.base.splits import SPLITS
from src.evidence import power
from src.evidence.holm import holm
from src.evidence.power import Spread

NOISE = 1e-9  # of rounding: accuracies that differ at all differ by 1 / M or more


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm minus another, paired by seed; fractions.

    Attributes:
        difference: mean over the seeds that both arms have.
        low, high: the interval, within [-1, 1]; a point where no arm's seeds spread; None below 2 seeds.
        p_value: of no difference, adjusted for the number of comparisons by Holm; 1 below 2 seeds.
        seeds: how many both arms have.
        needed: how many find a difference as large as this one in 80 % of studies (`power.seeds_needed`); None where
            this one is settled, where there are too few seeds to say, or above MOST_SEEDS.
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


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What a study can settle; fractions.

    Attributes:
        spread: the chance in training.
        seeds: that all arms have.
        settled: the smallest difference that is settled whatever the other comparisons are.
        found: the difference, in truth, that 80 % of such studies find.
    """

    spread: Spread
    seeds: int
    settled: float
    found: float


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
    accuracies: Mapping[str, Mapping[int, float]],
    pairs: Sequence[tuple[str, str]],
    confidence: float = 0.95,
    *,
    pooled: Sequence[str] | None = None,
) -> list[Comparison]:
    """t intervals of all `pairs`, paired by seed, at levels by which one excludes 0 just where Holm rejects it.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the
    chance that an interval excludes 0 for any pair that does not differ is at most 1 - `confidence`, whatever the
    other pairs do. Each interval covers its own difference with `confidence` or more; that all do at once is not
    promised. They cover the chance in training, not the chance in which test images were drawn.

    The chance in training is one deviation for all arms (`spread_of`): three seeds of a pair alone would leave two
    degrees of freedom, by which hardly anything is ever settled. It is assumed to be normal, and as large in each arm.

    Args:
        accuracies: arm -> seed -> accuracy, all on the same images; of all arms that trained, also those in no pair.
        pairs: (arm, other); the number of comparisons is theirs, those of a single seed included.
        pooled: arms from which the deviation is taken, where not from all: two that are the same network, trained
            alike, end alike, and would make it look smaller than it is.

    Raises:
        ValueError: two arms without a seed in common, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"compare: confidence {confidence}; allowed: between 0 and 1")
    samples = [_differences(accuracies, *pair) for pair in pairs]
    among = accuracies if pooled is None else {arm: accuracies[arm] for arm in pooled}
    spread, strictest = spread_of(among), (1 - confidence) / max(1, len(pairs))
    levels, adjusted = holm(np.array([_p_value(sample, spread) for sample in samples]), 1 - confidence)
    found = []
    for (arm, other), sample, level, p_value in zip(pairs, samples, levels.tolist(), adjusted.tolist(), strict=True):
        mean, seeds = _mean(sample), len(sample)
        low, high = _interval(mean, seeds, spread, level)
        settled = low is not None and high is not None and low * high > 0
        needed = None if settled else power.seeds_needed(mean, spread, seeds, strictest)
        bounds = {"low": low, "high": high, "p_value": p_value, "needed": needed}
        found.append(Comparison(arm=arm, other=other, difference=mean, seeds=seeds, **bounds))
    return found


def spread_of(accuracies: Mapping[str, Mapping[int, float]]) -> Spread:
    """What is left of accuracies when the mean of each arm, and what each seed adds to all arms, are taken away.

    Least squares on arm + seed; from A arms with the same S seeds, (A - 1)(S - 1) degrees of freedom.
    """
    arms, seeds = list(accuracies), sorted({seed for of_arm in accuracies.values() for seed in of_arm})
    cells = [(arms.index(arm), seeds.index(seed)) for arm in arms for seed in accuracies[arm]]
    if not cells:
        return Spread(deviation=0.0, degrees=0, arms=0)
    rows, columns = np.array(cells).T
    design = np.hstack([np.eye(len(arms))[rows], np.eye(len(seeds))[columns]])
    values = np.array([accuracies[arms[row]][seeds[column]] for row, column in cells])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    degrees, residual = len(cells) - int(rank), float(np.linalg.norm(values - design @ solution))
    deviation = residual / math.sqrt(degrees) if degrees and residual > NOISE else 0.0
    return Spread(deviation=deviation, degrees=degrees, arms=len(arms))


def sensitivity(
    accuracies: Mapping[str, Mapping[int, float]], comparisons: int, confidence: float = 0.95
) -> Sensitivity | None:
    """What a study of these arms and so many comparisons can settle; None where nothing spreads or nothing compares."""
    spread = spread_of(accuracies)
    if not comparisons or not spread.deviation:
        return None
    seeds, level = min(map(len, accuracies.values())), (1 - confidence) / comparisons
    return Sensitivity(
        spread=spread,
        seeds=seeds,
        settled=power.half_width(spread, seeds, level),
        found=power.detectable(spread, seeds, level),
    )


def _differences(accuracies: Mapping[str, Mapping[int, float]], arm: str, other: str) -> NDArray[np.float64]:
    common = sorted(accuracies[arm].keys() & accuracies[other].keys())
    if not common:
        raise ValueError(
            f"compare: {arm} has seeds {', '.join(map(str, accuracies[arm]))} and {other} "
            f"{', '.join(map(str, accuracies[other]))}; allowed: at least one in common"
        )
    return np.array([accuracies[arm][seed] - accuracies[other][seed] for seed in common])


def _mean(differences: NDArray[np.float64]) -> float:
    mean = float(differences.mean())
    return mean if abs(mean) > NOISE else 0.0


def _p_value(differences: NDArray[np.float64], spread: Spread) -> float:
    """Of Student's t test, two-sided; 1 for a single seed, and the limit where nothing spreads."""
    mean, seeds = _mean(differences), len(differences)
    if seeds < 2:
        return 1.0
    if not spread.deviation:
        return float(mean == 0)
    return 2 * float(stdtr(spread.degrees, -abs(mean) / spread.standard_error(seeds)))


def _interval(mean: float, seeds: int, spread: Spread, level: float) -> tuple[float | None, float | None]:
    """No wider than differences of accuracies can be."""
    if seeds < 2:
        return None, None
    half = power.half_width(spread, seeds, level) if spread.deviation else 0.0
    return max(-1.0, mean - half), min(1.0, mean + half)
