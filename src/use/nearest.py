"""The training images nearest to one that a person brings, by the frozen features that the study keeps.

N training images, S x S stored pixels, D feature width.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from src.base import artifacts, stage_records
from src.images import augmentation
from src.images.augmentation import View
from src.interface.params import Backbone
from src.models import backbones
from src.transfer import features

IMAGES, FEATURES = "data/images/train.pt", "data/features/train.pt"
RECORD = "data/runs/extract_features.json"
CHUNK = 4096  # training images at a time: of 1 280 features they take 20 MiB


@dataclass(frozen=True, kw_only=True)
class Near:
    """A training image that is near: its place, its class, and the cosine of its features and those asked about."""

    index: int
    label: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Training images as the frozen backbone has them.

    Attributes:
        images: uint8 (N, 3, S, S), read from disk where they are looked at.
        known: their features as they are, float16 (N, D), likewise.
        labels: int64 (N,).
    """

    images: Tensor
    known: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    network: nn.Module
    view: View
    turn: threading.Lock

    def of(self, pixels: NDArray[np.uint8], count: int) -> list[Near]:
        """The `count` nearest of stored pixels (3, S, S), the nearest first."""
        with self.turn, torch.inference_mode():
            asked = self.network(augmentation.render(torch.tensor(pixels)[None], self.view))[0]  # (D,)
            similarity = torch.cat([_cosines(rows.float(), asked) for rows in self.known.split(CHUNK)])  # (N,)
            values, places = similarity.topk(min(count, len(similarity)))
        return [
            Near(index=place, label=self.classes[int(self.labels[place])], similarity=value)
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Of a training image, (3, S, S)."""
        found: NDArray[np.uint8] = self.images[index].numpy()
        return found


def _cosines(rows: Tensor, asked: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(rows, asked[None])


def load(classes: tuple[str, ...], size: int) -> Neighbours:
    """The neighbours that a model of these classes, which takes images of this size, can be shown with.

    Raises:
        ValueError: the study's files are not here, or are another study's.
    """
    if missing := [path for path in (IMAGES, FEATURES, RECORD) if not Path(path).is_file()]:
        raise ValueError(f"{missing[0]} does not exist; allowed: what `dvc repro extract_features` leaves")
    record = stage_records.read(RECORD)
    settings = Backbone(**record.params["backbone"])
    stored, images = artifacts.load(FEATURES, mmap=True), artifacts.load(IMAGES, mmap=True)
    found = tuple(stored["classes"]), images["images"].shape[-1], len(images["images"])
    if found != (classes, size, len(stored["labels"])):
        raise ValueError(f"{FEATURES} and {IMAGES} are not of the model's study; allowed: what `dvc repro` leaves")
    if backbones.describe(settings)["weights_sha256"] != record.facts.get("weights_sha256"):
        raise ValueError(f"{FEATURES} was made with other weights of {settings.name}; allowed: what `dvc repro` leaves")
    backbone = backbones.load_backbone(settings, seed=record.params["seed"])
    return Neighbours(
        images=images["images"],
        known=stored["features"][0],
        labels=stored["labels"],
        classes=classes,
        network=features.freeze(backbone.network),
        view=backbone.view,
        turn=threading.Lock(),
    )
