"""Did it help, and how sure is that: two experiments' answers to the same images, or their scores over seeds.

One training on each side: by image (`paired.py`), which covers the luck in which images were drawn. Several that differ
in their seed alone: by Student's t over the seeds, which covers the luck in training, on these images.
N images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t: its distribution function, and the inverse of that

from src.evidence import means, paired, scores
from src.evidence.holm import holm
from src.evidence.paired import Right

K = TypeVar("K")
NOISE = 1e-9  # of rounding, in a spread


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One training's answers to N images: which are right, bool (N,), and their log loss, nats (N,)."""

    right: Right
    losses: NDArray[np.float64]

    def mean(self, score: str) -> float:
        return float((self.right if score == "accuracy" else self.losses).mean())


@dataclass(frozen=True, kw_only=True)
class Change:
    """A score of the second side minus that of the first.

    Attributes:
        low, high: of the difference; None where nothing says how sure it is.
        p_value: of no difference, adjusted by Holm; None of a loss by image, and where there is no interval.
        alone: images that the first, and that the second, alone names right; None over seeds, and of a loss.
        over: "images" or "seeds", what the interval covers the luck of; "" where there is none.
        level: the interval's, 0.05 or what Holm's procedure leaves it.
    """

    first: float
    second: float
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    alone: tuple[int, int] | None = None
    over: str = ""
    level: float = 0.05

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def settled(self) -> bool:
        return self.p_value is not None and self.p_value <= 0.05


@dataclass(frozen=True, kw_only=True)
class Sides:
    """`score` ("accuracy" or "loss") of the trainings on two sides, by seed, about the same images."""

    first: Mapping[int, Scored]
    second: Mapping[int, Scored]
    score: str = "accuracy"

    @property
    def single(self) -> bool:
        """Whether images are all the luck that can be judged."""
        return len(self.first) == len(self.second) == 1

    @property
    def pair(self) -> tuple[Scored, Scored]:
        return next(iter(self.first.values())), next(iter(self.second.values()))

    def means(self) -> tuple[dict[int, float], dict[int, float]]:
        one, other = ({seed: run.mean(self.score) for seed, run in runs.items()} for runs in (self.first, self.second))
        return one, other

    def p_value(self) -> float | None:
        if not self.single:
            return seeds_p(*self.means())
        return paired.mcnemar(*self._alone()) if self.score == "accuracy" else None

    def _alone(self) -> tuple[int, int]:
        one, other = (run.right for run in self.pair)
        return int((one & ~other).sum()), int((other & ~one).sum())

    def change(self, level: float = 0.05, p_value: float | None = None) -> Change:
        """With the interval of 1 - `level`, and the p that a correction left."""
        one, other = self.means()
        first, second = _mean(one), _mean(other)
        if not self.single:
            bounds = seeds_interval(one, other, level)
            if bounds and self.score == "accuracy":
                bounds = max(-1.0, bounds[0]), min(1.0, bounds[1])
            found: dict[str, Any] = {"over": "seeds" if bounds else ""}
        elif self.score == "accuracy":
            lost, gained = self._alone()
            right, images = self.pair[0].right, len(self.pair[0].right)
            both = int(right.sum()) - lost
            bounds = paired.interval(both, gained, lost, images - both - lost - gained, confidence=1 - level)
            found = {"over": "images", "alone": (lost, gained)}
        else:
            costs = self.pair[1].losses - self.pair[0].losses
            bounds = means.mean_interval(costs, confidence=1 - level) if len(costs) > 1 else None
            found = {"over": "images" if bounds else ""}
        low, high = bounds or (None, None)
        return Change(first=first, second=second, low=low, high=high, p_value=p_value, level=level, **found)


def settle(tests: Mapping[K, Sides], alpha: float = 0.05) -> dict[K, Change]:
    """Each with the p and the interval that Holm's procedure leaves it among all that have a p."""
    p_values = {key: sides.p_value() for key, sides in tests.items()}
    judged = {key: p for key, p in p_values.items() if p is not None}
    levels, adjusted = holm(np.array(list(judged.values()), dtype=np.float64), alpha)
    known = {key: (float(level), float(p)) for key, level, p in zip(judged, levels, adjusted, strict=True)}
    return {key: sides.change(*known.get(key, (alpha, None))) for key, sides in tests.items()}


def scored(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> Scored:
    """From logits (N, K) and labels (N,)."""
    return Scored(right=logits.argmax(axis=1) == labels, losses=scores.log_losses(logits, labels))


def mean_over_seeds(values: Sequence[float], level: float = 0.05) -> tuple[float, float, float, float]:
    """Mean, standard deviation, and the interval of the mean by Student's t, of two fractions or more."""
    drawn = np.array(values, dtype=np.float64)
    mean, spread = float(drawn.mean()), float(drawn.std(ddof=1))
    half = float(stdtrit(len(drawn) - 1, 1 - level / 2)) * spread / math.sqrt(len(drawn))
    return mean, spread, max(0.0, mean - half), min(1.0, mean + half)


def seeds_p(first: Mapping[int, float], second: Mapping[int, float]) -> float | None:
    """p of no difference, two-sided; None with too few seeds, or with seeds that make no difference at all."""
    error, degrees = _error(first, second)
    if not degrees:
        return None
    return float(2 * stdtr(degrees, -abs(_mean(second) - _mean(first)) / error))


def seeds_interval(first: Mapping[int, float], second: Mapping[int, float], level: float) -> tuple[float, float] | None:
    error, degrees = _error(first, second)
    if not degrees:
        return None
    difference, half = _mean(second) - _mean(first), float(stdtrit(degrees, 1 - level / 2)) * error
    return difference - half, difference + half


def _error(first: Mapping[int, float], second: Mapping[int, float]) -> tuple[float, int]:
    """Standard error of the difference, and its degrees of freedom, 0 where there is none.

    Paired by seed where both sides have the same ones, since those draw the same batches; otherwise the chance in
    training is taken to be as large on both sides, and pooled.
    """
    if first.keys() == second.keys():
        own = np.array([second[seed] - first[seed] for seed in first])
        degrees = len(own) - 1
        error = float(own.std(ddof=1)) / math.sqrt(len(own)) if degrees else 0.0
    else:
        degrees = len(first) + len(second) - 2
        squares = sum(float(np.square(values - values.mean()).sum()) for values in map(_array, (first, second)))
        error = math.sqrt(squares / degrees * (1 / len(first) + 1 / len(second))) if degrees else 0.0
    return (error, degrees) if error > NOISE else (0.0, 0)


def _array(values: Mapping[int, float]) -> NDArray[np.float64]:
    return np.array(list(values.values()), dtype=np.float64)


def _mean(values: Mapping[int, float]) -> float:
    return float(_array(values).mean())
