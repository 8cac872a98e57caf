"""Training stacked heads on cached features: one pass over the features for all of them. N images, M heads."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from src.base.batches import batch_sizes
from src.base.randomness import generator, seed_of
from src.models.heads import Head
from src.training.fitting import Row, Session
from src.training.mixing import balanced_weights
from src.transfer.feature_batches import FeatureBatches
from src.transfer.stacked_heads import StackedHeads, Steps, score


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long heads are trained, and on how much they are judged.

    Attributes:
        epochs: passes over the features, the only one perhaps not to its end.
        steps: of the optimizer, over all of them.
        judged: validation images, a random part of them.
    """

    epochs: int
    steps: int
    judged: int


def fit_heads(
    heads: Sequence[Head],
    train: FeatureBatches,
    val: FeatureBatches,
    length: Length,
    *,
    batch_size: int,
    class_weights: str,
    session: Session,
) -> tuple[StackedHeads, list[list[Row]]]:
    """New heads after the last epoch, and the curve of each; as `fit_head` trains one, with the same seeds and batches.

    A loss or a norm that is not finite is None in its row: of many heads, some may diverge.

    Args:
        heads: of one classifier, those of equal dropout beside each other.
        class_weights: of the loss in training, equal or balanced; validation weighs all images alike.
        session: told the number of images times heads after each step.
    """
    stack = StackedHeads(
        heads,
        width=train.features.shape[-1],
        classes=len(train.classes),
        seed=seed_of(session.seed, "head"),
        steps=length.steps,
        device=train.labels.device,
        class_weights=balanced_weights(train.labels, len(train.classes)) if class_weights == "balanced" else None,
    )
    judged = _judged(val, length.judged, session.seed)
    curves: list[list[Row]] = [[] for _ in heads]
    sizes = batch_sizes(len(train.labels), batch_size)
    for epoch in range(1, length.epochs + 1):
        taken = _train_epoch(stack, train, epoch, length, batch_size=batch_size, session=session)
        accuracies, losses = score(stack, *judged, batch_size)
        rates = stack.rates()
        for index, row in enumerate(_rows(taken, sizes[: len(taken)])):
            found = {"head_lr": rates[index], "val_accuracy": accuracies[index], "val_loss": _finite(losses[index])}
            curves[index].append({"epoch": epoch} | row | found)
    return stack, curves


def _judged(val: FeatureBatches, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Clean features and labels of so many validation images: all, in order, or a part that the seed draws."""
    if count >= len(val.labels):
        return val.features[0], val.labels
    drawn = torch.randperm(len(val.labels), generator=generator(seed, "judged"))[:count].to(val.labels.device)
    return val.features[0].index_select(0, drawn), val.labels[drawn]


def _train_epoch(
    stack: StackedHeads, train: FeatureBatches, epoch: int, length: Length, *, batch_size: int, session: Session
) -> list[Steps]:
    before = (epoch - 1) * len(batch_sizes(len(train.labels), batch_size))
    taken = []
    batches = itertools.islice(train.shuffled(epoch, batch_size), length.steps - before)
    for number, (inputs, labels) in enumerate(batches):
        seed = seed_of(session.seed, "step", epoch, number, 0)  # that of `loop.Loop`, in a single process
        taken.append(stack.step(inputs, labels, number=before + number, seed=seed))
        session.advance(len(labels) * len(stack.heads))
    return taken


def _rows(taken: Sequence[Steps], sizes: Sequence[int]) -> list[Row]:
    """By head, what `tally.Record.row` says of one."""
    images = torch.tensor(sizes, dtype=torch.float64).unsqueeze(1)
    losses, norms = (torch.stack([getattr(step, name) for step in taken]).cpu() for name in ("loss", "norm"))
    correct = torch.stack([step.correct for step in taken]).sum(0).tolist()
    columns: dict[str, list[Any]] = {
        "train_loss": ((losses.double() * images).sum(0) / images.sum()).tolist(),
        "train_accuracy": [count / sum(sizes) for count in correct],
        "gradient_norm": norms.double().mean(0).tolist(),
        "first_gradient_norm": norms[0].tolist(),
    }
    return [
        {name: _finite(value) for name, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
