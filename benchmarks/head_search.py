"""The head search on cached features against the same search with the backbone in its loop: EfficientNet-B0, 64 pixels.

Ours is measured whole, extraction included: clean and augmented views of the training images, clean ones of validation,
then every trial and epoch. With the backbone in the loop, every epoch of every trial augments the training images, runs
the frozen backbone on them and on validation, and trains the head. That takes long, so ONE epoch of one trial is
measured over all images, and multiplied by trials x epochs. Trials, epochs, views and batches are those of params.yaml.
Random weights and random images: neither changes the speed. There is no run to warm up: each takes many seconds.

`python -m benchmarks.head_search`
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks import timing
from benchmarks.extraction import PRECISION, extraction, random_images
from src.base import devices
from src.images.image_batches import ImageBatches
from src.interface import params
from src.models import backbones
from src.models.engines import build_engine
from src.models.heads import build_head
from src.training.fitting import Session, fit
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.training.precision import autocast
from src.transfer import features
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_search import draw, search_heads

TARGET = 50
BACKBONE = params.Backbone(name="efficientnet_b0", weights="random", resolution=64)


@dataclass(frozen=True, kw_only=True)
class InLoop:
    """Images that pass through the frozen backbone whenever the head wants a batch."""

    network: nn.Module
    images: ImageBatches

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in self.images.shuffled(epoch, batch_size, start):
            yield self._features(inputs), labels

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        for inputs in self.images.clean(batch_size):
            yield self._features(inputs)

    @torch.no_grad()
    def _features(self, inputs: Tensor) -> Tensor:
        with autocast(PRECISION, inputs.device):
            found: Tensor = self.network(inputs)
        return found.float()


@dataclass(frozen=True, kw_only=True)
class Search:
    """The same search both ways."""

    cfg: params.Params
    network: nn.Module
    width: int
    train: ImageBatches
    val: ImageBatches
    device: torch.device

    def extract(self, folder: Path) -> None:
        sizes = {"width": self.width, "batch_size": self.cfg.inference.batch_size}
        engine = build_engine(self.network, self.cfg.inference, next(self.val.clean(8)))  # its export counts
        extraction(engine, self.train, folder / "train.pt", views=self.cfg.features.views, **sizes)()
        extraction(engine, self.val, folder / "val.pt", views=0, **sizes)()

    def search(self, folder: Path) -> None:
        train, val = (FeatureBatches.load(str(folder / f"{name}.pt"), self.device, seed=0) for name in ("train", "val"))
        journal = folder / "trials.jsonl"
        journal.unlink(missing_ok=True)
        session = Session(seed=0, advance=lambda count: None)
        search_heads(self.cfg.tune_head, train, val, journal=journal, class_weights="equal", session=session)

    def one_epoch_in_loop(self) -> None:
        settings = self.cfg.tune_head
        chosen = draw(settings, [], seed=0)
        head = build_head(chosen.classifier, width=self.width, classes=10, dropout=chosen.dropout, seed=0)
        groups = parameter_groups(
            head.to(self.device), "head", lr=chosen.learning_rate, weight_decay=chosen.weight_decay
        )
        optimizer = build_optimizer(chosen.optimizer, groups, epsilon=EPSILON)
        recipe = Recipe(epochs=1, batch_size=settings.batch_size, schedule=chosen.schedule)
        train, val = (InLoop(network=self.network, images=images) for images in (self.train, self.val))
        fit(head, optimizer, train, val, recipe, session=Session(seed=0, advance=lambda count: None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000, help="training images; 5000 or more for a figure to quote")
    count = parser.parse_args().images
    device, cfg = devices.choose(), params.load()
    backbone = backbones.load_backbone(BACKBONE, seed=0)
    network = features.freeze(backbone.network).to(device)
    train = random_images(count, device, view=backbone.view, augment=cfg.augment)
    val = random_images(count // 10, device, view=backbone.view, augment=cfg.augment)
    search = Search(cfg=cfg, network=network, width=backbone.width, train=train, val=val, device=device)
    epochs = cfg.tune_head.trials * cfg.tune_head.epochs
    print(timing.machine())
    with tempfile.TemporaryDirectory() as folder:
        seconds = timing.interleaved(
            {
                "extraction": lambda: search.extract(Path(folder)),
                "search on cached features": lambda: search.search(Path(folder)),
                "one epoch with the backbone in the loop": search.one_epoch_in_loop,
            },
            warm_up=False,
        )
    extracting, searching, in_loop = seconds.values()
    ours = [sum(pair) for pair in zip(extracting, searching, strict=True)]
    values = timing.ratios(ours, [epochs * second for second in in_loop])
    print(
        f"head search: {cfg.tune_head.trials} trials x {cfg.tune_head.epochs} epochs, {cfg.features.views} views,",
        end=" ",
    )
    print(f"{count} training and {count // 10} validation images, batches of {cfg.tune_head.batch_size}")
    print(f"  cached / backbone in the loop: {timing.spread(values)}{timing.verdict(values, TARGET)}")
    print(f"  the latter is one measured epoch of {count} images, times {epochs}")
    print(f"  seconds (median): {', '.join(f'{name} {median(times):.1f}' for name, times in seconds.items())}")


if __name__ == "__main__":
    main()
