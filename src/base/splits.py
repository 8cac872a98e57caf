"""Labelled images as stages pass them on: one file per split. N images, C channels, H x W pixels."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from src.base.artifacts import load_input, save

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Labelled images.

    Attributes:
        images: uint8 of shape (N, C, H, W), 0 to 255.
        labels: int64 of shape (N,), indices into classes.
        classes: the K class names, the same in every split.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


def save_split(split: Split, path: str | Path) -> None:
    save({"images": split.images, "labels": split.labels, "classes": split.classes}, path)


def load_split(path: str | Path) -> Split:
    """Read what `save_split` wrote, as `load_input` does."""
    return Split(**load_input(path))
