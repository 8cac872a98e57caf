"""Data in batches: what training needs of it, and the order in which an epoch visits it. N images.

Of many processes, each has its own part of every batch, and of every split that is read in stored order.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from src.base.distributed import own_part
from src.base.randomness import generator

SMALLEST_PART = 2  # images: batch normalisation cannot train on one


class Batches(Protocol):
    """What training needs to know of its data."""

    @property
    def labels(self) -> Tensor:
        """int64 of shape (N,), of all processes' images, on the device."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The K names."""
        ...

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of this process's part of each batch of an epoch of training.

        Args:
            batch_size: images of a batch, over all processes, as `batch_sizes` takes it.
            start: number of the first batch, from 0; those before it cost nothing.
        """
        ...

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        """Inputs of this process's part of the split in stored order, `batch_size` at a time, without augmentation."""
        ...


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Images of each batch of an epoch: all but equal, and `batch_size` at most, or one more in place of a lone image.

    A lone image remains only where there is but one.
    """
    steps = max(1, min(math.ceil(count / batch_size), count // SMALLEST_PART))
    return [count // steps + (step < count % steps) for step in range(steps)]


def shuffle(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices 0..count-1 in random order, in batches of `batch_sizes`."""
    order = torch.randperm(count, generator=generator(seed, "shuffle", epoch))
    parts: tuple[Tensor, ...] = order.split(batch_sizes(count, batch_size))
    return parts


def own_order(count: int, batch_size: int, *, seed: int, epoch: int, start: int) -> tuple[Tensor, list[int]]:
    """This process's parts of the shuffled batches from number `start` on: all their indices in a row, and their sizes.

    In a row, they and what belongs to them travel to a device in one copy an epoch; one a batch would make it wait.
    """
    parts = [own_part(batch) for batch in shuffle(count, batch_size, seed, epoch)[start:]]
    nothing = torch.empty(0, dtype=torch.int64)  # start may lie behind the last batch
    return torch.cat([nothing, *parts]), [len(part) for part in parts]
