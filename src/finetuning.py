"""Fine-tuning: the pretrained backbone and the head that was trained on it, as one network under two learning rates."""

from typing import Any

import torch
from torch import Tensor, nn

from src.backbones import Backbone
from src.heads import build_head, join
from src.optimizers import build_optimizer, parameter_groups
from src.params import Finetune
from src.training import Recipe


def assemble(
    backbone: Backbone, best: dict[str, Any], head_weights: dict[str, Tensor], *, classes: int
) -> nn.Sequential:
    """The whole network, with the head that the search found (`best`: classifier, dropout) as train_frozen left it."""
    head = build_head(best["classifier"], width=backbone.width, classes=classes, dropout=best["dropout"], seed=0)
    head.load_state_dict(head_weights)
    return join(backbone.network, head)


def optimizer(network: nn.Sequential, settings: Finetune, *, lr: float) -> torch.optim.Optimizer:
    """The head learns at `lr`, the backbone at `lr * backbone_lr_ratio`; biases and norms do not decay."""
    decay = settings.weight_decay
    head = parameter_groups(network.get_submodule("head"), "head", lr=lr, weight_decay=decay)
    backbone = network.get_submodule("backbone")
    return build_optimizer(
        settings.optimizer,
        head + parameter_groups(backbone, "backbone", lr=lr * settings.backbone_lr_ratio, weight_decay=decay),
    )


def recipe(settings: Finetune) -> Recipe:
    return Recipe(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        schedule=settings.schedule,
        warmup_epochs=settings.warmup_epochs,
        label_smoothing=settings.label_smoothing,
        ema_decay=settings.ema_decay,
        clip_norm=settings.clip_norm,
    )
