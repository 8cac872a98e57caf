"""Fine-tuning again under further seeds, of which a kill costs no finished one. N images, K classes."""

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src.base import artifacts, distributed
from src.base.splits import SPLITS
from src.images.image_batches import ImageBatches
from src.interface import console
from src.interface.params import Finetune
from src.training import fitting
from src.training.checkpoints import Checkpoints
from src.training.fitting import Fitted, Row, Session
from src.training.metrics import score

SCORED = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """What one seed's training left, test scored once at its end.

    Attributes:
        curve: one row per epoch.
        best_epoch: counted from 1, by validation; the logits are of its weights.
        logits: of SCORED, float32 (N, K).
    """

    curve: list[Row]
    best_epoch: int
    logits: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """A training per seed, all of the same backbone on the same splits; what they leave stays in `folder`.

    Attributes:
        build: the network to be trained, given a `seed`, on its device.
        train: `finetuning.train`, given all but the network, the splits and the session.
        splits: train, val and test; their own seeds are not used.
        on_epoch: given the row of each epoch's curve, and in it the seed, after its line was said.
    """

    build: Callable[..., nn.Sequential]
    train: Callable[..., Fitted]
    splits: Mapping[str, ImageBatches]
    settings: Finetune
    seeds: Sequence[int]
    folder: Path
    on_epoch: Callable[[Row], None] = fitting.ignore

    @property
    def images(self) -> int:
        """Images of all seeds' training."""
        return len(self.seeds) * self._images_per_seed

    @property
    def done(self) -> int:
        """Images of the training that an earlier start of the stage has finished."""
        return self._images_per_seed * sum(self._path(seed).is_file() for seed in self.seeds)

    def run(self, advance: Callable[[int], None]) -> dict[int, Repeat]:
        """What each seed left, those of an earlier start included."""
        return {seed: self._finished(seed) or self._train(seed, advance) for seed in self.seeds}

    @property
    def _images_per_seed(self) -> int:
        return self.settings.epochs * len(self.splits["train"].labels)

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed_{seed}.pt"

    def _finished(self, seed: int) -> Repeat | None:
        path = self._path(seed)
        found = artifacts.load(path) if distributed.leads() and path.is_file() else None
        values = distributed.from_leader(found)
        return Repeat(**values) if values else None

    def _train(self, seed: int, advance: Callable[[int], None]) -> Repeat:
        states = self.folder / f"seed_{seed}"
        checkpoints = Checkpoints(states)
        advance(checkpoints.images)
        splits = {name: replace(batches, seed=seed) for name, batches in self.splits.items()}
        network, line = self.build(seed=seed), console.epoch_line(f"finetune, seed {seed}", self.settings.epochs)

        def on_epoch(row: Row) -> None:
            line(row)
            self.on_epoch({"seed": seed} | row)

        session = Session(seed=seed, advance=advance, on_epoch=on_epoch, checkpoints=checkpoints)
        fitted = self.train(network, splits["train"], splits["val"], session=session)
        size, precision = self.settings.batch_size, self.settings.precision
        logits = {name: fitting.predict(network, splits[name], size, precision=precision).cpu() for name in SCORED}
        result = Repeat(curve=fitted.curve, best_epoch=fitted.best_epoch, logits=logits)
        if distributed.leads():
            artifacts.save(vars(result), self._path(seed))
            shutil.rmtree(states)
        return result


def seeds(first: int, repeats: int) -> list[int]:
    """Of all trainings: that of the model, and of those beside it."""
    return [first + number for number in range(repeats)]


def first(fitted: Fitted, predictions: Mapping[str, Any]) -> Repeat:
    """The model itself, as one of its repeats; `predictions` as `metrics.evaluate` makes them of it alone."""
    (logits,) = predictions["logits"].values()
    by_split = {name: logits[predictions["split"] == SPLITS.index(name)] for name in SCORED}
    return Repeat(curve=fitted.curve, best_epoch=fitted.best_epoch, logits=by_split)


def scores(result: Repeat, labels: Mapping[str, Tensor]) -> dict[str, Any]:
    """Accuracy (fraction) and loss (nats) on each of SCORED, whose labels these are, and the best epoch."""
    found = {name: score(result.logits[name], labels[name].cpu()) for name in SCORED}
    return found | {"best_epoch": result.best_epoch}


def summarise(results: Mapping[int, Repeat], labels: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation of test accuracy over the seeds; nothing of a single one."""
    reached = [scores(result, labels)["test"]["accuracy"] for result in results.values()]
    if len(reached) < 2:
        return {}
    return {"repeats": {"accuracy": statistics.fmean(reached), "accuracy_std": statistics.stdev(reached)}}


def rows(results: Mapping[int, Repeat], labels: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """A row per seed: seed, best_epoch, val_accuracy, val_loss, test_accuracy, test_loss."""
    found = []
    for seed, result in results.items():
        of_splits = scores(result, labels)
        values = {f"{split}_{name}": value for split in SCORED for name, value in of_splits[split].items()}
        found.append({"seed": seed, "best_epoch": result.best_epoch} | values)
    return found


def logits_by_seed(results: Mapping[int, Repeat]) -> dict[str, dict[str, Tensor]]:
    """As `metrics.collect_predictions` takes them: a seed is a method."""
    return {f"seed {seed}": result.logits for seed, result in results.items()}
