"""Whether the copy in 8 bits is good enough: validation decides, and test says what it is worth.

N images, S x S stored pixels, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from src.base.randomness import generator
from src.base.splits import Split
from src.evidence import paired
from src.interface.params import Export
from src.use import answering, exporting, judging, quantising, verifying
from src.use.answering import Model
from src.use.judging import Calibrated, Labels
from src.use.verifying import Advance, Images

OFF = "export.calibration_images is 0"
LITE = (
    "squeeze-and-excitation and SiLU have a wider range than 8 bits can hold. EfficientNet-Lite has neither "
    "(backbone.name=efficientnet_lite0)"
)


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A copy in 8 bits.

    Attributes:
        content: of its file, also where it is refused.
        model: that, ready to run; None where none was made.
        refused: why it is not to be used; empty where it is.
        metrics: accuracies and the paired difference, fractions; empty where none was made.
    """

    content: bytes
    model: Model | None
    refused: str
    metrics: Mapping[str, Any]

    @property
    def verdict(self) -> dict[str, Any]:
        return {"accepted": not self.refused, "reason": self.refused or None}


def attempt(
    graph: onnx.ModelProto,
    facts: Mapping[str, Any],
    train: Split,
    images: Mapping[str, Images],
    labels: Labels,
    exact: Calibrated,
    settings: Export,
    advance: Advance,
) -> Copy:
    """Quantise `graph`, whose answers are `exact`, with ranges from images of train, and judge it on val and test."""
    if not settings.calibration_images:
        return Copy(content=b"", model=None, refused=OFF, metrics={})
    order = torch.randperm(len(train.images), generator=generator(0, "calibration"))
    chosen = train.images[order[: settings.calibration_images]].numpy()
    coarse = quantising.quantised(graph, chosen)
    model = answering.load(exporting.described(coarse, facts), threads=torch.get_num_threads())
    found = {split: _logits(model, each, advance) for split, each in images.items()}
    accuracy = {split: float(judging.hits(each, labels[split]).mean()) for split, each in found.items()}
    before = float(judging.hits(exact.logits["val"], labels["val"]).mean())
    refused = reason(before - accuracy["val"], settings.int8_tolerance, str(facts["backbone"]))
    right = {"int8": judging.hits(found["test"], labels["test"])}
    (pair,) = paired.compare(right | {"exact": judging.hits(exact.logits["test"], labels["test"])})
    own = judging.threshold(found, labels, settings.target)
    content = exporting.described(coarse, {**facts, "precision": "int8", "threshold": own})
    scores = {f"{split}_accuracy": share for split, share in accuracy.items()}
    scores |= {"difference": pair.difference, "low": pair.low, "high": pair.high, "accepted": int(not refused)}
    return Copy(content=content, model=model, refused=refused, metrics=scores)


def reason(loss: float, tolerance: float, backbone: str) -> str:
    """Why a copy that names `loss` (fraction) fewer images of validation right is refused; empty where it is not."""
    if loss <= tolerance:
        return ""
    said = f"it loses {100 * loss:.1f} points on validation; export.int8_tolerance allows {100 * tolerance:g}"
    excited = backbone.startswith("efficientnet") and "lite" not in backbone
    return f"{said}. {LITE}" if excited else said


def _logits(model: Model, images: Images, advance: Advance) -> NDArray[np.float32]:
    found = []
    for batch in verifying.logits(model, images):
        found.append(batch)
        advance(len(batch))
    return np.concatenate(found)
