"""Training a new head on the cached features of a frozen backbone: an epoch is a few matrix products."""

from torch import nn

from src.base.randomness import seed_of
from src.models.heads import Head, build_head
from src.training.fitting import Fitted, Session, fit
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.transfer.feature_batches import FeatureBatches


def fit_head(
    chosen: Head,
    train: FeatureBatches,
    val: FeatureBatches,
    *,
    epochs: int,
    batch_size: int,
    class_weights: str,
    session: Session,
) -> tuple[nn.Module, Fitted]:
    """Train a new head, with the hyperparameters that the search draws and finds, on cached features."""
    head = build_head(
        chosen.classifier,
        width=train.features.shape[-1],
        classes=len(train.classes),
        dropout=chosen.dropout,
        seed=seed_of(session.seed, "head"),
    ).to(train.labels.device)
    groups = parameter_groups(head, "head", lr=chosen.learning_rate, weight_decay=chosen.weight_decay)
    optimizer = build_optimizer(chosen.optimizer, groups, epsilon=EPSILON)
    recipe = Recipe(epochs=epochs, batch_size=batch_size, schedule=chosen.schedule, class_weights=class_weights)
    fitted = fit(head, optimizer, train, val, recipe, session=session)
    return head, fitted
