"""What the transfer study asks of methods that named the same images: pairs of them, compared image by image.

No training stage imports this module: editing it retrains nothing.
N images.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from src.base.splits import SPLITS
from src.evidence import paired, repeated
from src.evidence.paired import Difference, Right
from src.evidence.repeated import Repeated

MAIN = ("finetuned", "frozen")  # what the study is for: asked first, and so alone
BESIDE = (("frozen", "nearest_mean"), ("frozen", "nearest_neighbours"))  # what training a head brings: two at once


def right_on_test(predictions: Mapping[str, Any]) -> dict[str, Right]:
    """Which test images each method names right, bool (N,), from predictions as `answers.joined` has them."""
    chosen = predictions["split"] == SPLITS.index("test")
    labels = predictions["label"][chosen]
    return {name: (each[chosen].argmax(dim=1) == labels).numpy() for name, each in predictions["logits"].items()}


def differences(right: Mapping[str, Right]) -> list[Difference]:
    """MAIN, and then BESIDE corrected for being two, for the better of the two is what people look at."""
    return [*paired.compare(right, [MAIN]), *paired.compare(right, BESIDE)]


def over_seeds(predictions: Mapping[str, Any], other: Right) -> dict[str, Repeated]:
    """The accuracy of all trainings, and what they are above the frozen backbone, on test.

    Args:
        predictions: data/predictions/finetune_repeats.pt as loaded: a method is a seed.
        other: which test images the frozen backbone names right.
    """
    right = np.stack(list(right_on_test(predictions).values()))
    return {"accuracy": repeated.accuracy(right), "difference": repeated.difference(right, other)}


def as_rows(found: Iterable[Difference]) -> list[dict[str, Any]]:
    """Differences as rows of a CSV."""
    rows = []
    for each in found:
        values = asdict(each)
        values["first_alone"], values["second_alone"] = values.pop("alone")
        rows.append(values)
    return rows


def from_rows(rows: pd.DataFrame) -> list[Difference]:
    """What `as_rows` made."""
    return [
        Difference(**values | {"alone": (first, second)})
        for row in rows.to_dict("records")
        for values in [{str(key): value for key, value in row.items()}]
        for first, second in [(values.pop("first_alone"), values.pop("second_alone"))]
    ]
