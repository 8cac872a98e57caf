"""Data in batches: what training needs of it, and the order in which an epoch visits it. N images."""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from src.randomness import generator


class Batches(Protocol):
    """What training needs to know of its data."""

    @property
    def labels(self) -> Tensor:
        """int64 of shape (N,), on the device."""
        ...

    def shuffled(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels for one epoch of training."""
        ...

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        """Inputs in stored order, without augmentation."""
        ...


def steps_per_epoch(count: int, batch_size: int) -> int:
    return math.ceil(count / batch_size)


def shuffle(count: int, batch_size: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """Indices 0..count-1 in random order, in batches whose sizes differ by at most one.

    Equal sizes keep the last batch from being tiny: batch normalisation cannot train on a single image.
    """
    order = torch.randperm(count, generator=generator(seed, "shuffle", epoch))
    return order.tensor_split(steps_per_epoch(count, batch_size))
