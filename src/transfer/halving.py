"""Successive halving over the whole grid of heads (Jamieson and Talwalkar, arXiv:1502.07943).

All heads of the grid are trained for a short while, the best of them for longer, and so on: in rungs, from one to the
next `reduction` times as long, with one in `reduction` of the heads, until `finalists` are left. Where we depart from
the paper:

- Each rung trains its heads from the start, with schedules that fall over its own length. A head is judged at its
  rate's end, not in the middle of a schedule; what the last rung holds are heads as any other search trains them; and
  nothing but a journal has to outlive a kill.
- Only heads of one classifier and one optimizer compete with each other. Linear heads learn faster than deep ones, and
  momentum takes ten steps to build up: one ranking for all would be decided by the length of the first rung.
- Of heads that validation does not tell apart, as those whose weight decay has not yet had the time to matter, one
  goes on: the others would take the places of heads that differ.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, product
from pathlib import Path

from src.base.batches import batch_sizes
from src.interface.params import TuneHead
from src.models.heads import HIDDEN, Head
from src.training.fitting import Session
from src.transfer.feature_batches import FeatureBatches
from src.transfer.stacked_training import Length, fit_heads
from src.transfer.trials import Trial, read_batches, write_batch

FEWEST_STEPS = 3  # of the first rung
FEWEST_JUDGES = 1000  # validation images
SAME = 1e-3  # of heads that answer equally many images: the relative difference of their losses, at most
WEIGHTS = 2**24  # of all heads of a batch: with gradients and moments, a quarter of a GiB


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Heads that are trained equally long.

    Attributes:
        number: from 1.
        heads: how many at most, of each classifier and optimizer.
        length: how long.
        images: that each of them is trained on, epochs counted.
    """

    number: int
    heads: int
    length: Length
    images: int


def grid(settings: TuneHead) -> list[Head]:
    """Every combination of values, the rate on the scale of its optimizer; a head's place is its number."""
    rows = product(*(getattr(settings, name) for name in ("classifier", "dropout", "optimizer")))
    return [
        Head(
            learning_rate=rate * getattr(settings.rate_factor, optimizer),
            weight_decay=decay,
            dropout=dropout,
            optimizer=optimizer,
            schedule=schedule,
            classifier=classifier,
        )
        for classifier, dropout, optimizer in rows
        for schedule, decay, rate in product(settings.schedule, settings.weight_decay, settings.learning_rate)
    ]


def rungs(settings: TuneHead, *, images: int, judges: int) -> list[Rung]:
    """From the shortest to the one that trains for all of `epochs`.

    Each has `reduction` times the steps of the one below, in whole epochs where it has more than one; it has
    FEWEST_STEPS at least, and where that makes several of them equally long, they are one.

    Args:
        images: of the training set.
        judges: validation images; a short rung asks half as many of them as it trains on, FEWEST_JUDGES at least.
    """
    sizes = batch_sizes(images, settings.batch_size)
    counts = [len(grid(settings)) // len(_leagues(settings))]
    while counts[-1] > settings.finalists:
        counts.append(max(settings.finalists, math.ceil(counts[-1] / settings.reduction)))
    by_length: dict[int, int] = {}
    for above, count in enumerate(reversed(counts)):
        steps = _steps(settings.epochs * len(sizes) / settings.reduction**above, settings.epochs, len(sizes))
        by_length[steps] = count
    found = []
    for number, (steps, count) in enumerate(reversed(by_length.items()), start=1):
        epochs = math.ceil(steps / len(sizes))
        seen = sum((sizes * epochs)[:steps])
        length = Length(epochs=epochs, steps=steps, judged=min(judges, max(FEWEST_JUDGES, seen // 2)))
        found.append(Rung(number=number, heads=count, length=length, images=seen))
    return found


def _steps(wanted: float, most: int, epoch: int) -> int:
    """About so many, whole epochs where it is more than one, of which there are `most`."""
    wanted = max(wanted, FEWEST_STEPS)
    return min(most, round(wanted / epoch)) * epoch if wanted >= epoch else round(wanted)


def images_in_all(settings: TuneHead, *, images: int, judges: int) -> int:
    """What all heads of all rungs are trained on, epochs counted, at most."""
    plan = rungs(settings, images=images, judges=judges)
    return sum(rung.heads * len(_leagues(settings)) * rung.images for rung in plan)


def search_heads(
    settings: TuneHead,
    train: FeatureBatches,
    val: FeatureBatches,
    *,
    class_weights: str,
    session: Session,
    journal: Path,
) -> list[Trial]:
    """Run the batches of heads that `journal` does not hold yet, and return the trials of all rungs in order.

    Args:
        class_weights: of the loss, equal or balanced.
        session: its seed is that of each head, as in any other search; it is told the epochs of the last rung alone.
        journal: file of one JSON line per batch that was trained.

    Raises:
        FloatingPointError: all heads of one classifier and optimizer diverge, or all of the last rung.
    """
    heads, done = grid(settings), iter(read_batches(journal))
    plan = rungs(settings, images=len(train.labels), judges=len(val.labels))
    shape = {"width": train.features.shape[-1], "classes": len(train.classes)}
    alive, found = list(range(len(heads))), list[Trial]()
    for rung in plan:
        own = list[Trial]()
        for numbers in batches(heads, alive, **shape):
            batch = next(done, None)
            if batch is None:
                batch = _train(
                    heads,
                    numbers,
                    rung,
                    settings,
                    train,
                    val,
                    class_weights=class_weights,
                    session=session,
                    last=rung is plan[-1],
                )
                write_batch(batch, journal)
            own += batch
        found += sorted(own, key=lambda trial: trial.trial)
        if rung is not plan[-1]:
            above = plan[rung.number].heads
            alive = [number for league in _leagues(settings) for number in _best(own, league, above)]
    if all(trial.val_loss is None for trial in own):
        raise FloatingPointError(f"all {len(own)} heads of the last rung diverged: see tune_head.learning_rate")
    return found


def _leagues(settings: TuneHead) -> list[tuple[str, str]]:
    """Classifier and optimizer of heads that compete with each other."""
    return list(product(settings.classifier, settings.optimizer))


def batches(heads: Sequence[Head], numbers: Sequence[int], *, width: int, classes: int) -> Iterator[list[int]]:
    """Numbers of heads that are trained as one: of one classifier, the same dropout side by side, WEIGHTS at most."""
    ordered = sorted(numbers, key=lambda number: (heads[number].classifier, heads[number].dropout, number))
    for classifier, same in groupby(ordered, key=lambda number: heads[number].classifier):
        size = HIDDEN * (width + classes) if classifier == "deep" else width * classes
        yield from _portions(same, max(1, WEIGHTS // size))


def _portions(numbers: Iterator[int], size: int) -> Iterator[list[int]]:
    while portion := list(islice(numbers, size)):
        yield portion


def _train(
    heads: Sequence[Head],
    numbers: Sequence[int],
    rung: Rung,
    settings: TuneHead,
    train: FeatureBatches,
    val: FeatureBatches,
    *,
    class_weights: str,
    session: Session,
    last: bool,
) -> list[Trial]:
    own = [heads[number] for number in numbers]
    _, curves = fit_heads(
        own,
        train,
        val,
        rung.length,
        batch_size=settings.batch_size,
        class_weights=class_weights,
        session=session,
    )
    found = []
    for number, head, curve in zip(numbers, own, curves, strict=True):
        best = max(curve, key=lambda row: (row["val_loss"] is not None, row["val_accuracy"], -(row["val_loss"] or 0.0)))
        trial = Trial(
            trial=number,
            rung=rung.number,
            epochs=rung.images / len(train.labels),
            judged=rung.length.judged,
            head=head,
            best_epoch=best["epoch"],
            curve=curve if last else [],
            val_accuracy=best["val_accuracy"],
            val_loss=best["val_loss"],
        )
        found.append(trial)
        for row in trial.curve:
            session.numbered("trial", number).on_epoch(row)
    return found


def _best(own: Sequence[Trial], league: tuple[str, str], count: int) -> list[int]:
    """Numbers of the best heads of a classifier and optimizer, in order; none that diverged or is another's twin."""
    ours = [trial for trial in own if (trial.head.classifier, trial.head.optimizer) == league]
    kept: list[Trial] = []
    for trial in sorted(ours, key=lambda each: each.rank, reverse=True):
        if len(kept) < count and trial.val_loss is not None and not any(_same(trial, each) for each in kept):
            kept.append(trial)
    if not kept:
        raise FloatingPointError(
            f"all {len(ours)} {' '.join(league)} heads diverged within {ours[0].epochs:.2g} epochs: "
            "see tune_head.learning_rate"
        )
    return sorted(trial.trial for trial in kept)


def _same(one: Trial, other: Trial) -> bool:
    losses = one.val_loss or 0.0, other.val_loss or 0.0
    return one.val_accuracy == other.val_accuracy and math.isclose(*losses, rel_tol=SAME)
