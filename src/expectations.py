"""How long the whole study takes on a machine without an accelerator, said before it starts. An observer."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from src.base import devices
from src.interface import console
from src.interface.params import Params
from src.interface.scaling_params import OWN_ARMS

BATCH = 8  # images in a measured step
STAGES = 14  # and one for each arm
CLASSES = 10  # nobody has counted them yet, and they hardly matter
SMALL_BATCH = 64  # the same for small images, of which 8 keep no processor busy
HOUR = 3600.0
FASTER = {
    "auto": 2.6,
    "onnxruntime": 2.6,
    "torch": 1.0,
}  # than torch on a CPU, about
IMAGES = {  # for training and validation, and for testing
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "svhn": (73_257, 26_032),
    "digits": (1_437, 360),
}


def announce(cfg: Params) -> None:
    """Measure a forward pass and a training step of the study's networks, and say what the study will take on the CPU.

    Says nothing where there is an accelerator, nor of a folder, whose images nobody has counted yet. The network has
    random weights: they are as fast, and nothing is read. Each stage is taken to start as slowly as this one did.
    """
    if cfg.dataset.name not in IMAGES or devices.choose().type != "cpu":
        return
    from src.models.backbones import load_backbone  # late: where nothing is measured, nothing of this is needed
    from src.transfer import finetuning

    stages, start = STAGES + len(cfg.scaling_arms) + len(cfg.compared_backbones), time.monotonic() - console.BEGAN
    counts = _images(cfg)
    backbone = load_backbone(replace(cfg.backbone, weights="random"), seed=0)
    forward, step = _seconds_per_image(backbone.network, finetuning.seen(backbone.view, cfg.finetune).resolution, BATCH)
    frozen = _forward_seconds(backbone.network, backbone.view.resolution, BATCH) / FASTER[cfg.inference.engine]
    extraction = frozen * ((1 + cfg.features.views) * counts["train"] + counts["val"] + counts["test"])
    epochs = cfg.finetune.repeats * cfg.finetune.epochs * (step * counts["train"] + forward * counts["val"])
    seconds = {f"to start {stages} stages": stages * start}
    seconds |= {"extract_features": extraction, "finetune": epochs + forward * sum(counts.values())}
    judged = counts["val"] + counts["test"]  # once by torch, and by ONNX Runtime alone, in batches and in 8 bits
    seconds |= {"export": forward * judged * (1 + 3 / FASTER["onnxruntime"])}
    seconds |= {"compare_backbones": _compared(cfg, counts, backbone.network, frozen, backbone.view.resolution)}
    seconds |= _scaling(cfg, counts)
    total = sum(seconds.values())
    parts = ", ".join(f"{stage} {console.duration(each)}" for stage, each in seconds.items() if each >= 1)
    console.say(f"no accelerator here: the whole study takes about {console.duration(total)} ({parts})")
    if total > HOUR:
        console.say("in minutes, a sample: `make run`")
        console.say("in about half an hour: `make study RECIPE=cifar10_quick`")


def _images(cfg: Params) -> dict[str, int]:
    """Images per split, but for a rounding."""
    given, test = IMAGES[cfg.dataset.name]
    val = round(cfg.dataset.val_fraction * given)
    return {"train": min(given - val, cfg.dataset.train_limit or given), "val": val, "test": test}


def _compared(cfg: Params, counts: dict[str, int], network: nn.Module, seconds: float, resolution: int) -> float:
    """Seconds of extraction for all entries, by their multiply-adds over those of `network`, which takes `seconds`."""
    from src.models import cost
    from src.models.backbones import load_backbone

    if not cfg.compared_backbones:
        return 0.0
    base, total = cost.products(network, resolution), 0.0
    images = min(cfg.comparison.train_limit or counts["train"], counts["train"]) + counts["val"] + counts["test"]
    for key, entry in cfg.compared_backbones.items():
        own = load_backbone(replace(entry, weights="random"), seed=0, section=f"compared_backbones.{key}")
        total += seconds * images * cost.products(own.network, own.view.resolution) / base
    return total


def _scaling(cfg: Params, counts: dict[str, int]) -> dict[str, float]:
    """Seconds of scaling_search and of all arms, by what their networks cost of the base, which is measured."""
    from src.scaling import grid, networks, rates
    from src.scaling.networks import Plan, relative_cost

    search, ablation, resolution = cfg.scaling_search, cfg.scaling_ablation, cfg.scaling.base_resolution
    if not search.epochs and not cfg.scaling_arms:
        return {}
    model = networks.scaled(Plan(depth=1.0, width=1.0, resolution=resolution, phi=None), cfg.scaling, classes=CLASSES)
    forward, step = _seconds_per_image(model.build(seed=0), resolution, min(cfg.scaling.batch_size, SMALL_BATCH))
    epoch = step * counts["train"] + forward * counts["val"]
    found = grid.candidates(search, cfg.scaling, classes=CLASSES) if search.epochs else []
    plans = [Plan(depth=each.depth, width=each.width, resolution=each.resolution, phi=1.0) for each in found]
    searched = search.epochs * sum(relative_cost(plan, cfg.scaling, classes=CLASSES) for plan in plans)
    tries = len(rates.AROUND) * rates.EPOCHS if cfg.scaling.learning_rate == rates.AUTO else 0
    trained = sum(
        (len(ablation.seeds) * (arm.epochs or ablation.epochs) + tries) * _relative_cost(cfg, name)
        for name, arm in cfg.scaling_arms.items()
    )
    return {"scaling_search": searched * epoch, "scaling_ablation": trained * epoch}


def _relative_cost(cfg: Params, name: str) -> float:
    """Multiply-adds of an arm over the baseline's, roundings aside."""
    from src.models import cost
    from src.scaling import arms, networks
    from src.scaling.equations import PAPER
    from src.scaling.networks import Plan

    ablation = cfg.scaling_ablation
    network = cfg.scaling_arms[name].name or name
    if network in OWN_ARMS[1:]:
        return {"multiply_adds": ablation.budget, "paper": 4.0}.get(ablation.match, 2**ablation.phi)
    if network == OWN_ARMS[0]:
        return 1.0
    baseline = Plan(depth=1.0, width=1.0, resolution=cfg.scaling.base_resolution, phi=None)
    models = (
        arms.specify(name, cfg.scaling_arms[name], cfg.scaling, ablation, PAPER, classes=CLASSES),
        networks.scaled(baseline, cfg.scaling, classes=CLASSES),
    )
    with torch.device("meta"):  # without weights, which take seconds to draw
        built = [model.make() for model in models]
    own, base = (cost.multiply_adds(each, model.resolution) for each, model in zip(built, models, strict=True))
    return own / base


def _seconds_per_image(network: nn.Module, resolution: int, batch: int) -> tuple[float, float]:
    """Of a forward pass in inference, and of a training step, each the second of two; it leaves `network` frozen."""
    images = torch.rand(batch, 3, resolution, resolution)

    def step() -> None:
        network.train()(images).square().mean().backward()

    training = _timed(step) / batch
    return _forward_seconds(network, resolution, batch), training


def _forward_seconds(network: nn.Module, resolution: int, batch: int) -> float:
    from src.transfer import features

    frozen, images = features.freeze(network), torch.rand(batch, 3, resolution, resolution)

    def forward() -> None:
        with torch.inference_mode():
            frozen(images)

    return _timed(forward) / batch


def _timed(work: Callable[[], None]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
