"""What an exported model is worth: its temperature and threshold from validation, its accuracy, its 8-bit copy's loss.

N images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.evidence import calibration, scores, selective

Logits = Mapping[str, NDArray[np.float32]]  # split -> (N, K), over their temperature where nothing else is said
Labels = Mapping[str, NDArray[np.int64]]  # split -> (N,)
JUDGED = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Logits over the temperature that validation has, and the confidence from which on its answers are right enough.

    Attributes:
        threshold: None where none is.
    """

    temperature: float
    logits: Logits
    threshold: float | None


def calibrated(logits: Logits, labels: Labels, target: float) -> Calibrated:
    """Args: `logits` as the network has them; `target`: the accuracy of those answers (fraction)."""
    temperature = float(np.float32(calibration.fit_temperature(logits["val"], labels["val"])))  # as the graph has it
    cooled = {split: (each / np.float32(temperature)).astype(np.float32) for split, each in logits.items()}
    return Calibrated(temperature=temperature, logits=cooled, threshold=threshold(cooled, labels, target))


def threshold(logits: Logits, labels: Labels, target: float) -> float | None:
    return selective.choose_threshold(scores.confidences(logits["val"]), hits(logits["val"], labels["val"]), target)


def hits(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image's class is named, (N,)."""
    found: NDArray[np.bool_] = logits.argmax(axis=1) == labels
    return found


def metrics(exported: Calibrated, labels: Labels, agreement: float, target: float) -> dict[str, Any]:
    """Of the exported model; fractions, but for the temperature."""
    chosen = selective.select(
        scores.confidences(exported.logits["test"]),
        hits(exported.logits["test"], labels["test"]),
        threshold=exported.threshold,
        target=target,
    )
    found: dict[str, Any] = {"agreement": agreement, "temperature": exported.temperature}
    found |= {} if exported.threshold is None else {"threshold": exported.threshold}
    found |= {split: {"accuracy": float(hits(exported.logits[split], labels[split]).mean())} for split in JUDGED}
    found["test"] |= {"coverage": chosen.coverage}
    return found
