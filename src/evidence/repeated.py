"""How sure a mean over training runs and images is: repeats of one training under other seeds, all on the same images.

Two chances at once: other images might have been drawn, and another seed might have trained another network. All runs
share the images, so neither one run's images nor the runs' accuracies tell of both.
No training stage imports this module: editing it retrains nothing.
R runs, N images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit  # Student's t: the inverse of its distribution function

from src.base.proportions import wilson_interval
from src.evidence import paired

CONFIDENCE = 0.95
NORMAL = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """An accuracy, or a difference of two, over runs and images; fractions.

    Attributes:
        low, high: the 95 % interval, over the chance in both; of a single run, over that in images alone.
        p_value: of no difference, by McNemar's exact test, of a single run; else None.
        runs: R.
        deviation: of the means of the runs, as from seed to seed; None of a single run.
    """

    mean: float
    low: float
    high: float
    p_value: float | None
    runs: int
    deviation: float | None

    @property
    def settled(self) -> bool:
        """Whether a difference can be told apart from 0: by the exact test where there is one, else by the interval."""
        if self.p_value is not None:
            return self.p_value <= 1 - CONFIDENCE
        return self.low > 0 or self.high < 0


def accuracy(right: NDArray[np.bool_]) -> Repeated:
    """Of the networks that such training makes, on images like these; `right` is bool (R, N).

    Wilson's interval; of several runs, for as many images as would be as sure (Kish, "Survey Sampling", 1965).

    Raises:
        ValueError: no runs, or no images.
    """
    _check(right)
    share = float(right.mean())
    worth = _worth(share * (1 - share), right.astype(np.float64))
    low, high = wilson_interval(share * worth, worth, CONFIDENCE)  # type: ignore[arg-type]  # no whole numbers
    return Repeated(mean=share, low=low, high=high, p_value=None, runs=len(right), deviation=_deviation(right))


def difference(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> Repeated:
    """Of their mean accuracy minus that of one classifier, `other` bool (N,), on the same images; `right` (R, N).

    Newcombe's paired interval; of several runs, for as many images as would be as sure. The chance in the training of
    `other` is not in it.

    Raises:
        ValueError: as of `accuracy`, or other numbers of images.
    """
    _check(right)
    if other.shape != right.shape[1:]:
        raise ValueError(f"repeated.difference: images {right.shape[1:]} and {other.shape}; allowed: the same")
    runs, images = right.shape
    first, second = float((right & ~other).mean()), float((~right & other).mean())
    both, neither = float((right & other).mean()), float((~right & ~other).mean())
    worth = _worth(first + second - (first - second) ** 2, right.astype(np.float64) - other)
    counts = (share * worth for share in (both, first, second, neither))
    low, high = paired.interval(*counts, confidence=CONFIDENCE)  # type: ignore[arg-type]  # no whole numbers
    p_value = paired.mcnemar(round(first * images), round(second * images)) if runs == 1 else None
    return Repeated(mean=first - second, low=low, high=high, p_value=p_value, runs=runs, deviation=_deviation(right))


def _worth(spread: float, values: NDArray[np.float64]) -> float:
    """How many images a single run would need to be as sure; N of a single run, or where nothing spreads.

    Args:
        spread: variance of one value of `values` (R, N).
    """
    variance = _variance(values) if min(values.shape) > 1 else 0.0
    return spread / variance if spread > 0 and variance > 0 else float(values.shape[1])


def _variance(values: NDArray[np.float64]) -> float:
    """Of the mean of `values` (R, N), as far as a normal quantile goes with it; R and N of two or more.

    Runs and images are crossed random effects with one value a cell: with mean squares A of images, B of runs and E of
    what is left, A / RN is of images and (B - E) / RN of runs, 0 where it is below (Searle, Casella and McCulloch,
    "Variance Components", 1992, 4.3). Few runs know their part badly: each part counts with the square of its own
    Student's quantile, which makes the interval cover as much as it says or more (Banerjee, Sankhya 22, 1960).
    """
    runs, images = values.shape
    mean = float(values.mean())
    by_image, by_run = values.mean(axis=0) - mean, values.mean(axis=1) - mean
    of_images = runs * float(by_image @ by_image) / (images - 1)
    of_runs = images * float(by_run @ by_run) / (runs - 1)
    left = values - mean - by_image - by_run[:, None]
    of_rest = float(np.square(left).sum()) / ((runs - 1) * (images - 1))
    quantiles = stdtrit(np.array([images - 1, runs - 1]), (1 + CONFIDENCE) / 2) / NORMAL
    parts = np.array([of_images, max(0.0, of_runs - of_rest)]) / (runs * images)
    return float(np.square(quantiles) @ parts)


def _deviation(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else None


def _check(right: NDArray[np.bool_]) -> None:
    if right.ndim != 2 or not right.size:
        raise ValueError(
            f"repeated: right answers of shape {right.shape}; allowed: (runs, images), one or more of each"
        )


def as_rows(found: Mapping[str, Repeated]) -> list[dict[str, Any]]:
    """As rows of a CSV, by `what`."""
    return [{"what": what, **vars(each)} for what, each in found.items()]


def from_rows(rows: pd.DataFrame) -> dict[str, Repeated]:
    """What `as_rows` made; empty cells are None."""
    found = {}
    for row in rows.to_dict("records"):
        values: dict[str, Any] = {str(key): None if pd.isna(value) else value for key, value in row.items()}
        what = values.pop("what")
        found[what] = Repeated(**values)
    return found
