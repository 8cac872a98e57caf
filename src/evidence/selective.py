"""How many images a classifier can answer if it may pass on those that it is unsure of.

No training stage imports this module: editing it retrains nothing.
N images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.base.proportions import wilson_interval


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What became, on test, of a threshold that was chosen on validation; fractions, with 95 % Wilson intervals.

    Attributes:
        target: accuracy that was asked for.
        threshold: confidence from which on an image is answered; None where none reached the target on validation, and
            then nothing is answered.
        images: of test.
        answered: how many of them.
        coverage, coverage_low, coverage_high: share of images that are answered.
        accuracy, low, high: of the answered; None where none is.
    """

    target: float
    threshold: float | None
    images: int
    answered: int
    coverage: float
    coverage_low: float
    coverage_high: float
    accuracy: float | None
    low: float | None
    high: float | None

    @property
    def held(self) -> bool | None:
        """Whether the target holds on test; None where the interval has it within, or nothing was answered."""
        if self.low is None or self.high is None:
            return None
        return True if self.low >= self.target else False if self.high < self.target else None


def choose_threshold(confidences: NDArray[np.float64], hits: NDArray[np.bool_], target: float) -> float | None:
    """The lowest confidence from which on the images of validation are right in `target` or more of cases.

    It answers the most images; equal confidences are answered together. 0 where that is every image, as less sure ones
    may come; None where no number of the surest images reaches the target. Chosen as the best of many, it promises a
    little much: what it is worth, test says.

    Args:
        confidences: (N,), of the class that was named.
        hits: (N,), whether it was right.

    Raises:
        ValueError: no images, other shapes, confidences that are no numbers, or a target outside (0, 1].
    """
    _check(confidences, hits)
    if not 0 < target <= 1:
        raise ValueError(f"choose_threshold: target {target}; allowed: above 0, up to 1")
    order = np.argsort(-confidences, kind="stable")
    ranked, right = confidences[order], np.cumsum(hits[order])
    ends = np.append(ranked[1:] < ranked[:-1], True)  # the last of equal ones
    reached = np.flatnonzero(ends & (right / np.arange(1, len(right) + 1) >= target))
    if not len(reached):
        return None
    return 0.0 if reached[-1] == len(ranked) - 1 else float(ranked[reached[-1]])


def select(
    confidences: NDArray[np.float64], hits: NDArray[np.bool_], *, threshold: float | None, target: float
) -> Selection:
    """What the `threshold` of `choose_threshold` comes to on test; arguments and errors as there."""
    _check(confidences, hits)
    chosen = np.zeros(len(hits), bool) if threshold is None else confidences >= threshold
    answered, right = int(chosen.sum()), int(hits[chosen].sum())
    coverage_low, coverage_high = wilson_interval(answered, len(hits))
    low, high = wilson_interval(right, answered) if answered else (None, None)
    return Selection(
        target=target,
        threshold=threshold,
        images=len(hits),
        answered=answered,
        coverage=answered / len(hits),
        coverage_low=coverage_low,
        coverage_high=coverage_high,
        accuracy=right / answered if answered else None,
        low=low,
        high=high,
    )


def _check(confidences: NDArray[np.float64], hits: NDArray[np.bool_]) -> None:
    if not len(hits) or confidences.shape != hits.shape or not np.isfinite(confidences).all():
        raise ValueError(
            f"confidences of shape {confidences.shape} and hits of shape {hits.shape}; "
            "allowed: as many of each, one or more, and confidences that are finite"
        )
