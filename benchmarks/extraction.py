"""Extraction of clean features against a bare `model(batch)` loop over the same inputs, rendered beforehand.

Ours renders the images, runs the backbone, checks the features and writes them to a file. Random weights and random
images: neither changes the speed.

`python -m benchmarks.extraction`
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import timing
from src.base import devices
from src.images.augmentation import View
from src.images.image_batches import ImageBatches
from src.interface import params
from src.models import backbones
from src.training.precision import autocast
from src.transfer import features

TARGET = 0.9
PRECISION = "auto"  # as the stage: bfloat16 on a GPU that has it, else float32
PLAN = (("efficientnet_pico", 64, 16384), ("efficientnet_b0", 64, 4096), ("efficientnet_b0", 224, 256))


def random_images(count: int, device: torch.device, *, view: View, augment: params.Augment) -> ImageBatches:
    """32-pixel images in ten classes."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (count,), device=device)
    return ImageBatches(images=images, labels=labels, classes=tuple("abcdefghij"), view=view, augment=augment, seed=0)


def bare_loop(network: nn.Module, inputs: list[Tensor]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode(), autocast(PRECISION, inputs[0].device):
            for batch in inputs:
                network(batch)

    return run


def extraction(
    network: nn.Module, batches: ImageBatches, path: Path, *, views: int, width: int, batch_size: int
) -> Callable[[], None]:
    def run() -> None:
        features.extract(
            network,
            batches,
            path,
            views=views,
            width=width,
            batch_size=batch_size,
            advance=lambda count: None,
            precision=PRECISION,
        )

    return run


def main() -> None:
    device, cfg = devices.choose(), params.load()
    batch_size = cfg.features.batch_size
    print(timing.machine())
    for name, resolution, count in PLAN:
        settings = params.Backbone(name=name, weights="random", resolution=resolution)
        backbone = backbones.load_backbone(settings, seed=0)
        network = features.freeze(backbone.network).to(device)
        batches = random_images(count, device, view=backbone.view, augment=cfg.augment)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.pt"
            candidates = {
                "ours": extraction(network, batches, path, views=0, width=backbone.width, batch_size=batch_size),
                "bare": bare_loop(network, list(batches.clean(batch_size))),
            }
            title = f"clean features: {name} at {resolution} pixels, {count} images in batches of {batch_size}"
            timing.report(title, timing.interleaved(candidates), {("ours", "bare"): TARGET}, images=count)


if __name__ == "__main__":
    main()
