"""Extraction of clean features by the engine that `inference` names, by torch alone, and a bare loop beside them.

The first two render the images, run the backbone, check the features and write them to a file; torch is eager, with
channels last. The loop is `model(batch)` over inputs rendered beforehand. Random weights and random images: neither
changes the speed. What an engine needs before its first image (an export) is left out, and printed.

`python -m benchmarks.extraction`
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import timing
from src.base import devices
from src.images.augmentation import View
from src.images.image_batches import ImageBatches
from src.interface import params
from src.models import backbones
from src.models.engines import Engine, build_engine
from src.training.precision import autocast
from src.transfer import features

ENGINE_TARGET = 2.5  # on a CPU
LOOP_TARGET = 0.9
PRECISION = "auto"  # as the stage: bfloat16 on a GPU that has it, else float32
PLAN = (
    ("efficientnet_pico", 64, 8192),
    ("efficientnet_b0", 64, 4096),
    ("efficientnet_b0", 224, 512),
    ("efficientnet_lite0", 224, 512),
)


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
    engine: Engine, batches: ImageBatches, path: Path, *, views: int, width: int, batch_size: int
) -> Callable[[], None]:
    def run() -> None:
        features.extract(
            engine.run,
            batches,
            path,
            views=views,
            width=width,
            batch_size=batch_size,
            advance=lambda count: None,
        )

    return run


def main() -> None:
    device, cfg = devices.choose(), params.load()
    batch_size = cfg.inference.batch_size
    print(timing.machine())
    for name, resolution, count in PLAN:
        settings = params.Backbone(name=name, weights="random", resolution=resolution)
        backbone = backbones.load_backbone(settings, seed=0)
        network = features.freeze(backbone.network).to(device)
        batches = random_images(count, device, view=backbone.view, augment=cfg.augment)
        began = time.perf_counter()
        sample = next(batches.clean(8))
        engine = build_engine(network, cfg.inference, sample)
        took = time.perf_counter() - began
        eager = build_engine(network, replace(cfg.inference, engine="torch"), sample)
        with tempfile.TemporaryDirectory() as folder:
            extract = partial(
                extraction,
                batches=batches,
                path=Path(folder) / "features.pt",
                views=0,
                width=backbone.width,
                batch_size=batch_size,
            )
            candidates = {
                "ours": extract(engine),
                "eager": extract(eager),
                "loop": bare_loop(network, list(batches.clean(batch_size))),
            }
            seconds = timing.interleaved(candidates)
        targets = {("ours", "eager"): ENGINE_TARGET if device.type == "cpu" else None, ("eager", "loop"): LOOP_TARGET}
        title = f"clean features: {name} at {resolution} pixels, {count} images in batches of {batch_size}"
        timing.report(f"{title}; {engine.name}, ready after {took:.1f} s", seconds, targets, images=count)


if __name__ == "__main__":
    main()
