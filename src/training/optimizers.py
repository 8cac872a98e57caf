"""Optimizers, by the names that params.yaml gives them."""

from typing import Any

import torch

from src.training.rmsprop import RMSProp

MOMENTUM = 0.9
DECAY = 0.9  # of RMSProp's mean square, as in the code of the EfficientNet paper (arXiv:1905.11946)
EPSILON = 1e-3  # and its epsilon there


def build_optimizer(name: str, groups: list[dict[str, Any]], *, epsilon: float) -> torch.optim.Optimizer:
    """adam, adamw, sgd (momentum 0.9) or rmsprop (decay 0.9, momentum 0.9); `groups` hold their own rates.

    Args:
        epsilon: rmsprop's, inside its root; the others keep torch's.
    """
    if name == "adam":
        return torch.optim.Adam(groups, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if name == "sgd":
        return _with_momenta(torch.optim.SGD(groups, momentum=MOMENTUM, fused=True))
    if name == "rmsprop":
        return RMSProp(groups, decay=DECAY, momentum=MOMENTUM, epsilon=epsilon)
    raise ValueError(f"optimizer: {name!r} is not known; allowed: adam, adamw, sgd, rmsprop")


def _with_momenta(optimizer: torch.optim.SGD) -> torch.optim.SGD:
    """`optimizer` with momenta of zero, from which it takes the steps that it takes from none.

    torch's fused step stops with an error where some parameters of a group have a momentum and others, which were
    frozen until now, have none.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
