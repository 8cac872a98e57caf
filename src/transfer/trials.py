"""What a search for a head tried and found, and the tables of it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.base import artifacts
from src.models.heads import Head
from src.training.fitting import Row


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A head that was trained and judged; in a journal, its fields in this order.

    Attributes:
        trial: number of the head, from 0.
        rung: how often it was chosen to train longer, and once more: from 1.
        epochs: that it was trained for, of the whole training set.
        judged: validation images on which it was.
        best_epoch: counted from 1, by validation accuracy, then by validation loss; the scores are that epoch's.
        curve: one row per epoch; empty below the last rung.
        val_loss: None where it is not finite.
    """

    trial: int
    rung: int
    epochs: float
    judged: int
    head: Head
    best_epoch: int
    curve: list[Row]
    val_accuracy: float
    val_loss: float | None

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """By validation accuracy, then the lowest loss, then the first; what diverged is behind all others."""
        loss = self.val_loss
        return loss is not None, self.val_accuracy, 0.0 if loss is None else -loss, -self.trial


def write_batch(batch: Sequence[Trial], journal: Path) -> None:
    """Append trials that were trained together; all of them are on disk afterwards, or none."""
    artifacts.append_line({"batch": [asdict(trial) for trial in batch]}, journal)


def read_batches(journal: Path) -> list[list[Trial]]:
    """The batches of trials that an earlier run of the same search left behind."""
    lines = artifacts.read_lines(journal)
    return [[Trial(**each | {"head": Head(**each["head"])}) for each in line["batch"]] for line in lines]


def finalists(trials: Sequence[Trial]) -> list[Trial]:
    """Those of the last rung, which were trained to the end."""
    last = max(trial.rung for trial in trials)
    return [trial for trial in trials if trial.rung == last]


def best_of(trials: Sequence[Trial]) -> Trial:
    """Of the last rung, the trial with the highest validation accuracy; of equals, the one with the lowest loss, then
    the first."""
    return max(finalists(trials), key=lambda trial: trial.rank)


def trial_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row per trial and rung: its number, what it got, its scores and hyperparameters."""
    own = ("trial", "rung", "epochs", "judged", "val_accuracy", "val_loss", "best_epoch")
    return [{name: getattr(trial, name) for name in own} | asdict(trial.head) for trial in trials]


def curve_rows(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row per trial and epoch, of those that were trained to the end."""
    return [{"trial": trial.trial} | row for trial in trials for row in trial.curve]
