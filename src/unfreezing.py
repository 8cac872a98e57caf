"""Gradual unfreezing: which blocks of a network train in which epoch."""

from collections.abc import Callable

from torch import nn

from src.parameter_groups import blocks
from src.params import Finetune


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
        for _, modules in blocks(network.get_submodule("backbone"))[:-training]:
            for module in modules:
                module.requires_grad_(False).eval()

    return unfreeze
