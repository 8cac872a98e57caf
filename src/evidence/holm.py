"""Many tests at once: Holm's procedure.

No training stage imports this module: editing it retrains nothing.
"""

import numpy as np
from numpy.typing import NDArray


def holm(p_values: NDArray[np.float64], alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
