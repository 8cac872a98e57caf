"""Every network that timm knows, as `timm/<name>`: how it wants its images, and its weights, by their SHA-256.

A name is timm's, as in `timm/mobilenetv3_small_100.lamb_in1k`; the tag after the dot names the weights, and timm's
default is taken where there is none. Of timm's `pretrained_cfg`, we take the normalisation, the resolution, the
interpolation and the classifier's name; not `crop_pct`: images are shown whole, as to all networks here.

R x R pixels, D feature width.
"""

import difflib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from src.base.devices import is_out_of_memory
from src.images.augmentation import Interpolation, View

PREFIX = "timm/"
MEND = "`make weights` installs it"
NAMED = 4  # known names that are near a wrong one
SETTINGS = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "15", "HF_HUB_ETAG_TIMEOUT": "15"}


def is_timm(name: str) -> bool:
    """Whether a backbone's name is one of timm's."""
    return name.startswith(PREFIX)


def build(name: str, *, classes: int | None = None, weights: Path | None = None) -> nn.Module:
    """timm's network: images float32 (N, 3, R, R) -> logits (N, classes), as many as its weights name where None.

    Args:
        weights: its file, as `weights_file` has it; random ones where None.

    Raises:
        ValueError: timm is not installed, does not know the name, or cannot read the file.
    """
    cfg = config(name)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if weights is not None:  # from a file that we know, not from the hub again
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights), "custom_load": _custom(cfg)}}
    try:
        network: nn.Module = _timm().create_model(name.removeprefix(PREFIX), **options)
    except (RuntimeError, OSError, KeyError, TypeError, ImportError) as error:
        what = f"its weights, {weights}" if weights else "it"
        raise ValueError(f"backbone.name: timm cannot build {name} with {what}: {_line(error)}") from None
    return network


def config(name: str) -> Any:
    """timm's `pretrained_cfg` of a name.

    Raises:
        ValueError: timm is not installed, or does not know the name, with those it knows that are nearest.
    """
    timm, own = _timm(), name.removeprefix(PREFIX)
    architecture, _, tag = own.partition(".")
    if not timm.is_model(architecture):
        near = _nearest(architecture, timm.list_models())
        raise ValueError(f"backbone.name: timm has no network {architecture!r}; nearest: {near}")
    registry = importlib.import_module("timm.models._registry")
    if renamed := registry.get_deprecated_models().get(architecture):
        raise ValueError(f"backbone.name: timm has another name for {name} now; allowed: {PREFIX}{renamed}")
    known = list(registry.get_arch_pretrained_cfgs(architecture))
    if not known:
        raise ValueError(f"backbone.name: timm does not say what {name} expects of an image; take another one")
    if tag and own not in known:
        near = _nearest(own, known)
        raise ValueError(f"backbone.name: timm has no weights {tag!r} of {architecture}; nearest: {near}")
    return timm.get_pretrained_cfg(own)


def view(name: str) -> View:
    """What the network's weights expect of an image."""
    cfg = config(name)
    interpolation = "bicubic" if cfg.interpolation == "bicubic" else "bilinear"
    return View(
        resolution=cfg.input_size[-1],
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=cast(Interpolation, interpolation),
    )


def classifiers(name: str) -> tuple[str, ...]:
    """What timm calls the classifier; several of a distilled network."""
    found = config(name).classifier or ()
    return (found,) if isinstance(found, str) else tuple(found)


def tag(name: str) -> str:
    """timm's name for the weights: who trained them, and on what."""
    return str(config(name).tag or "untagged")


def width(network: nn.Module, name: str, resolution: int) -> int:
    """D, found by one image; so it is known that `network`, without its classifier, takes this resolution.

    Raises:
        ValueError: it does not.
        MemoryError: not even this image fits.
    """
    cfg = config(name)
    native = cfg.input_size[-1]
    if cfg.fixed_input_size and resolution != native:
        raise ValueError(f"backbone.resolution: {resolution} is not what {name} takes; allowed: native, or {native}")
    device = next(network.parameters()).device
    training = network.training
    try:
        with torch.no_grad():
            shape = network.eval()(torch.zeros(1, 3, resolution, resolution, device=device)).shape
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise MemoryError(f"{name} at {resolution} pixels does not fit, not even for one image") from None
        raise ValueError(
            f"backbone.resolution: {resolution} is not what {name} takes ({_line(error)}); try native ({native})"
        ) from None
    finally:
        network.train(training)
    if len(shape) != 2:
        raise ValueError(
            f"backbone.name: {name} gives {len(shape)} axes an image, no vector of features; take another one"
        )
    return int(shape[1])


def weights_file(name: str) -> Path | None:
    """Where the weights lie once they were fetched; None where they were not."""
    cfg = config(name)
    if not cfg.hf_hub_id:
        place = Path(torch.hub.get_dir(), "checkpoints", Path(cfg.url).name) if cfg.url else None
        return place if place and place.is_file() else None
    hub = _hub()
    repository, revision = _repository(cfg)
    for file in _files(cfg):
        found = hub.try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def fetch(name: str) -> Path:
    """The file of the weights, from where it was fetched before or from timm's hub.

    Raises:
        ValueError: there are none, or the hub cannot be reached; in one line.
    """
    cfg, place = config(name), "huggingface.co"
    if not cfg.hf_hub_id and not cfg.url:
        raise ValueError(f"backbone.weights: timm has none of {name}; allowed: random, or the path of a file")
    try:
        if not cfg.hf_hub_id:
            place = cfg.url
            return Path(importlib.import_module("timm.models._hub").download_cached_file(cfg.url, check_hash=True))
        return _fetched(cfg)
    except (OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise ValueError(
            f"backbone.weights: could not fetch those of {name} from {place} ({_line(cause)}); set backbone.weights to "
            "a local file, or take a network whose weights are here (efficientnet_pico, efficientnet_lite0)"
        ) from None


def _fetched(cfg: Any) -> Path:
    hub, (repository, revision) = _hub(), _repository(cfg)
    errors = importlib.import_module("huggingface_hub.errors")
    *first, last = _files(cfg)
    for file in first:
        try:
            return Path(hub.hf_hub_download(repository, file, revision=revision))
        except errors.LocalEntryNotFoundError:  # no network, and not in the cache
            raise
        except errors.EntryNotFoundError:  # the hub has it under another name
            continue
    return Path(hub.hf_hub_download(repository, last, revision=revision))


def _files(cfg: Any) -> Iterator[str]:
    """The names that a file of weights may have in its repository, in timm's own order."""
    file = cfg.hf_hub_filename or "pytorch_model.bin"
    if not file.endswith(".safetensors"):
        yield from importlib.import_module("timm.models._hub")._get_safe_alternatives(file)
    yield file


def _repository(cfg: Any) -> tuple[str, str | None]:
    name, _, revision = cfg.hf_hub_id.partition("@")
    return name, revision or None


def _custom(cfg: Any) -> bool:
    """Whether a file from the hub is in a form of its own, which the network reads itself."""
    return bool(cfg.custom_load == "hf" if cfg.hf_hub_id else cfg.custom_load)


def _timm() -> Any:
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"backbone.name: timm/... needs the package timm, which is not installed: {MEND}")
    return importlib.import_module("timm")


def _hub() -> Any:
    """huggingface_hub, without telemetry and without a line for each try."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    hub = importlib.import_module("huggingface_hub")
    hub.utils.logging.set_verbosity_error()
    return hub


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=NAMED, cutoff=0.4) or known[:NAMED]
    return ", ".join(f"{PREFIX}{each}" for each in near)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
