"""How long the whole study takes on a machine without an accelerator, said before it starts. An observer."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from src import console, devices, features
from src.backbones import load_backbone
from src.params import Params

BATCH = 8  # images in a measured step
HOUR = 3600.0
IMAGES = {  # for training and validation, and for testing
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "svhn": (73_257, 26_032),
    "digits": (1_437, 360),
}


def announce(cfg: Params) -> None:
    """Measure a forward pass and a training step of the study's network, and say what the study will take on the CPU.

    Says nothing where there is an accelerator, nor of a folder, whose images nobody has counted yet. The network has
    random weights: they are as fast, and nothing is read.
    """
    if cfg.dataset.name not in IMAGES or devices.choose().type != "cpu":
        return
    counts = _images(cfg)
    forward, step = _seconds_per_image(cfg)
    extraction = forward * ((1 + cfg.features.views) * counts["train"] + counts["val"] + counts["test"])
    epochs = cfg.finetune.epochs * (step * counts["train"] + forward * counts["val"])
    finetune = epochs + forward * sum(counts.values())
    parts = f"extract_features {console.duration(extraction)}, finetune {console.duration(finetune)}"
    console.say(f"no accelerator here: the whole study takes about {console.duration(extraction + finetune)} ({parts})")
    if extraction + finetune > HOUR:
        console.say("in minutes: `make run`, a sample; in about half an hour: `make study RECIPE=cifar10_quick`")


def _images(cfg: Params) -> dict[str, int]:
    """Images per split, but for a rounding."""
    given, test = IMAGES[cfg.dataset.name]
    val = round(cfg.dataset.val_fraction * given)
    return {"train": min(given - val, cfg.dataset.train_limit or given), "val": val, "test": test}


def _seconds_per_image(cfg: Params) -> tuple[float, float]:
    """Of a forward pass in inference, and of a training step, each the second of two."""
    backbone = load_backbone(replace(cfg.backbone, weights="random"), seed=0)
    network = backbone.network
    images = torch.rand(BATCH, 3, backbone.view.resolution, backbone.view.resolution)

    def step() -> None:
        F.mse_loss(network.train()(images), torch.zeros(BATCH, backbone.width)).backward()

    def forward() -> None:
        with torch.inference_mode():
            network(images)

    training = _timed(step)
    features.freeze(network)
    return _timed(forward) / BATCH, training / BATCH


def _timed(work: Callable[[], None]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
