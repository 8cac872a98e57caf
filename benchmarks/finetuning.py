"""The fine-tuning loop against a bare forward/backward/step loop: same network, batches, optimizer and memory format.

Ours is `fitting.fit` with everything that params.yaml asks of fine-tuning (schedule, label smoothing, clipping,
averaged weights, curves), over one epoch and a validation split of two images. Three ratios:
- both loops are given the same batches, rendered and augmented beforehand: what the loop itself costs;
- both render and augment each batch;
- end to end: ours renders, the bare loop is given its batches: the loop and the augmentation together.

`python -m benchmarks.finetuning`
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.extraction import random_images
from src.base import devices
from src.base.batches import Batches
from src.images.augmentation import View
from src.interface import params
from src.models import backbones
from src.models.heads import build_head, join
from src.training.fitting import Session, fit
from src.training.loop import Recipe
from src.training.precision import autocast
from src.transfer import finetuning

TARGET = 0.95
PLAN = (("efficientnet_pico", 64, 100), ("efficientnet_b0", 64, 30))  # backbone, resolution, steps
CLASSES = 10
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Batches that are ready."""

    labels: Tensor
    batches: list[tuple[Tensor, Tensor]]

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches[start:]

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        raise NotImplementedError


def ignore(count: int) -> None: ...


def random_network(name: str, resolution: int, device: torch.device) -> tuple[nn.Sequential, View]:
    """A whole network with random weights, channels-last, and what it expects of an image."""
    settings = params.Backbone(name=name, weights="random", resolution=resolution)
    backbone = backbones.load_backbone(settings, seed=0)
    head = build_head("simple", width=backbone.width, classes=CLASSES, dropout=0.2, seed=0)
    return join(backbone.network, head).to(device), backbone.view


def fit_loop(
    network: nn.Module, train: Batches, val: Batches, cfg: params.Params, *, advance: Advance = ignore, **changes: Any
) -> Callable[[], None]:
    """One epoch of our loop, under params.yaml's settings but for `changes`; `advance` is told of each step."""
    settings = replace(cfg.finetune, epochs=1, warmup_epochs=1, **changes)
    optimizer = finetuning.optimizer(network, settings, lr=cfg.lr)

    def run() -> None:
        fit(network, optimizer, train, val, Recipe.of(settings), session=Session(seed=0, advance=advance))

    return run


def bare_loop(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    *,
    advance: Advance = ignore,
    precision: str = "float32",
) -> Callable[[], None]:
    """What a script does at the least: forward, backward, step."""
    device = next(network.parameters()).device

    def run() -> None:
        network.train()
        for images, targets in batches():
            inputs, labels = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, device):
                loss = F.cross_entropy(network(inputs), labels)
            loss.backward()
            optimizer.step()
            advance(len(labels))

    return run


def candidates(
    network: nn.Sequential, view: View, cfg: params.Params, steps: int, device: torch.device
) -> dict[str, timing.Candidate]:
    """Both loops over batches that are ready, and over batches that they render."""
    batch_size = cfg.finetune.batch_size
    images = random_images(steps * batch_size, device, view=view, augment=cfg.augment)
    val = random_images(2, device, view=view, augment=cfg.augment)
    rendered = Rendered(labels=images.labels, batches=list(images.shuffled(1, batch_size)))

    def ours(train: Batches) -> timing.Candidate:
        return fit_loop(copy.deepcopy(network), train, val, cfg)

    def bare(batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> timing.Candidate:
        own = copy.deepcopy(network)
        return bare_loop(own, finetuning.optimizer(own, cfg.finetune, lr=cfg.lr), batches)

    return {
        "ours on batches": ours(rendered),
        "bare on batches": bare(lambda: rendered.batches),
        "ours rendering": ours(images),
        "bare rendering": bare(lambda: images.shuffled(1, batch_size)),
    }


def main() -> None:
    device, cfg = devices.choose(), params.load()
    print(timing.machine())
    for name, resolution, steps in PLAN:
        network, view = random_network(name, resolution, device)
        seconds = timing.interleaved(candidates(network, view, cfg, steps, device))
        title = f"fine-tuning: {name} at {resolution} pixels, {steps} steps of {cfg.finetune.batch_size} images"
        pairs = {
            ("ours on batches", "bare on batches"): TARGET,
            ("ours rendering", "bare rendering"): TARGET,
            ("ours rendering", "bare on batches"): TARGET,
        }
        timing.report(title, seconds, pairs, images=steps * cfg.finetune.batch_size)


if __name__ == "__main__":
    main()
