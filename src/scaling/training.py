"""Training a network from scratch as the scaling study does. N images, K classes."""

import torch
from torch import nn

from src.images.augmentation import View
from src.images.image_batches import ImageBatches
from src.interface.scaling_params import Scaling
from src.training import fitting
from src.training.fitting import Fitted, Session
from src.training.loop import Recipe
from src.training.optimizers import build_optimizer
from src.training.parameter_groups import parameter_groups


def view(resolution: int) -> View:
    """What every network here sees: pixels of [0, 1] moved to [-2, 2]; no weights expect anything of it."""
    return View(resolution=resolution, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def optimizer(network: nn.Module, settings: Scaling, *, lr: float) -> torch.optim.Optimizer:
    """Of all of `network`, at the peak rate `lr`."""
    groups = parameter_groups(network, "network", lr=lr, weight_decay=settings.weight_decay)
    return build_optimizer(settings.optimizer, groups, epsilon=settings.epsilon)


def fit(
    network: nn.Module,
    train: ImageBatches,
    val: ImageBatches,
    settings: Scaling,
    *,
    epochs: int,
    session: Session,
) -> Fitted:
    """Train all of `network` as `settings` say, and leave the weights of its best epoch on validation in it."""
    if isinstance(settings.learning_rate, str):
        raise ValueError(f"scaling.learning_rate: {settings.learning_rate}: rates.settled makes it a number first")
    return fitting.fit(
        network,
        optimizer(network, settings, lr=settings.learning_rate),
        train,
        val,
        Recipe.of(settings, epochs=epochs, warmup_epochs=settings.warmup_fraction * epochs),
        session=session,
    )
