"""How each class fares, and the accuracy in which each class weighs the same.

No training stage imports this module: editing it retrains nothing.
K classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.base.proportions import wilson_interval


def per_class(matrix: NDArray[np.int64], classes: Sequence[str]) -> pd.DataFrame:
    """Recall, precision and F1 of each class.

    Args:
        matrix: image counts (K, K), actual class by row, named class by column (`answers.confusion_matrix`).

    Returns:
        A row per class, in their order: class, images, named (as which images were), recall, recall_low, recall_high,
        precision, precision_low, precision_high (95 % Wilson intervals), f1, which is no proportion of images. Recall
        is nan without an image of the class, precision where no image was named so, F1 where neither.
    """
    right, images, named = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    table = pd.DataFrame({"class": list(classes), "images": images, "named": named})
    for name, totals in (("recall", images), ("precision", named)):
        table[[name, f"{name}_low", f"{name}_high"]] = _shares(right, totals)
    table["f1"] = np.where(images + named, 2 * right / np.maximum(images + named, 1), np.nan)
    return table


def balanced_accuracy(matrix: NDArray[np.int64], confidence: float = 0.95) -> dict[str, float]:
    """The mean recall of the classes that have images, with its interval; `matrix` as of `per_class`.

    Of two intervals the wider on each side. Zou, Huang and Zhang, "A note on confidence interval estimation for a
    linear function of binomial proportions", Computational Statistics & Data Analysis 53 (2009), from Wilson's of each
    class: right where one small class decides, too narrow for many classes of an image or two. Wilson's for as many
    images as the weighted mean is worth (Kish, "Survey Sampling", 1965) is right there, and for equal classes.

    Returns:
        accuracy, low, high: fractions; classes: how many have images.

    Raises:
        ValueError: no images.
    """
    images = matrix.sum(axis=1)
    present = images > 0
    if not present.any():
        raise ValueError("balanced_accuracy: a confusion matrix without images; allowed: one or more")
    right, images = matrix.diagonal()[present], images[present]
    recalls, count = right / images, len(images)
    cells = zip(right.tolist(), images.tolist(), strict=True)
    bounds = np.array([wilson_interval(*cell, confidence) for cell in cells])  # (K, 2)
    below, above = (np.sqrt(np.square(bounds.T - recalls).sum(axis=1)) / count).tolist()
    mean, worth = float(recalls.mean()), float(count**2 / (1 / images).sum())
    low, high = wilson_interval(mean * worth, worth, confidence)  # type: ignore[arg-type]  # no whole numbers of images
    return {"accuracy": mean, "low": min(low, mean - below), "high": max(high, mean + above), "classes": count}


def _shares(parts: NDArray[np.int64], totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share, low, high of each, (K, 3); nan where the total is 0."""
    shares = np.full((len(parts), 3), np.nan)
    for row in np.flatnonzero(totals):
        part, total = int(parts[row]), int(totals[row])
        shares[row] = part / total, *wilson_interval(part, total)
    return shares
