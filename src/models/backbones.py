"""Backbones: networks from images to features, with what their weights expect of an image.

N images, C = 3 channels, R x R pixels, D feature width.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from src.base import artifacts
from src.base.randomness import seed_of
from src.images.augmentation import View
from src.interface.params import Backbone as BackboneParams
from src.models import efficientnet, hub, lite
from src.models.weights import (
    PICO,
    default_view,
    differences,
    is_published,
    read_weights,
    weights_file,
    without_classifier,
)


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its classifier.

    Attributes:
        network: images float32 (N, 3, R, R) -> features float32 (N, D).
        width: D.
        view: resolution and normalisation of its input.
    """

    network: nn.Module
    width: int
    view: View


def load_backbone(settings: BackboneParams, *, seed: int, section: str = "backbone") -> Backbone:
    """Build the backbone that `settings` name, with their weights; `seed` decides random ones.

    Normalisation and native resolution come from the weights' own metadata; weights that carry none (`random`, a .pth
    file) are taken to expect what torchvision's, or timm's, default weights for the same network do.

    Args:
        section: of params.yaml, from which `settings` are.

    Raises:
        ValueError: weights that do not exist, cannot be fetched, or do not fit the network, or a resolution that it
            does not take.
    """
    try:
        return _load(settings, seed)
    except ValueError as error:
        raise ValueError(str(error).replace("backbone.", f"{section}.")) from None


def _load(settings: BackboneParams, seed: int) -> Backbone:
    file = weights_file(settings, fetch=True) if hub.is_timm(settings.name) and is_published(settings) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "backbone"))
        network, classifiers, width = _build(settings.name, file)
    expected = default_view(settings.name)
    if settings.weights != "random" and file is None:
        state, expected = read_weights(settings, expected)
        found = without_classifier(state, network, *classifiers)
        if problems := differences(found, network.state_dict()):
            raise ValueError(_misfit(settings, state, problems))
        network.load_state_dict(found)
    resolution = expected.resolution if settings.resolution == "native" else settings.resolution
    if hub.is_timm(settings.name):
        width = hub.width(network, settings.name, resolution)
    network = network.to(memory_format=torch.channels_last)  # convolutions run about twice as fast, on the CPU too
    return Backbone(network=network, width=width, view=replace(expected, resolution=resolution))


def describe(settings: BackboneParams) -> dict[str, str | None]:
    """Where the weights come from, and the SHA-256 of their file, for the record of a run that has read it."""
    path = weights_file(settings)
    return {"weights": settings.weights, "weights_sha256": artifacts.sha256(path) if path else None}


def _build(name: str, file: Path | None = None) -> tuple[nn.Module, tuple[str, ...], int]:
    """The network with its classifier replaced by the identity, that classifier's names, and the feature width.

    One of timm's has the weights of `file`, where there is one; its width takes an image to find, and is 0 here.
    """
    if hub.is_timm(name):
        network: Any = hub.build(name, weights=file)
        network.reset_classifier(0)
        return network, hub.classifiers(name), 0
    if name == PICO:
        network = _build_pico()
    else:
        network = lite.build(name) if name in lite.RESOLUTIONS else torchvision.models.get_model(name, weights=None)
    classifier = "fc" if hasattr(network, "fc") else "classifier"
    removed = getattr(network, classifier)
    width = next(module.in_features for module in removed.modules() if isinstance(module, nn.Linear))
    setattr(network, classifier, nn.Identity())
    return network, (classifier,), width


def _build_pico() -> nn.Module:
    """EfficientNet-B0's table at width 0.5 and depth 0.5, by the paper's rounding: 640 features, 657 120 parameters."""
    depth, width = efficientnet.BASES[PICO]
    network: nn.Module = efficientnet.build(depth=depth, width=width, classes=1000, dropout=0.2)
    return network


def _misfit(settings: BackboneParams, state: dict[str, Tensor], problems: list[str]) -> str:
    """Why weights do not fit: they are another EfficientNet's, or how they differ."""
    for name in (PICO, *efficientnet.PUBLISHED, *lite.RESOLUTIONS):
        with torch.device("meta"):  # shapes alone
            try:
                network, classifiers, _ = _build(name)
            except ValueError:  # a package is missing, and this network not meant
                continue
        if not differences(without_classifier(state, network, *classifiers), network.state_dict()):
            return (
                f"backbone.weights: {settings.weights} has the weights of {name}, not of {settings.name}; "
                f"allowed: backbone.name={name} with it, or weights of {settings.name}"
            )
    return f"backbone.weights: {settings.weights} does not fit {settings.name}: {' | '.join(problems)}"
