"""What each image adds to a score: whether it is right, and what its probabilities cost.

Kept by image, so that any two methods can be compared on the same images (`means.py`). scikit-learn has the means
alone, and for two classes other shapes and scales; the tests hold these against it.
No training stage imports this module: editing it retrains nothing.
N images, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Logits = NDArray[np.floating[Any]]


def top_hits(logits: Logits, labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Whether the class is among the `count` with the highest logits; of equal logits the first comes first, (N,).

    With a count of 1 it is whether argmax is right, and with one of K or more it is always true.

    Raises:
        ValueError: no images, labels outside 0..K-1, logits that are not finite, or a count below 1.
    """
    check(logits, labels)
    if count < 1:
        raise ValueError(f"top_hits: count {count}; allowed: 1 or more")
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    before = (logits > own) | ((logits == own) & earlier)  # (N, K)
    hits: NDArray[np.bool_] = before.sum(axis=1) < count
    return hits


def confidences(logits: Logits, temperature: float = 1.0) -> NDArray[np.float64]:
    """The highest of the probabilities softmax(logits / temperature), (N,)."""
    highest: NDArray[np.float64] = _softened(logits, temperature).max(axis=1)
    return highest


def log_losses(logits: Logits, labels: NDArray[np.int64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Minus the logarithm of the probability of the class, nats, (N,); never infinite. Their mean is the log loss.

    Raises:
        ValueError: as of `top_hits`.
    """
    check(logits, labels)
    log_probabilities = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    losses: NDArray[np.float64] = -log_probabilities[np.arange(len(labels)), labels]
    return losses


def brier_losses(logits: Logits, labels: NDArray[np.int64], temperature: float = 1.0) -> NDArray[np.float64]:
    """Squared distance of the probabilities from the truth, over all K classes, 0 to 2, (N,); their mean is the score.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78 (1950). Of two
    classes it is twice what is often given, the square of one probability's error.

    Raises:
        ValueError: as of `top_hits`.
    """
    check(logits, labels)
    errors = _softened(logits, temperature)
    errors[np.arange(len(labels)), labels] -= 1
    losses: NDArray[np.float64] = np.square(errors).sum(axis=1)
    return losses


def check(logits: Logits, labels: NDArray[np.int64]) -> None:
    """Refuse what no score can be computed from.

    Raises:
        ValueError: no images, other shapes than (N, K) and (N,), labels outside 0..K-1, or logits that are not finite.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.size:
        raise ValueError(
            f"logits of shape {logits.shape} and labels of shape {labels.shape}; "
            "allowed: (images, classes) and (images,), with an image and a class at least"
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}; allowed: 0 to {logits.shape[1] - 1}")
    wrong = ~np.isfinite(logits).all(axis=1)
    if wrong.any():
        raise ValueError(f"logits of image {wrong.argmax()} are not finite, nor of {wrong.sum() - 1} others")


def _softened(logits: Logits, temperature: float) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = softmax(logits.astype(np.float64) / temperature, axis=1)
    return probabilities
