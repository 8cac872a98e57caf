"""Images that live on the device, rendered for the network batch by batch.

A batch is an index slice: nothing is decoded, resized or copied from the host per epoch.
N images, H x H stored pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from src import augmentation
from src.artifacts import Split
from src.augmentation import View
from src.batches import shuffle
from src.params import Augment
from src.randomness import generator


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Images uint8 (N, 3, H, H) on the device, rendered per batch for `view`, with `augment` when training asks."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    view: View
    augment: Augment
    seed: int

    @classmethod
    def of(cls, split: Split, device: torch.device, *, view: View, augment: Augment, seed: int) -> "ImageBatches":
        images, labels = split.images.to(device), split.labels.to(device)
        return cls(images=images, labels=labels, classes=split.classes, view=view, augment=augment, seed=seed)

    def shuffled(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        draws = augmentation.draw(len(self.images), generator(self.seed, "augment", epoch)).to(self.images.device)
        for chosen in shuffle(len(self.images), batch_size, self.seed, epoch):
            index = chosen.to(self.images.device)
            inputs = augmentation.render(self.images[index], self.view, self.augment, draws[index])
            yield inputs, self.labels[index]

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        for images in self.images.split(batch_size):
            yield augmentation.render(images, self.view)

    def augmented(self, view: int, batch_size: int) -> Iterator[Tensor]:
        """Inputs in stored order under the augmentation of one numbered view."""
        draws = augmentation.draw(len(self.images), generator(self.seed, "view", view)).to(self.images.device)
        for images, batch_draws in zip(self.images.split(batch_size), draws.split(batch_size), strict=True):
            yield augmentation.render(images, self.view, self.augment, batch_draws)
