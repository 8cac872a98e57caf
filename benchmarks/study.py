"""How long the training of params.yaml's study takes, stage by stage, from the speed of its networks.

`python -m benchmarks.study` measures every network of the study here, with random images, for a few steps. With
`--rate 676e9` it measures nothing, and divides by a rate that was measured elsewhere: multiply-adds of the forward pass
per second of training.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from benchmarks.timing import machine
from src.base import devices
from src.expectations import CLASSES, IMAGES
from src.interface import params
from src.models import cost, speed
from src.models.backbones import load_backbone
from src.scaling import arms, grid, search
from src.scaling.equations import PAPER

BACKWARD = 2  # times the forward pass's operations
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A network, and how many images it trains on and only looks at."""

    name: str
    network: nn.Module
    resolution: int
    batch_size: int
    trained: int
    seen: int


def jobs(cfg: params.Params) -> Iterator[Job]:
    """Everything that runs a whole network; heads on cached features cost next to nothing."""
    given, test = IMAGES[cfg.dataset.name]
    val = round(cfg.dataset.val_fraction * given)
    train = min(given - val, cfg.dataset.train_limit or given)
    backbone = load_backbone(replace(cfg.backbone, weights="random"), seed=0)
    whole = {"network": backbone.network, "resolution": backbone.view.resolution}
    views, epochs = 1 + cfg.features.views, cfg.finetune.epochs
    yield Job(name="extract_features", **whole, batch_size=64, trained=0, seen=views * train + val + test)
    size = cfg.finetune.batch_size
    seen = epochs * val + train + val + test
    yield Job(name="finetune", **whole, batch_size=size, trained=epochs * train, seen=seen)
    settings, searching, ablation = cfg.scaling, cfg.scaling_search, cfg.scaling_ablation
    if searching.epochs:
        found = grid.candidates(searching, settings, classes=CLASSES)
        for model in search.models(found, settings, classes=CLASSES):
            network, name = model.build(seed=0), "scaling_search"
            counts = {"trained": searching.epochs * train, "seen": searching.epochs * val}
            yield Job(name=name, network=network, resolution=model.resolution, batch_size=settings.batch_size, **counts)
    for name, arm in cfg.scaling_arms.items():
        model = arms.specify(name, arm, settings, ablation, PAPER, classes=CLASSES)
        runs, epochs = len(ablation.seeds), arm.epochs or ablation.epochs
        yield Job(
            name=f"scaling_ablation@{name}",
            network=model.build(seed=0),
            resolution=model.resolution,
            batch_size=arm.batch_size or settings.batch_size,
            trained=runs * epochs * train,
            seen=runs * (epochs * val + val + test),
        )


def seconds(job: Job, cfg: params.Params, device: torch.device, rate: float | None) -> float:
    """Of all of the job's forward and backward passes."""
    if rate:
        share = 1 + BACKWARD
        return cost.multiply_adds(job.network, job.resolution) / rate * (job.trained + job.seen / share)
    measured = speed.measure(
        job.network,
        job.resolution,
        batch_size=job.batch_size,
        classes=CLASSES,
        device=device,
        precision=cfg.scaling.precision,
    )
    return job.trained / measured["training_images_per_second"] + job.seen / measured["inference_images_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="multiply-adds/s of training, measured elsewhere")
    asked = parser.parse_args()
    cfg, device = params.load(), devices.choose()
    print(f"at {asked.rate:g} multiply-adds/s" if asked.rate else machine())
    hours: dict[str, float] = {}
    for job in jobs(cfg):
        hours[job.name] = hours.get(job.name, 0.0) + seconds(job, cfg, device, asked.rate) / HOUR
    for name, taken in (hours | {"all of it": sum(hours.values())}).items():
        print(f"  {name}: {taken:.2f} h")


if __name__ == "__main__":
    main()
