"""Weights of backbones: files and torchvision's, what they expect of an image, and whether they fit. R x R pixels."""

import json
import re
import socket
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import safetensors
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from src.base import artifacts
from src.images.augmentation import View
from src.interface.params import Backbone as BackboneParams
from src.models import hub, lite

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICO = "efficientnet_pico"
PICO_RESOLUTION = 64
# torchvision's DenseNet files write `denselayer1.norm.1.weight` for what is now `denselayer1.norm1.weight`.
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
OF_IMAGENET = re.compile(r"inw?(1|12|21|22)k")  # in a tag of timm's
TIMEOUT = 15.0  # seconds without a byte from the host of the weights
NAMED_KEYS = 3  # how many keys of a state dict that does not fit a message names


def own_file(settings: BackboneParams) -> Path | None:
    """The file that `settings.weights` names by its path, or None."""
    path = Path(settings.weights).expanduser()
    return path if path.suffix in {".pth", ".pt", ".safetensors"} else None


def is_published(settings: BackboneParams) -> bool:
    """Whether the weights are neither random nor a file of one's own."""
    return settings.weights != "random" and own_file(settings) is None


def weights_file(settings: BackboneParams, *, fetch: bool = False) -> Path | None:
    """Where the weights lie once they were read, or None for random ones; `fetch` gets those of timm."""
    if settings.weights == "random":
        return None
    if path := own_file(settings):
        return path
    if hub.is_timm(settings.name):
        _check_timm(settings)
        return hub.fetch(settings.name) if fetch else hub.weights_file(settings.name)
    return lite.published_file(settings.name) if settings.name in lite.RESOLUTIONS else _cached(_published(settings))


def default_view(name: str) -> View:
    """What is expected of an image by weights that say nothing of it."""
    if hub.is_timm(name):
        return hub.view(name)
    if name in lite.RESOLUTIONS:
        return lite.view(name)
    if name == PICO:
        return View(resolution=PICO_RESOLUTION, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return _published_view(torchvision.models.get_model_weights(name).DEFAULT)


def _published_view(weights: Any) -> View:
    preset = weights.transforms()
    return View(resolution=preset.crop_size[0], mean=tuple(preset.mean), std=tuple(preset.std))


def read_weights(settings: BackboneParams, expected: View) -> tuple[dict[str, Tensor], View]:
    """The weights that `settings` name, and what they expect of an image: `expected`, where they do not say.

    Raises:
        ValueError: weights that do not exist, cannot be fetched or read, or are not what was published.
    """
    path = own_file(settings)
    if path is None and settings.name in lite.RESOLUTIONS:
        _check_name(settings, ["imagenet"])
        return lite.read_published(settings.name), expected
    if path is None:
        published = _published(settings)
        return _download(published), _published_view(published)
    if not path.is_file():
        raise ValueError(f"backbone.weights: {settings.weights} does not exist (looked in {Path.cwd()})")
    if link := artifacts.linked_folder(path, "weights"):
        raise ValueError(
            f"backbone.weights: {link} is a link to a folder, behind which DVC sees no change; allowed below weights: "
            "folders, files and links to files"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path, expected)
    try:
        state = artifacts.load(path)
    except ValueError as error:
        raise ValueError(f"backbone.weights: {error}") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"backbone.weights: {settings.weights} is no state dict; allowed: a mapping from names to tensors"
        )
    return state, expected


def _read_safetensors(path: Path, expected: View) -> tuple[dict[str, Tensor], View]:
    """Tensors, and the view that the file's header states (`resolution`, `mean`, `std`), where it does."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"backbone.weights: {path} is no safetensors file: {error}") from None
    stated = {key: json.loads(metadata[key]) for key in ("resolution", "mean", "std") if key in metadata}
    return state, replace(
        expected,
        resolution=stated.get("resolution", expected.resolution),
        mean=tuple(stated.get("mean", expected.mean)),
        std=tuple(stated.get("std", expected.std)),
    )


def _published(settings: BackboneParams) -> Any:
    """torchvision's entry for the weights that `settings` name."""
    if settings.name == PICO:
        raise ValueError(
            f"backbone.weights: {settings.weights!r} does not exist for {PICO}; "
            "allowed: random, or a path such as weights/efficientnet_pico_tinyimagenet64.safetensors"
        )
    entries = torchvision.models.get_model_weights(settings.name)
    _check_name(settings, ["imagenet", *entries.__members__])
    return entries.DEFAULT if settings.weights == "imagenet" else entries[settings.weights]


def _check_timm(settings: BackboneParams) -> None:
    """`imagenet` is a promise, which weights that saw no ImageNet would break."""
    _check_name(settings, ["pretrained", "imagenet"])
    tag = hub.tag(settings.name)
    if settings.weights == "imagenet" and not OF_IMAGENET.search(tag):
        raise ValueError(
            f"backbone.weights: imagenet is not what the weights of {settings.name} say of themselves ({tag}); "
            "allowed: pretrained, which takes them whatever they saw, random, or a path"
        )


def _check_name(settings: BackboneParams, known: list[str]) -> None:
    if settings.weights not in known:
        raise ValueError(
            f"backbone.weights: {settings.weights!r} is not known for {settings.name}; "
            f"allowed: {', '.join(known)}, random, or the path of a .pth, .pt or .safetensors file"
        )


def _cached(weights: Any) -> Path:
    """Where torch.hub keeps the file of torchvision's `weights`."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name


def _download(weights: Any) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or the network, their hash checked."""
    ways_out = (
        "put the file there yourself, set backbone.weights to a local file, or try `make run`, which needs no network"
    )
    place = _cached(weights)
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub sets none: a network that swallows packets would hang the stage
    try:
        _check_cached(place)
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split())  # a broken server's answer may end in a newline
        raise ValueError(f"backbone.weights: could not fetch {weights.url} to {place} ({reason}); {ways_out}") from None
    except RuntimeError as error:  # torch.hub's complaint about a hash
        raise ValueError(
            f"backbone.weights: {weights.url}: {error}; delete {place} and try again, or {ways_out}"
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
    return state


def _check_cached(path: Path) -> None:
    """torch.hub checks what it downloads, but trusts what lies in its cache already, perhaps put there by hand."""
    named = torch.hub.HASH_REGEX.search(path.name)
    if named and path.is_file() and not (digest := artifacts.sha256(path)).startswith(named.group(1)):
        raise RuntimeError(f'invalid hash value (expected "{named.group(1)}", got "{digest}")')


def without_classifier(state: dict[str, Tensor], network: nn.Module, *classifiers: str) -> dict[str, Tensor]:
    """`state` under the names of `network`, which has none of its own `classifiers`.

    The prefix of torch's DataParallel goes; the names of old DenseNet and EfficientNet-Lite files become today's.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if "_conv_stem.weight" in state and hasattr(network, "blocks"):
        state = lite.renamed(state, network)
    renamed = {OLD_DENSENET_KEY.sub(r"\1", key): value for key, value in state.items()}
    dropped = tuple(f"{classifier}." for classifier in classifiers)
    return {key: value for key, value in renamed.items() if not key.startswith(dropped)}


def differences(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """How the names and shapes of two states differ, in words; counters of batches may be missing."""
    problems = {
        "missing": [key for key in wanted if key not in found and not key.endswith(".num_batches_tracked")],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {tuple(found[key].shape)}, not {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    return [
        f"{len(keys)} {problem}: {'; '.join(keys[:NAMED_KEYS])}{' ...' if len(keys) > NAMED_KEYS else ''}"
        for problem, keys in problems.items()
        if keys
    ]
