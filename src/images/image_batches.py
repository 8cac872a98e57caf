"""Images that live on the device, or in host memory where they do not fit, rendered for the network batch by batch.

A batch is an index slice: nothing is decoded or resized per epoch, nor copied from the host where the images fit.
N images, H x H stored pixels.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from src.base.batches import own_order
from src.base.distributed import own_part
from src.base.randomness import generator
from src.base.splits import Split
from src.images import augmentation
from src.images.augmentation import View
from src.images.prefetching import prefetch
from src.interface.params import Augment


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Images uint8 (N, 3, H, H), rendered per batch for `view`, with `augment`, if any, when training asks.

    Labels (N,) live on the device that the inputs are for; so do the images, unless `host` says that they are on the
    CPU and travel batch by batch, ahead of their use. The inputs are the same bits either way.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    view: View
    augment: Augment | None
    seed: int
    host: bool = False

    @classmethod
    def of(
        cls,
        split: Split,
        device: torch.device,
        *,
        view: View,
        augment: Augment | None,
        seed: int,
        host: bool | None = None,
    ) -> "ImageBatches":
        """Batches of `split` for `device`.

        Args:
            host: keep the images where they are, in host memory; None: where they do not fit the device.
        """
        host = not fits(split.images, device) if host is None else host
        images, labels = split.images if host else split.images.to(device), split.labels.to(device)
        return cls(
            images=images, labels=labels, classes=split.classes, view=view, augment=augment, seed=seed, host=host
        )

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        order, sizes = own_order(len(self.labels), batch_size, seed=self.seed, epoch=epoch, start=start)
        draws = augmentation.draw(len(self.labels), generator(self.seed, "augment", epoch))[order]
        labels = self.labels[order.to(self.labels.device)].split(sizes)
        yield from zip(self._rendered(order, sizes, draws), labels, strict=True)

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        return self._rendered(own_part(torch.arange(len(self.labels))), batch_size)

    def augmented(self, view: int, batch_size: int) -> Iterator[Tensor]:
        """Inputs in stored order under the augmentation of one numbered view, of the whole split in every process."""
        draws = augmentation.draw(len(self.labels), generator(self.seed, "view", view))
        return self._rendered(torch.arange(len(self.labels)), batch_size, draws)

    def _rendered(
        self, order: Tensor, sizes: int | list[int], draws: Tensor | None = None
    ) -> Generator[Tensor, None, None]:
        """Inputs in `order`, augmented where there are `draws` (one row for each of `order`)."""
        nothing = [None] * len(order.split(sizes))
        draws_of = nothing if draws is None else draws.to(self.labels.device).split(sizes)
        with closing(self._stored(order, sizes)) as stored:  # at once, also when an image cannot be rendered
            for images, drawn in zip(stored, draws_of, strict=True):
                yield augmentation.render(images, self.view, self.augment, drawn)

    def _stored(self, order: Tensor, sizes: int | list[int]) -> Generator[Tensor, None, None]:
        if self.host:
            return prefetch(self.images, order.split(sizes), self.labels.device)
        return (self.images.index_select(0, index) for index in order.to(self.images.device).split(sizes))


def fits(images: Tensor, device: torch.device) -> bool:
    """Whether `images` take at most half of the free memory of `device`; the rest is for the network.

    A CPU has them in its memory anyway, and so has an accelerator that shares it (MPS).
    """
    return device.type != "cuda" or images.nbytes <= torch.cuda.mem_get_info(device)[0] / 2
