"""One GPU: training and extraction end to end in images/s, in bfloat16 and channels-last, augmentation included.

- EfficientNet-B0 at 224 and B1 at 240 pixels through `fitting.fit`, eager and compiled, from random images of 32 x 32
  on the device. Beside it the same step on one fixed batch: what rendering costs.
- Extraction of B0's features at 224 pixels, rendering and writing included.
- B0 at 32 pixels against the plain PyTorch way: a DataLoader over PIL images with 16 workers and pinned memory, and a
  bare loop in bfloat16 with the same network, channels-last, as in benchmarks/loaders.py.

Repeats are windows of steps within one run, after a warm-up that holds the compilation; candidates run one after
another. `--profile` prints instead which kernels take the time, and what the memory's bandwidth allows.

`python -m benchmarks.gpu`; without a CUDA device it says so and measures nothing.
"""

import argparse
import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from benchmarks import timing, traffic
from benchmarks.extraction import extraction, random_images
from benchmarks.finetuning import Rendered, fit_loop, random_network
from benchmarks.loaders import plain_loop, torchvision_loader
from benchmarks.timing import Windows
from src.base import devices
from src.base.batches import Batches
from src.images.augmentation import View
from src.images.image_batches import ImageBatches
from src.interface import params
from src.models import backbones
from src.models.engines import build_engine
from src.transfer import features

PLAN = (("efficientnet_b0", 224, 8000, 10_000), ("efficientnet_b1", 240, 5000, 6500))  # targets: eager, compiled
STEP_TARGET, EXTRACTION_TARGET, LOADER_TARGET = 0.95, 25_000, 5
WORKERS, EXTRACTED = 16, 50_000
PRECISION = "bfloat16"
Seconds = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all measurements share: settings with the batch size, device, and how many steps a run takes."""

    cfg: params.Params
    device: torch.device
    warm_up: int = 20
    window: int = 20

    @property
    def batch_size(self) -> int:
        return self.cfg.finetune.batch_size

    @property
    def windows(self) -> Windows:
        return Windows(warm_up=self.warm_up, window=self.window)

    def images(self, view: View, count: int | None = None) -> ImageBatches:
        """Random images, by default as many as a run takes."""
        count = self.windows.steps * self.batch_size if count is None else count
        return random_images(count, self.device, view=view, augment=self.cfg.augment)

    def train(self, network: torch.nn.Module, train: Batches, view: View, *, compiled: bool) -> list[float]:
        """Seconds of each window of our loop."""
        windows = self.windows
        run = fit_loop(
            copy.deepcopy(network),
            train,
            self.images(view, 2),
            self.cfg,
            advance=windows,
            precision=PRECISION,
            compile=compiled,
        )
        run()
        return windows.seconds


def training_seconds(bench: Bench, name: str, resolution: int, *, compiled: bool) -> Seconds:
    network, view = random_network(name, resolution, bench.device)
    images = bench.images(view)
    batch = next(iter(images.shuffled(1, bench.batch_size)))
    fixed = Rendered(labels=images.labels, batches=[batch] * bench.windows.steps)
    runs: dict[str, Batches] = {"one fixed batch": fixed, "end to end": images}
    return {title: bench.train(network, train, view, compiled=compiled) for title, train in runs.items()}


def loader_seconds(
    bench: Bench, name: str = "efficientnet_b0", resolution: int = 32, *, compiled: bool, workers: int = WORKERS
) -> Seconds:
    network, view = random_network(name, resolution, bench.device)
    images = bench.images(view)
    loader = torchvision_loader(images, bench.cfg.augment, resolution, batch_size=bench.batch_size, workers=workers)
    windows = bench.windows
    plain_loop(network, loader, torch.channels_last, advance=windows, precision=PRECISION)()
    ours = {"ours": False} | ({"ours, compiled": True} if compiled else {})
    return {title: bench.train(network, images, view, compiled=how) for title, how in ours.items()} | {
        "DataLoader": windows.seconds
    }


def extraction_seconds(
    bench: Bench, name: str = "efficientnet_b0", resolution: int = 224, *, count: int = EXTRACTED
) -> list[float]:
    settings = params.Backbone(name=name, weights="random", resolution=resolution)
    backbone = backbones.load_backbone(settings, seed=0)
    network = features.freeze(backbone.network).to(bench.device)
    images = bench.images(backbone.view, count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.pt"
        engine = build_engine(network, bench.cfg.inference, next(images.clean(8)))
        run = extraction(engine, images, path, views=0, width=backbone.width, batch_size=bench.cfg.inference.batch_size)
        return timing.interleaved({"ours": run})["ours"]


def measure(bench: Bench) -> None:
    images = bench.window * bench.batch_size
    for name, resolution, *targets in PLAN:
        for compiled, target in zip((False, True), targets, strict=True):
            seconds = training_seconds(bench, name, resolution, compiled=compiled)
            how = "compiled" if compiled else "eager"
            title = f"training: {name} at {resolution} pixels, batches of {bench.batch_size}, {PRECISION}, {how}"
            timing.report(title, seconds, {("end to end", "one fixed batch"): STEP_TARGET}, images=images)
            timing.report_rate("end to end", seconds["end to end"], target, images=images)
    print(f"clean features: efficientnet_b0 at 224 pixels, {EXTRACTED} images, by {bench.cfg.inference.batch_size}")
    timing.report_rate("ours", extraction_seconds(bench), EXTRACTION_TARGET, images=EXTRACTED)
    title = f"against a DataLoader with {WORKERS} workers: efficientnet_b0 at 32 pixels, batches of {bench.batch_size}"
    seconds = loader_seconds(bench, compiled=True)
    timing.report(title, seconds, {(name, "DataLoader"): LOADER_TARGET for name in list(seconds)[:-1]}, images=images)


def profile(
    bench: Bench, name: str = "efficientnet_b0", resolution: int = 224, *, copied: int = traffic.COPIED
) -> None:
    """Print the kernels of some eager steps by their time, and the step's speed against the memory's."""
    network, view = random_network(name, resolution, bench.device)
    images = bench.images(view)
    inputs, labels = next(iter(images.shuffled(1, bench.batch_size)))
    seconds = bench.train(network, images, view, compiled=False)
    few = replace(bench, warm_up=1, window=1)
    with torch.profiler.profile() as profiler:
        few.train(network, few.images(view), view, compiled=False)
    print(profiler.key_averages().table(sort_by=f"self_{bench.device.type}_time_total", row_limit=25))
    moved = traffic.bytes_per_image(network.train(), inputs, labels, PRECISION)
    speed = traffic.bandwidth(bench.device, copied)
    measured = bench.window * bench.batch_size / median(seconds)
    print(f"{name} at {resolution} pixels, batches of {bench.batch_size}, {PRECISION}, eager")
    print(f"  a step moves {moved / 1e6:,.1f} MB per image, where no cache helps and no operations are fused")
    print(f"  bandwidth of a copy: {speed / 1e12:.2f} TB/s, which bounds such a step to {speed / moved:,.0f} images/s")
    print(f"  measured: {measured:,.0f} images/s, {measured * moved / speed:.0%} of that", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256, help="images per training step")
    parser.add_argument("--profile", action="store_true", help="print kernels and the memory's bound instead")
    asked = parser.parse_args(arguments)
    device, cfg = devices.choose(), params.load()
    if device.type != "cuda":
        print(f"no CUDA device, nothing measured (this runs on {device.type})")
        return
    print(timing.machine())
    cfg = replace(cfg, finetune=replace(cfg.finetune, batch_size=asked.batch_size, micro_batch_size=None))
    bench = Bench(cfg=cfg, device=device)
    if asked.profile:
        profile(bench)
    else:
        measure(bench)


if __name__ == "__main__":
    main()
