"""How sure a mean over images is that is no proportion: a loss, or its difference between two methods.

No training stage imports this module: editing it retrains nothing.
N images.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

STRAIGHT = 1e-6  # asymmetry below which Hall's curve is a straight line, to all digits that count


def mean_interval(
    values: NDArray[np.float64], *, confidence: float = 0.95, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """The interval of the mean of `values`, one per image: Student's t, with the skewness of the values taken out.

    Hall, "On the Removal of Skewness by Transformation", J. R. Statist. Soc. B 54 (1992), the cubic, monotone one. A
    few images have most of a log loss, and then a symmetric interval, and the bootstrap's percentiles more so, miss too
    often on the low side; a studentised bootstrap reaches to a hundred times the mean where three images have it all.
    Where all values are equal it is that point: a mistake that no image showed is not in it.

    Paired: of two methods on the same images, give the differences by image.

    Args:
        within: what a mean of such values can be.

    Raises:
        ValueError: fewer than two values, or a confidence outside (0, 1).
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"mean_interval: values of shape {values.shape}; allowed: (images,), of two images or more")
    if not 0 < confidence < 1:
        raise ValueError(f"mean_interval: confidence {confidence}; allowed: between 0 and 1")
    mean, count = float(values.mean()), len(values)
    centred = values - mean  # the squares of small differences of large values would be rounded away
    error = float(centred.std(ddof=1)) / math.sqrt(count)
    if not error:
        return mean, mean
    skewness = float(np.mean((centred / centred.std()) ** 3))
    below, above = (_as_drawn(sign * _quantile(count, confidence), skewness / math.sqrt(count)) for sign in (1, -1))
    return max(within[0], mean - error * below), min(within[1], mean - error * above)


def _quantile(count: int, confidence: float) -> float:
    return float(stdtrit(count - 1, (1 + confidence) / 2))


def _as_drawn(even: float, asymmetry: float) -> float:
    """The t whose skewness, taken out, leaves `even`: s = t + g (t^2 / 3 + 1 / 6) + g^2 t^3 / 27, solved for t."""
    if abs(asymmetry) < STRAIGHT:
        return even
    return 3 / asymmetry * (math.cbrt(1 + asymmetry * (even - asymmetry / 6)) - 1)
