"""Fine-tuning end to end against the plain PyTorch way and against timm's: EfficientNet-B0 at 64 pixels, same cores.

- Ours renders and augments every batch and trains by `fitting.fit`, as benchmarks/finetuning.py describes.
- torchvision: a DataLoader over PIL images with params.yaml's random changes as torchvision's transforms, in
  torchvision's usual order, geometry and colour at the stored 32 pixels before the resizing; our network.
- timm: timm's loader, transforms and efficientnet_b0: a random resized crop of 0.8 to 1 of the area, flip, colour
  jitter, and random erasing by its own batch-wise prefetcher; no rotation, translation or shear, which its factory does
  not offer, and no auto-augment. It does less than the other two.

The last two train by the bare loop: no schedule, clipping, averaged weights or validation. Their images lie in memory
as PIL pictures, and their worker processes, one per core, are started beforehand and stay. All have the same batch,
threads, optimizer (fused AdamW), and the huge pages that `devices.choose` turns on, which no plain script knows. The
rivals run channels-last, as our network does, which is faster, and contiguous, as a plain script leaves them.

`python -m benchmarks.loaders`; timm is left out where it is not installed (requirements-bench.txt).
"""

import argparse
import copy
import importlib.util
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_pil_image

from benchmarks import timing
from benchmarks.augmentation import torchvision_transform
from benchmarks.extraction import random_images
from benchmarks.finetuning import CLASSES, Advance, bare_loop, fit_loop, ignore, random_network
from src.base import devices
from src.images.image_batches import ImageBatches
from src.interface import params

NAME, RESOLUTION, STEPS, TARGET = "efficientnet_b0", 64, 20, 1.2
CROPPED_AREA = (0.8, 1.0)  # of timm's random resized crop; its default of 0.08 is meant for photographs
Transform = Callable[[Image.Image], Tensor]
Loader = Iterable[tuple[Tensor, Tensor]]


class Labelled(Dataset[tuple[Any, int]]):
    """PIL pictures and their labels; timm's loader sets `transform` itself."""

    def __init__(self, images: ImageBatches, transform: Transform | None = None) -> None:
        self.pictures = [to_pil_image(image) for image in images.images.cpu()]
        self.labels = images.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = self.pictures[index]
        return self.transform(picture) if self.transform else picture, self.labels[index]


def torchvision_loader(
    images: ImageBatches, augment: params.Augment, resolution: int, *, batch_size: int, workers: int
) -> Loader:
    return DataLoader(
        Labelled(images, torchvision_transform(augment, resolution)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=images.labels.device.type == "cuda",
    )


def timm_loader(
    images: ImageBatches, augment: params.Augment, resolution: int, *, batch_size: int, workers: int
) -> Loader:
    from timm.data import create_loader

    loader: Loader = create_loader(
        Labelled(images),
        (3, resolution, resolution),
        batch_size,
        is_training=True,
        scale=CROPPED_AREA,
        hflip=0.5 if augment.flip else 0.0,
        color_jitter=(augment.brightness, augment.contrast, augment.saturation, augment.hue),
        re_prob=augment.erase_probability,
        interpolation="bilinear",
        mean=images.view.mean,
        std=images.view.std,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=images.labels.device.type == "cuda",
        device=images.labels.device,
    )
    return loader


def timm_network(device: torch.device) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(NAME, num_classes=CLASSES)
    return network.to(device)


def plain_loop(
    network: nn.Module, loader: Loader, layout: torch.memory_format, *, advance: Advance = ignore, **options: Any
) -> timing.Candidate:
    """The bare loop over a loader with a network of its own."""
    own = copy.deepcopy(network).to(memory_format=layout)
    optimizer = torch.optim.AdamW(own.parameters(), fused=True)
    return bare_loop(own, optimizer, lambda: loader, advance=advance, **options)


def candidates(
    cfg: params.Params, device: torch.device, *, resolution: int, steps: int, workers: int, advance: Advance = ignore
) -> dict[str, timing.Candidate]:
    """Everything that is compared, each over the same images; `advance` is told of each step of each."""
    network, view = random_network(NAME, resolution, device)
    batch_size = cfg.finetune.batch_size
    images = random_images(steps * batch_size, device, view=view, augment=cfg.augment)
    val = random_images(2, device, view=view, augment=cfg.augment)
    sizes = {"batch_size": batch_size, "workers": workers}
    rivals: dict[str, tuple[nn.Module, Loader]] = {
        "torchvision": (network, torchvision_loader(images, cfg.augment, resolution, **sizes))
    }
    if importlib.util.find_spec("timm"):
        rivals["timm"] = timm_network(device), timm_loader(images, cfg.augment, resolution, **sizes)
    layouts = {"": torch.channels_last, ", contiguous": torch.contiguous_format}
    return {"ours": fit_loop(copy.deepcopy(network), images, val, cfg, advance=advance)} | {
        f"{rival}{suffix}": plain_loop(theirs, loader, layout, advance=advance)
        for suffix, layout in layouts.items()
        for rival, (theirs, loader) in rivals.items()
    }


def main() -> None:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=cores, help="worker processes of each rival; one per core")
    workers = parser.parse_args().workers
    device, cfg = devices.choose(), params.load()
    print(timing.machine())
    seconds = timing.interleaved(candidates(cfg, device, resolution=RESOLUTION, steps=STEPS, workers=workers))
    targets: dict[tuple[str, str], float | None] = {("ours", name): TARGET for name in seconds if name != "ours"}
    batch_size = cfg.finetune.batch_size
    title = f"end to end: {NAME} at {RESOLUTION} pixels, {STEPS} steps of {batch_size} images, {workers} workers"
    timing.report(title, seconds, targets, images=STEPS * batch_size)


if __name__ == "__main__":
    main()
