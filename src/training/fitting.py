"""Training: one loop for a head on cached features and for a whole network on images. N images, K classes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from src.base import distributed
from src.base.batches import Batches
from src.base.devices import is_out_of_memory
from src.training.checkpoints import Checkpoints
from src.training.loop import Loop, Recipe
from src.training.metrics import score
from src.training.precision import autocast

Row = dict[str, Any]  # of a training curve


def ignore(_row: Row) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a training is given by whoever starts it, beside what is trained and how.

    Attributes:
        seed: of the order of images, of dropout and of new weights.
        advance: told the number of images after each step.
        on_epoch: given each epoch's row of the curve.
        checkpoints: of this very run; its state, if there is one, is where training goes on. None: nothing is kept.
    """

    seed: int
    advance: Callable[[int], None]
    on_epoch: Callable[[Row], None] = ignore
    checkpoints: Checkpoints | None = None

    def numbered(self, kind: str, number: int) -> "Session":
        """The same for one of many trainings, whose rows then say which it is: `kind` is their column."""
        return replace(self, on_epoch=lambda row: self.on_epoch({kind: number} | row))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What training found.

    Attributes:
        best_epoch: counted from 1, by validation accuracy, then by validation loss.
        scores: that epoch's validation accuracy (fraction) and loss (nats).
        curve: one row per epoch.
        machine: what may differ from run to run: images/s of training steps, evaluation left out, the number format,
            whether torch.compile was in use, and the images of one forward pass.
    """

    best_epoch: int
    scores: dict[str, float]
    curve: list[Row]
    machine: dict[str, Any]


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Batches,
    val: Batches,
    recipe: Recipe,
    *,
    session: Session,
    unfreeze: Callable[[int], None] = lambda epoch: None,
) -> Fitted:
    """Train `model` in place and leave the weights of its best epoch on validation in it.

    With `recipe.ema_decay`, it is the averaged weights that are judged and kept.

    Args:
        optimizer: its groups hold their peak rates as `initial_lr`, and `name`.
        unfreeze: told each epoch, from 1, before it begins, with `model` in training mode.

    Raises:
        FloatingPointError: a loss or a gradient is not finite; names epoch, step, learning rate and the last good
            checkpoint. Under float16 such a step is left out and counted instead.
        MemoryError: not even two images at a time fit.
    """
    kept = session.checkpoints or Checkpoints(None)
    loop = Loop(model=model, optimizer=optimizer, train=train, recipe=recipe, seed=session.seed, checkpoints=kept)
    while not loop.finished:
        model.train()
        unfreeze(loop.epoch)
        row = loop.train_epoch(session.advance)
        scores = score(predict(loop.judged, val, recipe.batch_size, precision=recipe.precision), val.labels)
        if not math.isfinite(scores["loss"]):
            raise FloatingPointError(f"validation loss is {scores['loss']} after epoch {loop.epoch}; {loop.advice}")
        loop.end_epoch(row | {f"val_{name}": value for name, value in scores.items()})
        session.on_epoch(loop.curve[-1])
    model.load_state_dict(loop.best_state)
    best = loop.best
    return Fitted(
        best_epoch=best["epoch"],
        scores={"accuracy": best["val_accuracy"], "loss": best["val_loss"]},
        curve=loop.curve,
        machine=loop.machine(),
    )


def predict(model: nn.Module, batches: Batches, batch_size: int, *, precision: str = "float32") -> Tensor:
    """Logits float32 of shape (N, K) for every image in stored order, on the device; the processes share the work.

    Where `batch_size` images do not fit the memory, half as many are taken at a time, which changes nothing else.
    """
    model.eval()
    try:
        with torch.inference_mode(), autocast(precision, batches.labels.device):
            own = torch.cat([model(inputs).float() for inputs in batches.clean(batch_size)])
    except RuntimeError as error:
        if batch_size == 1 or not is_out_of_memory(error):
            raise
        own = None
    if own is None:
        return predict(model, batches, batch_size // 2, precision=precision)
    return distributed.gather(own, len(batches.labels))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of `model` on the CPU, each tensor contiguous in a storage of its own."""
    return {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()
    }
