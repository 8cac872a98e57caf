"""How sure a mean over images is that is no proportion: a loss, or its difference between two methods.

No training stage imports this module: editing it retrains nothing.
N images, B resamples.
"""

import math

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
AT_ONCE = 2_000_000  # drawn images that are held in memory, 16 MB


def mean_interval(
    values: NDArray[np.float64], *, seed: int, resamples: int = RESAMPLES, confidence: float = 0.95
) -> tuple[float, float]:
    """The studentised bootstrap interval of the mean of `values`, one per image.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), 12.5. A few images have most of a log loss, and
    then a symmetric interval, and the bootstrap's percentiles more so, miss too often on the low side. Where all values
    are equal it is that point: a mistake that no image showed is not in it.

    Paired: of two methods on the same images, give the differences by image. One seed draws the same images for any
    values of as many images.

    Raises:
        ValueError: fewer than two values, fewer than 100 resamples, or a confidence outside (0, 1).
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"mean_interval: values of shape {values.shape}; allowed: (images,), of two images or more")
    if resamples < 100 or not 0 < confidence < 1:
        raise ValueError(
            f"mean_interval: {resamples} resamples, confidence {confidence}; allowed: 100 or more, between 0 and 1"
        )
    mean = float(values.mean())
    centred = values - mean  # the squares of small differences of large values would be rounded away
    means, errors = _resampled(centred, seed, resamples)
    error = float(centred.std(ddof=1)) / math.sqrt(len(values))
    spread = errors > 1e-9 * error  # of few images a resample may be one image again and again
    if not error or not spread.any():
        return mean, mean
    tail = (1 - confidence) / 2
    below, above = np.quantile(means[spread] / errors[spread], (tail, 1 - tail)).tolist()
    return mean - above * error, mean - below * error


def _resampled(values: NDArray[np.float64], seed: int, resamples: int) -> tuple[NDArray[np.float64], ...]:
    """The mean of each resample, and its standard error, each (B,)."""
    generator, count = np.random.default_rng(seed), len(values)
    means, errors = np.empty(resamples), np.empty(resamples)
    step = max(1, AT_ONCE // count)
    for start in range(0, resamples, step):
        chunk = slice(start, min(start + step, resamples))
        drawn = values[generator.integers(count, size=(chunk.stop - start, count), dtype=np.int32)]
        means[chunk] = drawn.mean(axis=1)
        errors[chunk] = drawn.std(axis=1, ddof=1) / np.sqrt(count)
    return means, errors
