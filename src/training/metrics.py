"""Accuracy and loss, and the predictions a stage leaves behind: what training needs, and little else.

N images, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.base.batches import Batches
from src.base.splits import SPLITS


def score(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy (fraction) and mean cross-entropy (nats) of logits (N, K) against labels (N,)."""
    labels = labels.to(logits.device)
    return {
        "accuracy": (logits.argmax(1) == labels).sum().item() / len(labels),
        "loss": F.cross_entropy(logits, labels).item(),
    }


def headed(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """`found` of a stage after its answer: accuracy on test, or on validation where it sees no test.

    DVC writes a metric without its file's name where no other file has one of that name. So `name` is the stage's
    alone; where it means something else in `found`, as an arm's `depth` does, it ends in `_accuracy`.
    """
    return {f"{name}_accuracy" if name in found else name: found.get("test", found["val"])["accuracy"], **found}


def evaluate(
    method: str, splits: Mapping[str, Batches], predict: Callable[[Batches], Tensor], classes: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predictions of `method` over all splits, and its accuracy and loss on each; the one time that test is scored."""
    logits = {name: predict(split) for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items()}
    scores = {name: score(logits[name], labels[name]) for name in splits}
    return collect_predictions({method: logits}, labels, classes), scores


def collect_predictions(
    logits: Mapping[str, Mapping[str, Tensor]], labels: Mapping[str, Tensor], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Per-image predictions as one table of tensors, over the splits that `labels` names, in the order of SPLITS.

    Args:
        logits: method -> split -> float32 of shape (N, K).
        labels: split -> int64 of shape (N,).
        classes: the K names.

    Returns:
        classes, and with M images in all: label (M,), split (M,) as an index into SPLITS, index (M,) within the split,
        and logits, method -> (M, K).
    """
    splits = [split for split in SPLITS if split in labels]
    counts = torch.tensor([len(labels[split]) for split in splits])
    numbers = torch.tensor([SPLITS.index(split) for split in splits])
    return {
        "classes": classes,
        "label": torch.cat([labels[split].cpu() for split in splits]),
        "split": torch.repeat_interleave(numbers, counts),
        "index": torch.cat([torch.arange(int(count)) for count in counts]),
        "logits": {method: torch.cat([by[split].cpu() for split in splits]) for method, by in logits.items()},
    }
