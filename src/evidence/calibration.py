"""Whether a classifier is as often right as it says, and the one number that mends most of it.

No training stage imports this module: editing it retrains nothing.
N images, K classes, B bins.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp, ndtr
from scipy.stats import binom, rankdata

from src.evidence.intervals import proportion
from src.evidence.scores import Logits, check

BINS = 15
COLDEST, HOTTEST = 0.01, 100.0  # temperatures
QUANTILE = NormalDist().inv_cdf(0.975)
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]  # mean and variance of each bin, (B,)
LEAST, MOST = 1e-9, 2.0**20  # multiples between which an end is sought; at 0, one bin without a mistake is no surprise
PRIOR = 2.0  # images a bin, as one without a mistake had a chance of one


@dataclass(frozen=True, kw_only=True)
class CalibrationError:
    """Fractions; confidence and accuracy differ by this much on average over the bins.

    Attributes:
        error: as it is usually given; above the truth, most of all where the truth is near 0.
        debiased: less what chance adds to it, and no less than 0.
        low, high: the interval of the truth; `error` may lie above it.
    """

    error: float
    debiased: float
    low: float
    high: float


def fit_temperature(logits: Logits, labels: NDArray[np.int64]) -> float:
    """The T by which softmax(logits / T) has the least log loss, to be fitted on validation; below 1 it sharpens.

    Guo et al., "On Calibration of Modern Neural Networks" (arXiv:1706.04599), section 4.2. The loss is convex in 1 / T,
    so it has one minimum in log T. Any number of classes, whether or not each has images. 1 where every image is right:
    the loss then falls for ever as T does, and says nothing of T. HOTTEST at most, where guessing costs less.

    Raises:
        ValueError: as of `scores.check`.
    """
    check(logits, labels)
    margins = logits.astype(np.float64) - logits[np.arange(len(labels)), labels][:, None]  # (N, K)
    if margins.max() <= 0:
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(logsumexp(margins / math.exp(log_temperature), axis=1).mean())

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def reliability_bins(confidences: NDArray[np.float64], hits: NDArray[np.bool_], bins: int = BINS) -> pd.DataFrame:
    """Accuracy by confidence, in bins of as many images each as ties allow: equal confidences share a bin.

    Args:
        confidences: (N,), of the class that was named.
        hits: (N,), whether it was right.

    Returns:
        A row per bin that has images, by rising confidence: images, confidence (mean), accuracy, and low, high: its
        95 % Wilson interval.

    Raises:
        ValueError: no images, other shapes, no bins, or confidences outside [0, 1].
    """
    if not len(hits) or confidences.shape != hits.shape or bins < 1:
        raise ValueError(
            f"reliability_bins: confidences {confidences.shape}, hits {hits.shape}, {bins} bins; "
            "allowed: as many of each, one or more, and one bin or more"
        )
    if not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError(f"reliability_bins: confidences up to {confidences.max()}; allowed: 0 to 1")
    bin_of = ((rankdata(confidences) - 0.5) * bins / len(hits)).astype(np.int64)
    counts, rights, sums = (np.bincount(bin_of, weights, bins) for weights in (None, hits, confidences))
    rows = [
        {"confidence": total / count, **proportion(int(right), int(count))}
        for count, right, total in zip(counts, rights, sums, strict=True)
        if count
    ]
    return pd.DataFrame(rows)[["images", "confidence", "accuracy", "low", "high"]]


def calibration_error(bins: pd.DataFrame) -> CalibrationError:
    """The expected calibration error of `reliability_bins`, without the bias that chance adds, and with an interval.

    The gap of a bin, confidence less accuracy, is known up to an error of known spread, and the mean of an absolute
    value rises with that spread. `debiased` takes away the rise that the gaps found would have: Kumar, Liang and Ma,
    "Verified Uncertainty Calibration" (arXiv:1909.10155), whose code draws it for this norm; here is what their draws
    tend to. Near 0 about half of the bias stays.

    The interval is of the error that these bins have in truth; what finer bins would show is not in it. With four
    images a bin it was seen to cover 85 %, not 95.
    """
    weights = (bins["images"] / bins["images"].sum()).to_numpy()
    gaps = (bins["confidence"] - bins["accuracy"]).to_numpy()
    error = float(weights @ np.abs(gaps))
    debiased = max(0.0, 2 * error - float(weights @ _folded(gaps, _spreads(bins, 0))[0]))
    low, high = _error_interval(bins, gaps, weights)
    return CalibrationError(error=error, debiased=debiased, low=min(low, debiased), high=max(high, debiased))


def _error_interval(bins: pd.DataFrame, gaps: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the error that these bins have in truth: of the errors under which the one found is not rare.

    In truth the gaps are taken to be a multiple of those found, or of their spreads where these are larger. The
    bootstrap does not serve: a resample has the bias of chance twice, and its percentiles miss nearly all small errors.
    The lower end is found with the larger spreads of Wilson's intervals, since larger ones explain more by chance, and
    the upper end with smaller ones. These are too small where a classifier is surer than it should be and hardly errs:
    most bins then show no mistake. So the upper end is no lower than if all bins, but those that plainly are the
    opposite, were as over-sure as a multiple says.
    """
    wilson = ((bins["high"] - bins["low"]) / (2 * QUANTILE)).to_numpy()
    error, shape = float(weights @ np.abs(gaps)), np.maximum(np.abs(gaps), wilson)

    def edge(moments: Callable[[float], Moments], quantile: float) -> float:
        """The multiple under which the error found is `quantile` standard deviations above what is expected."""

        def away(multiple: float) -> float:
            means, variances = moments(multiple)
            return float(weights @ means) + quantile * math.sqrt(float(np.square(weights) @ variances)) - error

        if away(LEAST) >= 0:
            return 0.0
        most = 1.0
        while away(most) < 0 and most < MOST:
            most *= 2
        return float(brentq(away, LEAST, most)) if away(most) >= 0 else most

    def normal(multiple: float) -> Moments:
        return _folded(multiple * shape, _spreads(bins, PRIOR))

    def over_sure(multiple: float) -> Moments:
        known, others = normal(multiple), _over_sure(bins, multiple * shape)
        return np.where(gaps < -wilson, known[0], others[0]), np.where(gaps < -wilson, known[1], others[1])

    low = edge(lambda multiple: _folded(multiple * shape, wilson), QUANTILE)
    high = max(edge(normal, -QUANTILE), edge(over_sure, -QUANTILE))
    return low * float(weights @ shape), min(1.0, high * float(weights @ shape))


def _over_sure(bins: pd.DataFrame, gaps: NDArray[np.float64]) -> Moments:
    """Mean and variance of the absolute gap found in bins that are right by `gaps` less often than they say."""
    moments = []
    for count, stated, gap in zip(bins["images"], bins["confidence"], gaps, strict=True):
        rights = np.arange(count + 1)
        shares, found = binom.pmf(rights, count, max(0.0, stated - gap)), np.abs(stated - rights / count)
        mean = float(shares @ found)
        moments.append((mean, float(shares @ np.square(found - mean))))
    means, variances = np.array(moments).T
    return means, variances


def _spreads(bins: pd.DataFrame, prior: float) -> NDArray[np.float64]:
    """Standard error of each bin's accuracy, as if `prior` images more had been right as often as they said, (B,)."""
    images, accuracy, stated = (bins[name].to_numpy() for name in ("images", "accuracy", "confidence"))
    share = (accuracy * images + stated * prior) / (images + prior)
    spreads: NDArray[np.float64] = np.sqrt(share * (1 - share) / images)
    return spreads


def _folded(gaps: NDArray[np.float64], spreads: NDArray[np.float64]) -> Moments:
    """Mean and variance of the absolute value of a normal variable around each gap, each (B,).

    Leone, Nelson and Nottingham, "The Folded Normal Distribution", Technometrics 3 (1961).
    """
    sizes = np.abs(gaps)
    ratios = np.divide(sizes, spreads, out=np.full_like(sizes, np.inf), where=spreads > 0)
    means = spreads * math.sqrt(2 / math.pi) * np.exp(-np.square(ratios) / 2) + sizes * (1 - 2 * ndtr(-ratios))
    return means, np.maximum(0, np.square(sizes) + np.square(spreads) - np.square(means))
