"""The networks that the scaling study trains from scratch: the base scaled along an axis, and reference models.

N images, R x R pixels, K classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from torch import nn

from src import scaling
from src.cost_matching import AXES, Plan, plan_arms, relative_cost
from src.params import Arm, Scaling, ScalingAblation
from src.randomness import seed_of
from src.scaling import BASES, Coefficients


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network that is still to be built.

    Attributes:
        make: builds it, with random weights.
        resolution: R.
        factors: multipliers of the base's depth and width; empty where it is no scaled base.
    """

    make: Callable[[], nn.Module]
    resolution: int
    factors: Mapping[str, float]

    def build(self, *, seed: int) -> nn.Module:
        """Images float32 (N, 3, R, R) to logits (N, K), with weights that `seed` decides, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "network"))
            return self.make().to(memory_format=torch.channels_last)


def named(arms: Mapping[str, Arm], arguments: Sequence[str]) -> str:
    """The one arm that a stage's command line names.

    Raises:
        ValueError: it names none, several, or one that params.yaml does not have.
    """
    if len(arguments) != 1 or arguments[0] not in arms:
        allowed = ", ".join(arms) or "none, scaling_arms is empty"
        raise ValueError(f"{' '.join(arguments) or 'no arm'}: allowed: one of scaling_arms in params.yaml ({allowed})")
    return arguments[0]


def specify(
    name: str,
    arm: Arm,
    settings: Scaling,
    ablation: ScalingAblation,
    coefficients: Coefficients,
    *,
    classes: int,
) -> Model:
    """The model that the arm `name` trains: an axis of scaling, a backbone's name, or small_cnn.

    Raises:
        ValueError: a resolution below what the strides need, or a budget that not all axes can meet.
    """
    if name in AXES:
        return scaled(plan_arms(settings, ablation, coefficients, classes=classes)[name], settings, classes=classes)
    key = f"scaling_arms.{name}.resolution" if arm.resolution else "scaling.base_resolution"
    resolution = arm.resolution or settings.base_resolution
    if name != "small_cnn":  # all others have 32 pixels behind one pixel of their last map, as EfficientNet has
        scaling.check_resolution(resolution, stem_stride=2, name=key)
    return Model(make=partial(_reference, name, classes=classes), resolution=resolution, factors={})


def scaled(plan: Plan, settings: Scaling, *, classes: int) -> Model:
    """The study's base, scaled as `plan` says.

    Dropout and stochastic depth grow with the logarithm of the cost. The paper lets dropout grow linearly in phi, which
    is that logarithm, and keeps stochastic depth at 0.2 (arXiv:1905.11946, section 5.2); we let both grow.

    Raises:
        ValueError: one of them would reach 1.
    """
    doublings = math.log2(relative_cost(plan, settings, classes=classes))
    growth = max(0.0, 1 + settings.regularization_growth * doublings)
    dropout, stochastic_depth = growth * settings.dropout, growth * settings.stochastic_depth
    if max(dropout, stochastic_depth) >= 1:
        raise ValueError(
            f"scaling.regularization_growth: {settings.regularization_growth:g} makes dropout {dropout:.3g} and "
            f"stochastic depth {stochastic_depth:.3g} at {2**doublings:.3g} times the base's cost; "
            "allowed: what keeps both below 1"
        )
    depth, width = (own * factor for own, factor in zip(BASES[settings.base], (plan.depth, plan.width), strict=True))

    make = partial(
        scaling.build,
        depth=depth,
        width=width,
        classes=classes,
        dropout=dropout,
        stochastic_depth=stochastic_depth,
        stem_stride=settings.stem_stride,
    )
    return Model(make=make, resolution=plan.resolution, factors={"depth": plan.depth, "width": plan.width})


def _reference(name: str, *, classes: int) -> nn.Module:
    """A model as it is published, with its own dropout and stochastic depth."""
    if name == "small_cnn":
        return _small_cnn(classes)
    network: nn.Module
    if name == "efficientnet_pico":
        depth, width = BASES[name]
        network = scaling.build(depth=depth, width=width, classes=classes, dropout=0.2)
    elif name in scaling.PUBLISHED:
        network = scaling.build_published(name, classes=classes)
    else:
        network = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _small_cnn(classes: int) -> nn.Sequential:
    """Four convolutions in two blocks, pooled to 8 x 8 positions, and a hidden layer, as Keras's example for CIFAR-10.

    We pad all convolutions, so at 32 pixels the last pooling changes nothing; at others it keeps the hidden layer's
    size.
    """

    def block(channels: int, out: int) -> list[nn.Module]:
        first, second = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        return [first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]

    head = [nn.Linear(64 * 8 * 8, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes)]
    return nn.Sequential(*block(3, 32), *block(32, 64), nn.AdaptiveAvgPool2d(8), nn.Flatten(), *head)
