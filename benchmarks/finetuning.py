"""The fine-tuning loop against a bare forward/backward/step loop: same network, batches, optimizer and memory format.

Ours is `training.fit` with everything that params.yaml asks of fine-tuning (schedule, label smoothing, clipping,
averaged weights, curves), over one epoch and a validation split of two images. Three ratios:
- both loops are given the same batches, rendered and augmented beforehand: what the loop itself costs;
- both render and augment each batch;
- ours renders, the bare loop is given its batches: the loop and the augmentation together.

`python -m benchmarks.finetuning`
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.extraction import random_images
from src import backbones, devices, finetuning, params
from src.batches import Batches
from src.heads import build_head, join
from src.training import fit

TARGET = 0.95
PLAN = (("efficientnet_pico", 64, 100), ("efficientnet_b0", 64, 30))  # backbone, resolution, steps


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """Batches that are ready."""

    labels: Tensor
    batches: list[tuple[Tensor, Tensor]]

    def shuffled(self, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from self.batches

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        raise NotImplementedError


def fit_loop(network: nn.Sequential, train: Batches, val: Batches, cfg: params.Params) -> Callable[[], None]:
    settings = replace(cfg.finetune, epochs=1)
    optimizer = finetuning.optimizer(network, settings, lr=cfg.lr)

    def run() -> None:
        fit(network, optimizer, train, val, finetuning.recipe(settings), seed=0, advance=lambda count: None)

    return run


def bare_loop(
    network: nn.Sequential, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], cfg: params.Params
) -> Callable[[], None]:
    optimizer = finetuning.optimizer(network, cfg.finetune, lr=cfg.lr)

    def run() -> None:
        network.train()
        for inputs, labels in batches():
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(inputs), labels).backward()
            optimizer.step()

    return run


def main() -> None:
    device, cfg = devices.choose(), params.load()
    batch_size = cfg.finetune.batch_size
    print(timing.machine())
    for name, resolution, steps in PLAN:
        settings = params.Backbone(name=name, weights="random", resolution=resolution)
        backbone = backbones.load_backbone(settings, seed=0)
        head = build_head("simple", width=backbone.width, classes=10, dropout=0.2, seed=0)
        network = join(backbone.network, head).to(device)
        images = random_images(steps * batch_size, device, view=backbone.view, augment=cfg.augment)
        val = random_images(2, device, view=backbone.view, augment=cfg.augment)
        rendered = Rendered(labels=images.labels, batches=list(images.shuffled(1, batch_size)))
        seconds = timing.interleaved(
            {
                "ours on batches": fit_loop(copy.deepcopy(network), rendered, val, cfg),
                "bare on batches": bare_loop(copy.deepcopy(network), lambda: rendered.batches, cfg),  # noqa: B023
                "ours rendering": fit_loop(copy.deepcopy(network), images, val, cfg),
                "bare rendering": bare_loop(copy.deepcopy(network), lambda: images.shuffled(1, batch_size), cfg),  # noqa: B023
            }
        )
        title = f"fine-tuning: {name} at {resolution} pixels, {steps} steps of {batch_size} images"
        pairs = {
            ("ours on batches", "bare on batches"): TARGET,
            ("ours rendering", "bare rendering"): TARGET,
            ("ours rendering", "bare on batches"): None,
        }
        timing.report(title, seconds, pairs, images=steps * batch_size)


if __name__ == "__main__":
    main()
