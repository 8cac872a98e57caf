"""Training from scratch, one run per seed, of which a kill costs no finished one. N images, K classes."""

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from src.base import artifacts, distributed
from src.images.image_batches import ImageBatches
from src.interface import console
from src.interface.scaling_params import Arm, Scaling
from src.scaling.networks import Model
from src.scaling.training import fit
from src.training import fitting
from src.training.checkpoints import Checkpoints
from src.training.fitting import Row, Session, ignore
from src.training.metrics import score

NEAR = 0.95  # of the final accuracy


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """What one seed's training left, test scored once at its end.

    Attributes:
        curve: one row per epoch.
        best_epoch: counted from 1, by validation; the logits are of its weights.
        logits: of val and test, float32 (N, K).
        machine: what may differ from run to run, as `Fitted` has it.
    """

    curve: list[Row]
    best_epoch: int
    logits: dict[str, Tensor]
    machine: dict[str, Any]


def overridden(settings: Scaling, arm: Arm) -> Scaling:
    """`settings` with the arm's own values of them. Its dropout and stochastic depth are those of the base."""
    own = {name: value for name, value in vars(arm).items() if value is not None and hasattr(settings, name)}
    return replace(settings, **own)


@dataclass(frozen=True, kw_only=True)
class SeedRuns:
    """One run of `model` per seed, all on the same splits; what they leave stays in `folder` for a later start.

    Attributes:
        splits: train, val and test, for the model's resolution; their own seeds are not used.
        label: of progress.
        on_epoch: given the row of each epoch's curve, and in it the seed, after its line was said.
    """

    model: Model
    splits: Mapping[str, ImageBatches]
    settings: Scaling
    epochs: int
    seeds: Sequence[int]
    folder: Path
    label: str
    on_epoch: Callable[[Row], None] = ignore

    @property
    def images(self) -> int:
        """Images of all runs' training."""
        return len(self.seeds) * self.images_per_seed

    @property
    def images_per_seed(self) -> int:
        return self.epochs * len(self.splits["train"].labels)

    @property
    def done(self) -> int:
        """Images of the training that an earlier start of the stage has finished."""
        return self.images_per_seed * sum(self._path(seed).is_file() for seed in self.seeds)

    def run(self, advance: Callable[[int], None]) -> dict[int, SeedResult]:
        """The result of each seed, those of an earlier start included; test is scored once, at the end of each."""
        return {seed: self._finished(seed) or self._train(seed, advance) for seed in self.seeds}

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.pt"

    def _finished(self, seed: int) -> SeedResult | None:
        path = self._path(seed)
        found = artifacts.load(path) if distributed.leads() and path.is_file() else None
        values = distributed.from_leader(found)
        return SeedResult(**values) if values else None

    def _train(self, seed: int, advance: Callable[[int], None]) -> SeedResult:
        states = self.folder / f"seed_{seed}"
        checkpoints = Checkpoints(states)
        advance(checkpoints.images)
        splits = {name: replace(batches, seed=seed) for name, batches in self.splits.items()}
        device = splits["train"].labels.device
        network = self.model.build(seed=seed).to(device)
        line = console.epoch_line(f"{self.label}, seed {seed}", self.epochs)

        def on_epoch(row: Row) -> None:
            line(row)
            self.on_epoch({"seed": seed} | row)

        try:
            fitted = fit(
                network,
                splits["train"],
                splits["val"],
                self.settings,
                epochs=self.epochs,
                session=Session(seed=seed, advance=advance, on_epoch=on_epoch, checkpoints=checkpoints),
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"seed {seed}: {error}: see scaling.learning_rate") from None
        size, precision = self.settings.batch_size, self.settings.precision
        logits = {s: fitting.predict(network, splits[s], size, precision=precision).cpu() for s in ("val", "test")}
        result = SeedResult(curve=fitted.curve, best_epoch=fitted.best_epoch, logits=logits, machine=fitted.machine)
        if distributed.leads():
            artifacts.save(vars(result), self._path(seed))
            shutil.rmtree(states)
        return result


def summarise(results: Mapping[int, SeedResult], labels: Mapping[str, Tensor]) -> dict[str, Any]:
    """Means over seeds: accuracy (fraction) with its standard deviation, loss on test (nats), epochs to NEAR.

    Args:
        labels: of val and test.
    """
    summary: dict[str, Any] = {}
    found = [scores(result, labels) for result in results.values()]
    for split in ("val", "test"):
        accuracies = [each[split]["accuracy"] for each in found]
        summary[split] = {"accuracy": statistics.fmean(accuracies)}
        if len(accuracies) > 1:
            summary[split]["accuracy_std"] = statistics.stdev(accuracies)
    summary["test"]["loss"] = statistics.fmean(each["test"]["loss"] for each in found)
    near = statistics.fmean(epochs_to_near(result.curve) for result in results.values())
    return summary | {"epochs_to_95": near}


def scores(result: SeedResult, labels: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of one seed: accuracy (fraction) and loss (nats) on each split of `labels`, and its best epoch."""
    of_splits = {split: score(result.logits[split], of.cpu()) for split, of in labels.items()}
    return of_splits | {"best_epoch": result.best_epoch}


def epochs_to_near(curve: Sequence[Mapping[str, Any]]) -> int:
    """The first epoch with NEAR of the last epoch's validation accuracy."""
    enough = NEAR * curve[-1]["val_accuracy"]
    return next(int(row["epoch"]) for row in curve if row["val_accuracy"] >= enough)


def curve_rows(results: Mapping[int, SeedResult]) -> list[dict[str, Any]]:
    """A row per seed and epoch."""
    return [{"seed": seed} | row for seed, result in results.items() for row in result.curve]


def logits_by_seed(results: Mapping[int, SeedResult]) -> dict[str, dict[str, Tensor]]:
    """As `metrics.collect_predictions` takes them: a seed is a method."""
    return {f"seed {seed}": result.logits for seed, result in results.items()}


def describe(results: Mapping[int, SeedResult], images: int) -> dict[str, Any]:
    """What may differ from run to run: how the last seed ran, images/s of training, and the seconds of each seed so."""
    machines = [result.machine for result in results.values()]
    rates = [each["images_per_second"] for each in machines if "images_per_second" in each]  # not of a kill at the end
    found = {"seeds": list(results)} | {name: machines[-1][name] for name in ("precision", "compiled", "processes")}
    if not rates:
        return found
    speed = {"images_per_second": round(statistics.fmean(rates), 1)}
    return found | speed | {"training_seconds": [round(images / rate, 1) for rate in rates]}
