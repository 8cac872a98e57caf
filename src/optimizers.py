"""Optimizers, parameter groups and learning-rate schedules."""

import math
from typing import Any

import torch
from torch import nn

MOMENTUM = 0.9
DECADES = 2  # the exponential schedule ends at lr / 10**DECADES


def parameter_groups(module: nn.Module, name: str, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups called `name`: matrices and kernels, which decay, and biases and norms (1-D), which do not."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [
        {"params": group, "name": name, "lr": lr, "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (others, 0.0))
        if group
    ]


def build_optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """adam, adamw, sgd (momentum 0.9) or rmsprop (decay 0.9, momentum 0.9); `groups` hold their own rates."""
    if name == "adam":
        return torch.optim.Adam(groups, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, alpha=0.9, momentum=MOMENTUM)
    raise ValueError(f"optimizer: {name!r} is not known; allowed: adam, adamw, sgd, rmsprop")


def learning_rate_factor(schedule: str, step: int, *, total: int, warmup: int) -> float:
    """What the peak rate is multiplied by at `step` (from 0) of `total`; the first `warmup` rise linearly from 0.

    After the warm-up, with t from 0 to 1: cosine falls to 0 as (1 + cos(pi t)) / 2 (arXiv:1608.03983), step is divided
    by 10 at t = 1/2 and t = 3/4 (arXiv:1512.03385), exponential falls evenly in its logarithm to 1/100, constant stays.
    """
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, total - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    if schedule == "step":
        return 0.1 ** ((t >= 0.5) + (t >= 0.75))
    if schedule == "exponential":
        return float(0.1 ** (DECADES * t))
    if schedule == "constant":
        return 1.0
    raise ValueError(f"schedule: {schedule!r} is not known; allowed: cosine, step, exponential, constant")
