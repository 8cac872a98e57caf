"""Which parameter learns at which rate: the blocks of a backbone, and the groups that an optimizer is given."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from torch import nn

from src.params import Finetune

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)
NAMED = 3  # how many parameters a message names

Block = tuple[str, list[nn.Module]]


def blocks(backbone: nn.Module) -> list[Block]:
    """Names and modules of the backbone's blocks, from its input to its output.

    They are its top-level children, those of `features` in its place where there is one. A normalisation belongs to the
    block before it, and what has no parameters to none: a ResNet is conv1 (with bn1), layer1, ..., layer4.
    """
    found: list[Block] = []
    for name, module in _children(backbone):
        if next(module.parameters(), None) is None:
            continue
        if isinstance(module, NORMS) and found:
            found[-1][1].append(module)
        else:
            found.append((name, [module]))
    return found


def parameter_groups(module: nn.Module, name: str, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups called `name`: matrices and kernels, which decay, and biases and norms (1-D), which do not.

    `initial_lr` is the peak rate, which a schedule multiplies. Parameters that are frozen are in them too: an optimizer
    passes over those without a gradient, and has the others' state when they join.
    """
    return _split(module.parameters(), name, lr=lr, weight_decay=weight_decay)


def grouped(network: nn.Module, settings: Finetune, *, lr: float) -> list[dict[str, Any]]:
    """Groups of a network with a `backbone` and a `head`, which learns at `lr`.

    full and progressive: the backbone at lr * backbone_lr_ratio. layerwise: the block below the head at
    lr * layer_decay, the next one at lr * layer_decay^2, and so on, each under its own name. Source: discriminative
    fine-tuning of ULMFiT (arXiv:1801.06146, section 3.1), and BEiT (arXiv:2106.08254) with a decay of its own choice;
    what are layers there are blocks here.
    """
    decay = settings.weight_decay
    head, backbone = network.get_submodule("head"), network.get_submodule("backbone")
    groups = parameter_groups(head, "head", lr=lr, weight_decay=decay)
    if settings.strategy != "layerwise":
        return groups + parameter_groups(backbone, "backbone", lr=lr * settings.backbone_lr_ratio, weight_decay=decay)
    for depth, (name, modules) in enumerate(reversed(blocks(backbone)), start=1):
        parameters = (parameter for module in modules for parameter in module.parameters())
        groups += _split(parameters, name, lr=lr * settings.layer_decay**depth, weight_decay=decay)
    return groups


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


def _children(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, module in backbone.named_children():
        inner = module.named_children() if name == "features" else None
        found += [(f"{name}.{child}", part) for child, part in inner] if inner else [(name, module)]
    return found


def _split(parameters: Iterable[nn.Parameter], name: str, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    found = list(parameters)
    decayed = [parameter for parameter in found if parameter.ndim > 1]
    others = [parameter for parameter in found if parameter.ndim <= 1]
    return [
        {"params": group, "name": name, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (others, 0.0))
        if group
    ]
