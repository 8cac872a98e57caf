"""The learning-rate range test: train at ever higher rates for a few epochs at most, and see where the loss falls.

Source: Smith, arXiv:1506.01186, section 3.3, whose rates rise linearly and who looks at accuracy; here they rise
geometrically and the training loss is looked at, as in fastai's `lr_find`. N images.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from src.base.batches import Batches
from src.base.randomness import seed_of
from src.training.loop import Recipe, build_stepper, epoch_batches

DECAY = 0.98  # of the smoothed loss, at most: fastai's
AVERAGED = 0.1  # share of the steps that the smoothed loss looks back over, at most
DIVERGED = 4.0  # times its minimum: where the test ends; fastai's
FALL = 0.05  # of the smoothed loss, at least, for a rate to be suggested
SKIPPED = 0.1  # of the rows, the first, whose average is over too few losses: fastai's plot leaves out 10 of 100
SPAN = 0.1  # of the rows, that a slope is taken over

Row = dict[str, float]


def run(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Batches,
    recipe: Recipe,
    *,
    seed: int,
    low: float = 1e-6,
    high: float = 1.0,
    steps: int = 100,
    advance: Callable[[int], None],
) -> list[Row]:
    """Train `model` at rates from `low` to `high`, one step each: rows of learning_rate, loss and smoothed (nats).

    All of the model trains, in place: it is worth nothing afterwards. The test ends early, with the row in which it
    happens, once the smoothed loss is more than 4 times its minimum; and before the row of a loss that is not finite.

    The smoothed loss is an exponential average, its bias corrected as in Adam (arXiv:1412.6980, section 3). fastai's
    decay of 0.98 looks back over 50 steps; with fewer than 500 steps, ours looks back over a tenth of them, because an
    average that looks back over half the test puts every fall too high.

    Args:
        optimizer: its groups hold their peak rates as `initial_lr`, whose ratios stay; the highest is at the rate of
            the row. Under params.yaml it is the head's, which `lr` names.
        recipe: batch size, loss, precision and clipping; what belongs to schedules and epochs is left out.
        seed: of dropout and mixing.
        steps: at most; epochs follow each other until they are taken.
        advance: told the number of images after each step.
    """
    plain = replace(recipe, compile=False)  # compiling would take longer than the test
    stepper = build_stepper(model.train(), optimizer, train, plain)
    rows: list[Row] = []
    decay, average = smoothing(steps), 0.0
    epochs = (epoch_batches(train, recipe, seed=seed, epoch=epoch) for epoch in itertools.count(1))
    batches = itertools.chain.from_iterable(epochs)
    for step, (rate, batch) in enumerate(zip(rates(low, high, steps), batches, strict=False)):
        set_rates(optimizer, rate)
        taken = stepper.take(batch, total=len(batch.labels), seed=seed_of(seed, "range test", step))
        loss = taken.loss.item()
        if not math.isfinite(loss):
            break
        average = decay * average + (1 - decay) * loss
        rows.append({"learning_rate": rate, "loss": loss, "smoothed": average / (1 - decay ** (step + 1))})
        advance(len(batch.labels))
        if rows[-1]["smoothed"] > DIVERGED * min(row["smoothed"] for row in rows):
            break
    return rows


def rates(low: float, high: float, steps: int) -> list[float]:
    """`steps` rates from `low` to `high`, each the same multiple of the one before."""
    return [low * (high / low) ** (step / max(1, steps - 1)) for step in range(steps)]


def smoothing(steps: int) -> float:
    """Decay of the smoothed loss in a test of `steps`."""
    return min(DECAY, max(0.0, 1 - 1 / (AVERAGED * steps)))


def set_rates(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Scale the peak rates of all groups alike, so that the highest becomes `rate`."""
    highest = max(group["initial_lr"] for group in optimizer.param_groups)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["initial_lr"] / highest


def suggest(rows: Sequence[Row]) -> float:
    """The rate around which the smoothed loss falls fastest, rates counted in logarithms, on its way to its minimum.

    Source: the rule `steep` of fastai's `lr_find`. We depart from it where noise falls fastest: a slope is that over a
    tenth of the rows, instead of from one to the next, and neither the first tenth counts nor what follows the minimum.

    Args:
        rows: as `run` makes them, their rates a geometric series.

    Raises:
        ValueError: there are fewer than three rows, or the smoothed loss falls by less than a twentieth.
    """
    if len(rows) < 3:
        raise ValueError(f"range test: the loss is finite in {len(rows)} steps only: there is no rate to suggest")
    first = int(SKIPPED * len(rows))
    smoothed = [row["smoothed"] for row in rows]
    lowest = min(range(first, len(rows)), key=smoothed.__getitem__)
    if smoothed[lowest] > (1 - FALL) * smoothed[first]:
        raise ValueError(
            f"range test: the loss hardly falls in {len(rows)} steps, from {smoothed[first]:.3g} to "
            f"{smoothed[lowest]:.3g} nats: there is no rate to suggest"
        )
    reach = min(max(1, round(SPAN * len(rows) / 2)), (lowest - first) // 2)
    centres = range(first + reach, lowest - reach + 1)
    steepest = min(centres, key=lambda row: smoothed[row + reach] - smoothed[row - reach])
    return rows[steepest]["learning_rate"]
