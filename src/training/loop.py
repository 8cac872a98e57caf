"""A model in training, step by step: what persists from one step to the next, and from a kill to the next start.

Randomness is a function of (seed, epoch, step), so a run's state is its tensors and where it is; restored from a
checkpoint, it ends with the bytes of an undisturbed one. N images, K classes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from src.base import distributed
from src.base.batches import SMALLEST_PART, Batches, batch_sizes
from src.base.randomness import seed_of
from src.interface import console
from src.training import mixing
from src.training.averaging import MovingAverage
from src.training.checkpoints import Checkpoints
from src.training.precision import resolve
from src.training.schedules import learning_rate_factor
from src.training.steps import Batch, Stepper
from src.training.tally import MOST_SKIPPED, Record


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; fields as in params.yaml, 0 for off."""

    epochs: int
    batch_size: int
    schedule: str
    micro_batch_size: int | None = None
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.0
    class_weights: str = "equal"
    clip_norm: float = 0.0
    early_stopping: int = 0
    precision: str = "float32"
    compile: bool = False
    checkpoint_minutes: float = math.inf

    @classmethod
    def of(cls, section: Any, **others: Any) -> "Recipe":
        """The fields that `section` of params.yaml has under the same name, and `others`."""
        shared = {field.name for field in fields(cls)} & {field.name for field in fields(section)}
        return cls(**{name: getattr(section, name) for name in shared} | others)


def _rank(row: dict[str, Any]) -> tuple[float, float]:
    return row["val_accuracy"], -row["val_loss"]


def epoch_batches(train: Batches, recipe: Recipe, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """This process's part of each batch of an epoch from number `start` on, mixed as the recipe says."""
    count, device = len(train.labels), train.labels.device
    batches = train.shuffled(epoch, recipe.batch_size, start)
    if not recipe.mixup and not recipe.cutmix:
        yield from (Batch(inputs=inputs, labels=labels) for inputs, labels in batches)
        return
    draws = mixing.draw(count, mixup=recipe.mixup, cutmix=recipe.cutmix, seed=seed_of(seed, "mix", epoch)).to(device)
    parts = draws.split(batch_sizes(count, recipe.batch_size))[start:]
    for (inputs, labels), part in zip(batches, parts, strict=True):
        mixed, kept = mixing.mix(inputs, distributed.own_part(part))
        yield Batch(inputs=mixed, labels=labels, partners=labels.roll(1, 0), kept=kept)


def build_stepper(model: nn.Module, optimizer: torch.optim.Optimizer, train: Batches, recipe: Recipe) -> Stepper:
    """What takes the recipe's steps on `train`."""
    weighted = recipe.class_weights == "balanced"
    return Stepper(
        model=model,
        optimizer=optimizer,
        device=train.labels.device,
        precision=recipe.precision,
        label_smoothing=recipe.label_smoothing,
        clip_norm=recipe.clip_norm,
        part=recipe.micro_batch_size,
        compiled=recipe.compile,
        class_weights=mixing.balanced_weights(train.labels, len(train.classes)) if weighted else None,
    )


@dataclass(kw_only=True)
class Loop:
    """A model in training: what persists from one step to the next."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Batches
    recipe: Recipe
    seed: int
    checkpoints: Checkpoints
    epoch: int = 1
    curve: list[dict[str, Any]] = field(default_factory=list)
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        recipe, count, device = self.recipe, len(self.train.labels), self.train.labels.device
        self.averaged = MovingAverage(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.sizes = batch_sizes(count, recipe.batch_size)
        self.steps = len(self.sizes)
        most = max(1, min(self.sizes) // SMALLEST_PART)
        if distributed.processes() > most:
            raise ValueError(
                f"LAUNCHER starts {distributed.processes()} processes, of which some would have less than "
                f"{SMALLEST_PART} images of a batch; allowed with these batches: at most {most}"
            )
        self.record = Record(self.steps, device, skips=resolve(recipe.precision, device) == "float16")
        self.stepper = build_stepper(self.model, self.optimizer, self.train, recipe)
        self.seconds, self.trained = 0.0, 0  # of training steps in this process
        self.written = time.monotonic()  # when the last checkpoint was
        self._restore()

    @property
    def judged(self) -> nn.Module:
        """The weights that validation judges and the stage keeps."""
        return self.model if self.averaged is None else self.averaged.model

    @property
    def best(self) -> dict[str, Any]:
        return max(self.curve, key=_rank)

    @property
    def finished(self) -> bool:
        patience = self.recipe.early_stopping
        stale = bool(patience and self.curve) and len(self.curve) - self.best["epoch"] >= patience
        return stale or self.epoch > self.recipe.epochs

    @property
    def advice(self) -> str:
        state = f"; the last good state is {self.checkpoints.path}" if self.checkpoints.path else ""
        return f"lower the learning rate{state}"

    def train_epoch(self, advance: Callable[[int], None]) -> dict[str, Any]:
        """The rest of an epoch's pass over the data; its row of the curve, validation still missing."""
        start = time.perf_counter()
        for batch in epoch_batches(self.train, self.recipe, seed=self.seed, epoch=self.epoch, start=self.record.step):
            step = self.record.step
            total = self.sizes[step]
            self._set_rates(step)
            seed = seed_of(self.seed, "step", self.epoch, step, distributed.rank())
            taken = self.stepper.take(batch, total=total, seed=seed)
            if self.averaged is not None:
                self.averaged.update()
            self.record.add(taken)
            self.trained += total
            if self.record.due:
                self._check_finite()
            if time.monotonic() - self.written >= 60 * self.recipe.checkpoint_minutes and self.record.step < self.steps:
                self._write()
            advance(total)
        self._check_finite()
        self.seconds += time.perf_counter() - start
        return {"epoch": self.epoch} | self.record.row(self.sizes) | self._rates()

    def end_epoch(self, row: dict[str, Any]) -> None:
        """Note the row, keep the weights where they are the best, and write a checkpoint."""
        self.curve.append(row)
        if self.best is row:
            self.best_state = copy.deepcopy(self.judged.state_dict())
        self.epoch += 1
        self.record.clear()
        self._write()

    def machine(self) -> dict[str, Any]:
        """What may differ from run to run."""
        speed = {"images_per_second": round(self.trained / self.seconds, 1)} if self.seconds else {}
        return speed | {
            "precision": resolve(self.recipe.precision, self.train.labels.device),
            "compiled": self.stepper.compiled,
            "micro_batch_size": self.stepper.part or self.recipe.batch_size,
            "processes": distributed.processes(),
        }

    def _set_rates(self, step: int) -> None:
        recipe, steps = self.recipe, self.steps
        factor = learning_rate_factor(
            recipe.schedule,
            (self.epoch - 1) * steps + step,
            total=recipe.epochs * steps,
            warmup=round(recipe.warmup_epochs * steps),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _rates(self) -> dict[str, float]:
        return {f"{group['name']}_lr": group["lr"] for group in self.optimizer.param_groups}

    def _check_finite(self) -> None:
        step = self.record.first_broken()
        if step is None:
            self._check_skipped()
            return
        self._set_rates(step)
        rates = ", ".join(f"{name} {rate:.3g}" for name, rate in self._rates().items())
        loss, norm = self.record.losses[step].item(), self.record.norms[step].item()
        what = f"training loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        raise FloatingPointError(
            f"{what} at epoch {self.epoch}, step {step + 1} of {self.steps} ({rates}); {self.advice}"
        )

    def _check_skipped(self) -> None:
        """Whether float16 leaves out too many steps in a row, or all of a short run."""
        most = min(MOST_SKIPPED, self.recipe.epochs * self.steps)
        if not self.record.skips or (skipped := self.record.skipped) < most:
            return
        scale = self.stepper.scaler.get_scale()
        cure = f"or {self.advice}" if scale < 1 else "or train for more steps"
        raise FloatingPointError(
            f"float16: the gradient overflowed in {skipped} steps in a row, until epoch {self.epoch}, step "
            f"{self.record.step} of {self.steps}, at a loss scale of {scale:.3g} in the end; set precision to bfloat16 "
            f"or float32, {cure}"
        )

    def _write(self) -> None:
        if self.record.step:
            self._check_finite()  # a broken state is no good one
        self.checkpoints.write(
            {
                "epoch": self.epoch,
                "images": (self.epoch - 1) * sum(self.sizes) + sum(self.sizes[: self.record.step]),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "averaged": self.averaged.state() if self.averaged else None,
                "stepper": self.stepper.state(),
                "record": self.record.state(),
                "curve": self.curve,
                "best_state": self.best_state,
            }
        )
        self.written = time.monotonic()

    def _restore(self) -> None:
        state = self.checkpoints.state
        if state is None:
            return
        self.epoch, self.curve, self.best_state = state["epoch"], state["curve"], state["best_state"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.averaged is not None:
            self.averaged.restore(state["averaged"])
        self.stepper.restore(state["stepper"])
        self.record.restore(state["record"])
        self.checkpoints.state = None  # as large as all of the above
        if self.finished:
            console.say("training was finished before; `make clean-resume` makes it begin again")
        else:
            console.say(
                f"goes on at epoch {self.epoch} of {self.recipe.epochs}, step {self.record.step + 1} of {self.steps}"
            )
