"""Strategies of fine-tuning: the blocks of a backbone, at which rate each learns, and in which epoch it trains."""

from collections.abc import Callable
from typing import Any

from torch import nn

from src.interface.params import Finetune
from src.training.parameter_groups import parameter_groups, split_by_decay

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm)
SEQUENCES = ("features", "blocks", "stages", "layers")  # children that hold a network's blocks, one behind the other
Block = tuple[str, list[nn.Module]]


def blocks(backbone: nn.Module) -> list[Block]:
    """Names and modules of the backbone's blocks, from its input to its output.

    They are its top-level children, of SEQUENCES the children in their place. A normalisation belongs to the block
    before it, and what has no parameters to none: a ResNet is conv1 (with bn1), layer1, ...
    """
    found: list[Block] = []
    for name, module in _children(backbone):
        if next(module.parameters(), None) is None:
            continue
        if found and _only_normalises(module):
            found[-1][1].append(module)
        else:
            found.append((name, [module]))
    return found


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
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if depth == len(blocks(backbone)):
            parameters += _own(backbone)
        groups += split_by_decay(parameters, name, lr=lr * settings.layer_decay**depth, weight_decay=decay)
    return groups


def _children(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    found: list[tuple[str, nn.Module]] = []
    for name, module in backbone.named_children():
        inner = module.named_children() if name in SEQUENCES else None
        found += [(f"{name}.{child}", part) for child, part in inner] if inner else [(name, module)]
    return found


def _only_normalises(module: nn.Module) -> bool:
    return all(isinstance(part, NORMS) for part in module.modules() if _own(part))


def _own(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that are in none of its children, as a transformer's class token: of a backbone, they come first."""
    return list(module.parameters(recurse=False))


def unfreezer(network: nn.Module, settings: Finetune) -> Callable[[int], None]:
    """What to call at the start of each epoch (from 1), once `network.train()` was.

    Under `progressive`, the head and the highest 1 + (epoch - 1) // unfreeze_every blocks of the backbone train. Those
    below are frozen to the bit: no gradients, and in eval mode, so that batch norm neither counts nor moves and no path
    is dropped. Under the other strategies everything trains.

    Source: gradual unfreezing of ULMFiT (arXiv:1801.06146, section 3.3), which gives each layer one epoch. We depart in
    that the highest block trains with the head from the first epoch on, because the head may come trained.
    """

    def unfreeze(epoch: int) -> None:
        network.requires_grad_(True)
        if settings.strategy != "progressive":
            return
        training = 1 + (epoch - 1) // settings.unfreeze_every
        # Looked up anew: converting a network to synchronised batch norm replaces modules.
        backbone = network.get_submodule("backbone")
        below = blocks(backbone)[:-training]
        for _, modules in below:
            for module in modules:
                module.requires_grad_(False).eval()
        for parameter in _own(backbone):
            parameter.requires_grad_(not below)

    return unfreeze
