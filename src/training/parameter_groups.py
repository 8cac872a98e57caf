"""The groups of parameters that an optimizer is given, each with its rate and decay."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn

NAMED = 3  # how many parameters a message names


def parameter_groups(module: nn.Module, name: str, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups called `name`: matrices and kernels, which decay, and biases and norms (1-D), which do not.

    `initial_lr` is the peak rate, which a schedule multiplies. Parameters that are frozen are in them too: an optimizer
    passes over those without a gradient, and has the others' state when they join.
    """
    return split_by_decay(module.parameters(), name, lr=lr, weight_decay=weight_decay)


def check_cover(network: nn.Module, groups: list[dict[str, Any]]) -> None:
    """Raise a ValueError that names each parameter of `network` that is not in exactly one group."""
    times = Counter(id(parameter) for group in groups for parameter in group["params"])
    placed = {name: times[id(parameter)] for name, parameter in network.named_parameters()}
    problems = {
        "in no group": [name for name, count in placed.items() if count < 1],
        "in several groups": [name for name, count in placed.items() if count > 1],
    }
    for problem, names in problems.items():
        if names:
            shown = ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
            raise ValueError(f"optimizer: {shown}: {len(names)} {problem}; allowed: each parameter in exactly one")


def split_by_decay(
    parameters: Iterable[nn.Parameter], name: str, *, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    found = list(parameters)
    decayed = [parameter for parameter in found if parameter.ndim > 1]
    others = [parameter for parameter in found if parameter.ndim <= 1]
    return [
        {"params": group, "name": name, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (others, 0.0))
        if group
    ]
