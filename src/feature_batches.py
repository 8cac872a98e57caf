"""Cached features of a frozen backbone in batches. N images, V views, D feature width."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from src import artifacts
from src.batches import shuffle


@dataclass(frozen=True, kw_only=True)
class FeatureBatches:
    """Cached features float16 (V, N, D): epochs cycle through the views, of which the first is clean."""

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    seed: int

    @classmethod
    def load(cls, path: str, device: torch.device, *, seed: int) -> "FeatureBatches":
        """Features as extract_features wrote them; on the CPU they stay on disk, memory-mapped."""
        stored = artifacts.load(path, mmap=True)
        features, labels = stored["features"].to(device), stored["labels"].to(device)
        return cls(features=features, labels=labels, classes=tuple(stored["classes"]), seed=seed)

    def shuffled(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        view = self.features[(epoch - 1) % len(self.features)]
        for chosen in shuffle(len(view), batch_size, self.seed, epoch):
            index = chosen.to(view.device)
            yield view[index].float(), self.labels[index]

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        for features in self.features[0].split(batch_size):
            yield features.float()
