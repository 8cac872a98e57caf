"""Cached features of a frozen backbone in batches. N images, V views, D feature width."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from src.base import artifacts
from src.base.batches import own_order
from src.base.distributed import own_part


@dataclass(frozen=True, kw_only=True)
class FeatureBatches:
    """Cached features float16 (V, N, D): epochs cycle through the views, of which the first is clean."""

    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    seed: int

    @classmethod
    def load(cls, path: str, device: torch.device, *, seed: int) -> "FeatureBatches":
        """Features as extract_features wrote them, read as `artifacts.load_input` does."""
        stored = artifacts.load_input(path)
        features, labels = stored["features"].to(device), stored["labels"].to(device)
        return cls(features=features, labels=labels, classes=tuple(stored["classes"]), seed=seed)

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        view = self.features[(epoch - 1) % len(self.features)]
        order, sizes = own_order(len(view), batch_size, seed=self.seed, epoch=epoch, start=start)
        order = order.to(view.device)
        for index, labels in zip(order.split(sizes), self.labels[order].split(sizes), strict=True):
            yield view.index_select(0, index).float(), labels

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        for features in own_part(self.features[0]).split(batch_size):
            yield features.float()
