"""Weights of backbones: files and torchvision's, what they expect of an image, and whether they fit. R x R pixels."""

import json
import pickle
import re
import socket
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

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PICO = "efficientnet_pico"
PICO_RESOLUTION = 64
# torchvision's DenseNet files write `denselayer1.norm.1.weight` for what is now `denselayer1.norm1.weight`.
OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")
TIMEOUT = 15.0  # seconds without a byte from the host of the weights
NAMED_KEYS = 3  # how many keys of a state dict that does not fit a message names


def weights_file(settings: BackboneParams) -> Path | None:
    """The file that `settings.weights` names, or None where it names torchvision's weights or none at all."""
    path = Path(settings.weights).expanduser()
    return path if path.suffix in {".pth", ".pt", ".safetensors"} else None


def default_view(name: str) -> View:
    if name == PICO:
        return View(resolution=PICO_RESOLUTION, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return _published_view(torchvision.models.get_model_weights(name).DEFAULT)


def _published_view(weights: Any) -> View:
    preset = weights.transforms()
    return View(resolution=preset.crop_size[0], mean=tuple(preset.mean), std=tuple(preset.std))


def read_weights(settings: BackboneParams, expected: View) -> tuple[dict[str, Tensor], View]:
    path = weights_file(settings)
    if path is None:
        published = _published(settings)
        return _download(published, settings), _published_view(published)
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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ValueError(f"backbone.weights: {path} is no file of tensors that torch reads safely: {reason}") from None
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
    return state, View(
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
    if settings.weights == "imagenet":
        return entries.DEFAULT
    if settings.weights not in entries.__members__:
        names = ", ".join(entries.__members__)
        raise ValueError(
            f"backbone.weights: {settings.weights!r} is not known for {settings.name}; "
            f"allowed: imagenet, {names}, random, or the path of a .pth, .pt or .safetensors file"
        )
    return entries[settings.weights]


def _download(weights: Any, settings: BackboneParams) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or the network, their hash checked."""
    ways_out = (
        "put the file there yourself, set backbone.weights to a local file, or try `make run`, which needs no network"
    )
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
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


def load_without_classifier(
    network: nn.Module, state: dict[str, Tensor], classifier: str, settings: BackboneParams
) -> None:
    """Load every key but the classifier's, each of which must fit."""
    renamed = {OLD_DENSENET_KEY.sub(r"\1", key): value for key, value in state.items()}
    found = {key: value for key, value in renamed.items() if not key.startswith(f"{classifier}.")}
    wanted = network.state_dict()
    problems = {
        "missing": [key for key in wanted if key not in found and not key.endswith(".num_batches_tracked")],
        "unexpected": [key for key in found if key not in wanted],
        "of another shape": [
            f"{key} {tuple(found[key].shape)}, not {tuple(value.shape)}"
            for key, value in wanted.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    named = [
        f"{len(keys)} {problem}: {'; '.join(keys[:NAMED_KEYS])}{' ...' if len(keys) > NAMED_KEYS else ''}"
        for problem, keys in problems.items()
        if keys
    ]
    if named:
        raise ValueError(f"backbone.weights: {settings.weights} does not fit {settings.name}: {' | '.join(named)}")
    network.load_state_dict(found)
