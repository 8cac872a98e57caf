"""Small inputs for tests: images, features, augmentation settings and draws, and a network to train."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.base.randomness import generator
from src.base.splits import Split
from src.images import augmentation
from src.images.augmentation import COLUMNS, View
from src.images.image_batches import ImageBatches
from src.interface import params
from src.interface.params import Augment, Finetune
from src.interface.params import Backbone as BackboneSettings
from src.interface.scaling_params import Scaling
from src.models.backbones import Backbone, load_backbone
from src.models.heads import Head, build_head, join
from src.training import fitting
from src.training.fitting import Fitted, Session
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.transfer.feature_batches import FeatureBatches

NEUTRAL = 0.5  # the draw that changes nothing: the middle of every symmetric range
EVERYTHING = {
    **{"flip": True, "crop_padding": 4, "rotation": 15.0, "translate": 0.1, "scale": 0.1, "shear": 10.0},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05, "erase_probability": 0.25},
}  # and the policy, which a test names beside it
PICO = "efficientnet_pico"
SHIPPED = Path(__file__).parents[2] / "weights/efficientnet_pico_tinyimagenet64.safetensors"
CHOSEN = Head(
    learning_rate=0.005, weight_decay=0.01, dropout=0.3, optimizer="adamw", schedule="cosine", classifier="deep"
)


def augment(*, policy: str = "none", **on: float) -> Augment:
    """Everything off but what is named."""
    return Augment(**({name: type(value)(0) for name, value in EVERYTHING.items()} | on), policy=policy)


def draws(count: int = 1, **columns: float) -> Tensor:
    """Draws that change nothing but in the columns that are named."""
    return torch.tensor([[columns.get(name, NEUTRAL) for name in COLUMNS]]).repeat(count, 1)


def random_draws(count: int, seed: int = 0) -> Tensor:
    return augmentation.draw(count, torch.Generator().manual_seed(seed))


def noise(count: int, side: int, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(low, high, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def photo(count: int, side: int) -> Tensor:
    """Smooth images: bilinear samples of them hardly depend on the last digits of a coordinate."""
    coarse = noise(count, 5).float()
    return F.interpolate(coarse, size=side, mode="bicubic", align_corners=False).clamp(0, 255).round().to(torch.uint8)


def raw(resolution: int) -> View:
    """No normalisation: the rendered pixels are in [0, 1]."""
    return View(resolution=resolution, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def changed(images: Tensor, settings: Augment, **columns: float) -> Tensor:
    return augmentation.render(images, raw(images.shape[-1]), settings, draws(len(images), **columns))


OFF = augment()


def features(count: int = 40, *, name: str = "train", noise: float = 2.0, views: int = 2) -> FeatureBatches:
    """Three clouds in 10 dimensions; `noise` decides how far they overlap."""
    draws = generator(name)
    labels = torch.arange(count) % 3
    centres = F.one_hot(labels, 10).float() * 3
    cloud = centres + noise * torch.randn(views, count, 10, generator=draws)
    return FeatureBatches(features=cloud.half(), labels=labels, classes=("a", "b", "c"), seed=4)


def images(
    count: int = 32,
    *,
    name: str = "train",
    augment: Augment = OFF,
    resolution: int = 8,
    seed: int = 4,
    device: str = "cpu",
    host: bool | None = None,
) -> ImageBatches:
    """Noise of four classes, 8 x 8 pixels: nothing to be learned but the images themselves."""
    pixels = torch.randint(256, (count, 3, 8, 8), generator=generator(name), dtype=torch.uint8)
    view = View(resolution=resolution, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    split = Split(images=pixels, labels=torch.arange(count) % 4, classes=tuple("abcd"))
    return ImageBatches.of(split, torch.device(device), view=view, augment=augment, seed=seed, host=host)


def convolutional(dropout: float = 0.0) -> nn.Sequential:
    """A backbone with batch norm and a head, as finetune joins them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()),
        )
    return join(backbone, build_head("simple", width=144, classes=4, dropout=dropout, seed=0))


def quiet(count: int) -> None: ...


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files, in bytes: a write beyond it fails half-way, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Killed(Exception):
    """Stands for a kill: nothing that comes after it runs."""


def killer(steps: int) -> Callable[[int], None]:
    """Kills after so many steps of training; 0 images, told at the start of a run, are no step."""
    taken = 0

    def advance(count: int) -> None:
        nonlocal taken
        taken += count > 0
        if taken == steps:
            raise Killed

    return advance


def fit(
    model: nn.Module,
    train: Any,
    val: Any,
    *,
    lr: float = 0.01,
    optimizer: str = "sgd",
    seed: int = 0,
    **recipe: Any,
) -> Fitted:
    built = build_optimizer(optimizer, parameter_groups(model, "head", lr=lr, weight_decay=0.01), epsilon=EPSILON)
    settings = Recipe(**({"epochs": 3, "batch_size": 8, "schedule": "cosine"} | recipe))
    return fitting.fit(model, built, train, val, settings, session=Session(seed=seed, advance=quiet))


def finetune_settings(**changes: Any) -> Finetune:
    """What params.yaml ships, but short and plain: the file may hold an experiment's values."""
    plain: dict[str, Any] = {
        **{"strategy": "full", "unfreeze_every": 1, "layer_decay": 0.75, "head": "trained", "epochs": 5},
        **{
            "resolution": None,
            "batch_size": 8,
            "micro_batch_size": None,
            "backbone_lr_ratio": 0.1,
            "optimizer": "adamw",
            "epsilon": 1e-3,
        },
        **{"schedule": "cosine", "warmup_epochs": 1, "weight_decay": 0.05, "label_smoothing": 0.0, "mixup": 0.0},
        **{"cutmix": 0.0, "stochastic_depth": 0.2, "ema_decay": 0.0, "clip_norm": 0.0, "early_stopping": 0},
        **{"precision": "float32", "compile": False, "sync_batch_norm": False, "repeats": 1},
    }
    return replace(params.load(SHIPPED.parent.parent / "params.yaml").finetune, **plain | changes)


def scaling_settings(**changes: Any) -> Scaling:
    """A short and plain study of efficientnet_pico, whatever params.yaml holds."""
    plain: dict[str, Any] = {
        **{"base": PICO, "base_resolution": 64, "stem_stride": 2, "batch_size": 8, "micro_batch_size": None},
        **{"learning_rate": 0.01, "optimizer": "adamw", "epsilon": 1e-3, "schedule": "cosine", "warmup_fraction": 0.25},
        **{"weight_decay": 0.01, "label_smoothing": 0.0, "dropout": 0.2, "stochastic_depth": 0.2},
        **{"zero_init": False, "regularization_growth": 0.2143, "ema_decay": 0.0, "clip_norm": 0.0},
        **{"precision": "float32", "compile": False, "checkpoint_minutes": 10.0},
    }
    return Scaling(**plain | changes)


def backbone_settings(
    name: str = PICO, weights: object = "random", resolution: int | str = "native"
) -> BackboneSettings:
    return BackboneSettings(name=name, weights=str(weights), resolution=resolution)


def load(name: str = PICO, weights: object = "random", *, seed: int = 0) -> Backbone:
    return load_backbone(backbone_settings(name, weights), seed=seed)


def same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """The same names in the same order, and equal tensors."""
    return list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)
