"""Fine-tuning: the pretrained backbone and a head as one network, and how params.yaml wants it trained."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from src.base.batches import Batches
from src.base.randomness import seed_of
from src.images.augmentation import View
from src.interface import console
from src.interface.params import Finetune
from src.models.backbones import Backbone
from src.models.heads import Head, build_head, join
from src.training.fitting import Fitted, Session, fit
from src.training.loop import Recipe
from src.training.optimizers import build_optimizer
from src.training.parameter_groups import check_cover
from src.transfer.strategies import grouped, unfreezer


def assemble(
    backbone: Backbone,
    best: Head,
    head_weights: dict[str, Tensor],
    settings: Finetune,
    *,
    classes: int,
    seed: int,
) -> nn.Sequential:
    """The whole network, with the head that the search found (`best`).

    The head is as train_frozen left it (`head_weights`), or new, with weights that `seed` decides.
    """
    head = build_head(
        best.classifier,
        width=backbone.width,
        classes=classes,
        dropout=best.dropout,
        seed=seed_of(seed, "head"),
    )
    if settings.head == "trained":
        head.load_state_dict(head_weights)
    set_stochastic_depth(backbone.network, settings.stochastic_depth)
    return join(backbone.network, head)


def build(
    backbone: Backbone,
    best: Head,
    head_weights: dict[str, Tensor],
    settings: Finetune,
    *,
    classes: int,
    seed: int,
    device: torch.device,
) -> nn.Sequential:
    """The network to be trained under `seed`, as `assemble` makes it, on `device`; `backbone` itself stays as it is."""
    network = assemble(copy.deepcopy(backbone), best, head_weights, settings, classes=classes, seed=seed)
    return synchronise_batch_norm(network.to(device), settings, device)


def seen(view: View, settings: Finetune) -> View:
    """What the network sees while it is fine-tuned and judged: `view`, at finetune.resolution where there is one."""
    return replace(view, resolution=settings.resolution or view.resolution)


def set_stochastic_depth(backbone: nn.Module, probability: float) -> None:
    """Block i of n (from 0) is skipped with `probability` * i / n; one without such blocks is left as it is, and
    that is said.

    Source: arXiv:1603.09382, whose linear rule ends at `probability` in the last block. torchvision's, which this is,
    starts at 0 in the first block and ends one step below; EfficientNet's 0.2 is arXiv:1905.11946's.
    """
    layers = [module for module in backbone.modules() if isinstance(module, StochasticDepth)]
    if probability and not layers:
        console.warn("finetune.stochastic_depth has no effect: this backbone has no blocks that can be skipped")
    for index, layer in enumerate(layers):
        layer.p = probability * float(index) / len(layers)


def optimizer(network: nn.Module, settings: Finetune, *, lr: float) -> torch.optim.Optimizer:
    """The optimizer of `settings` over all parameters, those that are frozen at first too.

    Raises:
        ValueError: a parameter is not in exactly one group.
    """
    groups = grouped(network, settings, lr=lr)
    check_cover(network, groups)
    return build_optimizer(settings.optimizer, groups, epsilon=settings.epsilon)


def train(
    network: nn.Sequential,
    images: Batches,
    val: Batches,
    settings: Finetune,
    *,
    lr: float,
    class_weights: str,
    session: Session,
) -> Fitted:
    """Train all of `network`, as `fitting.fit` does, by the strategy of `settings`."""
    return fit(
        network,
        optimizer(network, settings, lr=lr),
        images,
        val,
        Recipe.of(settings, class_weights=class_weights),
        unfreeze=unfreezer(network, settings),
        session=session,
    )


def synchronise_batch_norm(network: nn.Sequential, settings: Finetune, device: torch.device) -> nn.Sequential:
    """`network`, its batch norms over all processes' parts of a batch where `settings` ask for it.

    Raises:
        ValueError: asked for on anything but a GPU, where torch has none.
    """
    if not settings.sync_batch_norm:
        return network
    if device.type != "cuda":
        raise ValueError(
            f"finetune.sync_batch_norm: true needs a GPU, and this runs on {device.type}; allowed here: false"
        )
    converted: nn.Sequential = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return converted
