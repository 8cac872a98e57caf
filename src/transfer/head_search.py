"""The head search: draws of hyperparameters, each trained on cached features and judged on validation."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from src.base import artifacts
from src.base.randomness import seed_of
from src.interface.params import TuneHead
from src.models.heads import Head
from src.training.fitting import Row, Session
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_training import fit_head

HYPERPARAMETERS = tuple(field.name for field in fields(Head))
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A finished draw of the search; as a line of its journal, its fields in this order.

    Attributes:
        trial: its number, from 0.
        best_epoch: counted from 1, by validation accuracy, then by validation loss; the scores are that epoch's.
        curve: one row per epoch.
    """

    trial: int
    head: Head
    best_epoch: int
    curve: list[Row]
    val_accuracy: float
    val_loss: float


def search_heads(
    settings: TuneHead,
    train: FeatureBatches,
    val: FeatureBatches,
    *,
    class_weights: str,
    session: Session,
    journal: Path,
) -> list[Trial]:
    """Run the trials that `journal` does not hold yet, and return all of them in order.

    Each finished trial is on disk before the next is drawn. A trial is drawn by a sampler seeded from (seed, trial
    number) and given the finished trials in order, so a search that was killed goes on as if it had not been.

    Args:
        session: its seed is also that of the draws; a trial has no checkpoints.
        journal: file of one JSON line per finished trial.
    """
    trials = finished(journal)
    for number in range(len(trials), settings.trials):
        head = draw(settings, trials, seed=session.seed)
        try:
            own = session.numbered("trial", number)
            _, fitted = fit_head(
                head,
                train,
                val,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                class_weights=class_weights,
                session=own,
            )
        except FloatingPointError as error:
            raise FloatingPointError(
                f"trial {number} with {asdict(head)}: {error}: see tune_head.learning_rate"
            ) from None
        scores = {f"val_{name}": value for name, value in fitted.scores.items()}
        trials.append(Trial(trial=number, head=head, best_epoch=fitted.best_epoch, curve=fitted.curve, **scores))
        artifacts.append_line(asdict(trials[-1]), journal)
    return trials


def finished(journal: Path) -> list[Trial]:
    """The trials that an earlier run of the same search left behind."""
    return [Trial(**line | {"head": Head(**line["head"])}) for line in artifacts.read_lines(journal)]


def draw(settings: TuneHead, before: Sequence[Trial], *, seed: int) -> Head:
    """The hyperparameters of the trial that follows those `before` it, its rate on the scale of its optimizer.

    What is drawn is a rate as Adam takes it, and `rate_factor` multiplies it: with one range for all, the search would
    find the optimizer that the range suits.
    """
    study = _study(settings, before)
    study.sampler = SAMPLERS[settings.sampler](seed_of(seed, "trial", len(before)) % 2**32)
    drawn = study.ask(_space(settings)).params
    return Head(**drawn | {"learning_rate": _scaled(settings, drawn["learning_rate"], drawn["optimizer"])})


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest validation accuracy; of equals, the one with the lowest loss, then the first."""
    return max(trials, key=lambda trial: (trial.val_accuracy, -trial.val_loss, -trial.trial))


def importances(settings: TuneHead, trials: Sequence[Trial], *, seed: int) -> dict[str, float]:
    """Share of each hyperparameter in the variance of validation accuracy, by fANOVA (Hutter et al., ICML 2014).

    The learning rate's is that of what was drawn, before `rate_factor`: the optimizer has no share in it.

    Zero for all where there is no variance to share: a single trial, or equal accuracies.
    """
    if len({trial.val_accuracy for trial in trials}) < 2:
        return dict.fromkeys(HYPERPARAMETERS, 0.0)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(_study(settings, trials), evaluator=evaluator)
    return {
        name: float(shares.get(name, 0.0)) for name in sorted(HYPERPARAMETERS, key=lambda name: -shares.get(name, 0.0))
    }


def trial_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per trial: its number, scores and hyperparameters."""
    scores = ("trial", "val_accuracy", "val_loss", "best_epoch")
    return [{name: getattr(trial, name) for name in scores} | asdict(trial.head) for trial in trials]


def curve_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per trial and epoch."""
    return [{"trial": trial.trial} | row for trial in trials for row in trial.curve]


def _scaled(settings: TuneHead, rate: float, optimizer: str) -> float:
    factor: float = getattr(settings.rate_factor, optimizer)
    return rate * factor


def _drawn(settings: TuneHead, head: Head) -> dict[str, Any]:
    """What was drawn of `head`: its rate before it was multiplied, found by the same product."""
    rates = {_scaled(settings, rate, head.optimizer): rate for rate in settings.learning_rate}
    return asdict(head) | {"learning_rate": rates[head.learning_rate]}


def _space(settings: TuneHead) -> dict[str, Any]:
    return {name: CategoricalDistribution(getattr(settings, name)) for name in HYPERPARAMETERS}


def _study(settings: TuneHead, trials: Sequence[Trial]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            params=_drawn(settings, trial.head), distributions=_space(settings), value=trial.val_accuracy
        )
        for trial in trials
    )
    return study
