"""The networks of the scaling study: the base, scaled in depth, width and resolution.

N images, R pixels per side, K classes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torchvision.models.efficientnet import MBConv

from src.base.randomness import seed_of
from src.interface.scaling_params import Scaling
from src.models import efficientnet
from src.models.efficientnet import BASES
from src.scaling.arithmetic import multiply_adds


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an arm trains.

    Attributes:
        depth, width: multipliers relative to the study's base.
        resolution: pixels per side.
        phi: the exponent of the coefficients, where the arm has one.
    """

    depth: float
    width: float
    resolution: int
    phi: float | None


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
        _build,
        settings.zero_init,
        depth=depth,
        width=width,
        classes=classes,
        dropout=dropout,
        stochastic_depth=stochastic_depth,
        stem_stride=settings.stem_stride,
    )
    return Model(make=make, resolution=plan.resolution, factors={"depth": plan.depth, "width": plan.width})


def baseline(settings: Scaling, *, classes: int) -> Model:
    """The study's base, unscaled."""
    plan = Plan(depth=1.0, width=1.0, resolution=settings.base_resolution, phi=None)
    return scaled(plan, settings, classes=classes)


def _build(zero_init: bool, **network: Any) -> nn.Module:
    """EfficientNet, whose residual blocks begin as identities where `zero_init` says so.

    A departure from the authors' initialisation: the last batch norm of each block that has a shortcut starts at 0
    (Goyal et al., arXiv:1706.02677, section 5.1, for ResNets). As the authors draw it, the gradient of the first step
    grows with every block: 107 for pico at 32 pixels, 1 396 at four times its depth; from 0, it is 60 and 59.
    """
    built = efficientnet.build(**network)
    if zero_init:
        for block in built.modules():
            if isinstance(block, MBConv) and block.use_res_connect:
                nn.init.zeros_([module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1].weight)
    return cast(nn.Module, built)


def relative_cost(plan: Plan, scaling: Scaling, *, classes: int) -> float:
    """Multiply-adds of `plan` over those of the baseline."""
    return cost_of(scaling, classes=classes)(plan)


def cost_of(scaling: Scaling, *, classes: int) -> Callable[[Plan], float]:
    depth, width = BASES[scaling.base]

    def count(plan: Plan) -> int:
        return multiply_adds(
            depth=depth * plan.depth,
            width=width * plan.width,
            resolution=plan.resolution,
            stem_stride=scaling.stem_stride,
            classes=classes,
        )

    baseline = count(Plan(depth=1.0, width=1.0, resolution=scaling.base_resolution, phi=None))
    return lambda plan: count(plan) / baseline
