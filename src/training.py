"""Training: one loop for a head on cached features and for a whole network on images. N images, K classes."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.averaging import MovingAverage
from src.batches import Batches, steps_per_epoch
from src.metrics import score
from src.optimizers import learning_rate_factor
from src.randomness import seed_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; fields as in params.yaml, 0 for off."""

    epochs: int
    batch_size: int
    schedule: str
    warmup_epochs: int = 0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What training found.

    Attributes:
        best_epoch: counted from 1, by validation accuracy, then by validation loss.
        scores: that epoch's validation accuracy (fraction) and loss (nats).
        curve: one row per epoch.
        images_per_second: of training steps, evaluation left out.
    """

    best_epoch: int
    scores: dict[str, float]
    curve: list[dict[str, Any]]
    images_per_second: float


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Batches,
    val: Batches,
    recipe: Recipe,
    *,
    seed: int,
    advance: Callable[[int], None],
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Fitted:
    """Train `model` in place and leave the weights of its best epoch on validation in it.

    With `recipe.ema_decay`, it is the averaged weights that are judged and kept.

    Args:
        seed: of the order of images and of dropout.
        advance: told the number of images after each step.
        on_epoch: given the epoch's row of the curve.

    Raises:
        FloatingPointError: a loss is not finite; names epoch, step and learning rate.
    """
    loop = _Loop(
        model=model,
        optimizer=optimizer,
        recipe=recipe,
        seed=seed,
        steps=steps_per_epoch(len(train.labels), recipe.batch_size),
    )
    curve: list[dict[str, Any]] = []
    best_row: dict[str, Any] = {}
    best_state: dict[str, Tensor] = {}
    for epoch in range(1, recipe.epochs + 1):
        row = loop.train_epoch(train, epoch, advance)
        scores = score(predict(loop.judged, val, recipe.batch_size), val.labels)
        if not math.isfinite(scores["loss"]):
            raise FloatingPointError(
                f"validation loss is {scores['loss']} after epoch {epoch}; lower the learning rate"
            )
        row |= {f"val_{name}": value for name, value in scores.items()}
        curve.append(row)
        on_epoch(row)
        if not best_row or _rank(row) > _rank(best_row):
            best_row, best_state = row, copy.deepcopy(loop.judged.state_dict())
    model.load_state_dict(best_state)
    return Fitted(
        best_epoch=best_row["epoch"],
        scores={"accuracy": best_row["val_accuracy"], "loss": best_row["val_loss"]},
        curve=curve,
        images_per_second=recipe.epochs * len(train.labels) / loop.seconds,
    )


def predict(model: nn.Module, batches: Batches, batch_size: int) -> Tensor:
    """Logits float32 of shape (N, K) for every image in stored order, on the device."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(inputs) for inputs in batches.clean(batch_size)])


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of `model` on the CPU, each tensor contiguous in a storage of its own."""
    return {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()
    }


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]


@dataclass(kw_only=True)
class _Loop:
    """A model in training: what persists from one epoch to the next."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    seed: int
    steps: int  # per epoch
    seconds: float = 0.0  # spent in training steps
    averaged: MovingAverage | None = field(init=False)
    schedule: torch.optim.lr_scheduler.LambdaLR = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.averaged = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        total, warmup = self.steps * recipe.epochs, self.steps * recipe.warmup_epochs
        factor = partial(learning_rate_factor, recipe.schedule, total=total, warmup=warmup)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    @property
    def judged(self) -> nn.Module:
        """The weights that validation judges and the stage keeps."""
        return self.model if self.averaged is None else self.averaged.model

    def train_epoch(self, train: Batches, epoch: int, advance: Callable[[int], None]) -> dict[str, Any]:
        """One pass over the data; the row of the curve that it leaves, validation still missing."""
        start = time.perf_counter()
        self.model.train()
        losses, norms, weights, rates = [], [], [], []
        correct = torch.zeros((), dtype=torch.int64, device=train.labels.device)
        for step, (inputs, labels) in enumerate(train.shuffled(epoch, self.recipe.batch_size)):
            torch.manual_seed(seed_of(self.seed, "step", epoch, step))  # dropout and stochastic depth draw from it
            rates.append({f"{group['name']}_lr": group["lr"] for group in self.optimizer.param_groups})
            logits = self.model(inputs)
            losses.append(F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing))
            norms.append(self._update(losses[-1]))
            losses[-1] = losses[-1].detach()
            correct += (logits.detach().argmax(1) == labels).sum()
            weights.append(len(labels))
            advance(len(labels))
        loss = torch.stack(losses).double()
        self._check_finite(loss, epoch, rates)
        share = torch.tensor(weights, dtype=torch.float64, device=loss.device) / sum(weights)
        self.seconds += time.perf_counter() - start
        return {
            "epoch": epoch,
            "train_loss": (loss * share).sum().item(),
            "train_accuracy": correct.item() / sum(weights),
            **rates[-1],
            "gradient_norm": torch.stack(norms).double().mean().item(),
        }

    def _update(self, loss: Tensor) -> Tensor:
        """Backward pass and optimizer step; the gradient's norm before clipping."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self.recipe.clip_norm:
            scale = (self.recipe.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, scale)
        self.optimizer.step()
        self.schedule.step()
        if self.averaged is not None:
            self.averaged.update()
        return norm

    def _check_finite(self, losses: Tensor, epoch: int, rates: list[dict[str, float]]) -> None:
        """Once per epoch: asking after every step would make an accelerator wait for the host."""
        broken = (~losses.isfinite()).nonzero().flatten().tolist()
        if broken:
            step = broken[0]
            at = ", ".join(f"{name} {rate:.3g}" for name, rate in rates[step].items())
            raise FloatingPointError(
                f"training loss is {losses[step].item()} at epoch {epoch}, step {step + 1} of {len(losses)} ({at}); "
                "lower the learning rate"
            )
