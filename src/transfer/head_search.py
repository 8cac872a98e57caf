"""The head search: draws of hyperparameters, each trained on cached features and judged on validation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from src.base import artifacts
from src.base.randomness import seed_of
from src.interface.params import TuneHead
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_training import fit_head

HYPERPARAMETERS = ("learning_rate", "weight_decay", "dropout", "optimizer", "schedule", "classifier")
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
}
Trial = dict[str, Any]  # trial, head, best_epoch, val_accuracy, val_loss, curve

optuna.logging.set_verbosity(optuna.logging.WARNING)


def search_heads(
    settings: TuneHead,
    train: FeatureBatches,
    val: FeatureBatches,
    *,
    seed: int,
    journal: Path,
    advance: Callable[[int], None],
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[Trial]:
    """Run the trials that `journal` does not hold yet, and return all of them in order.

    Each finished trial is on disk before the next is drawn. A trial is drawn by a sampler seeded from (seed, trial
    number) and given the finished trials in order, so a search that was killed goes on as if it had not been.

    Args:
        journal: file of one JSON line per finished trial.
        advance: told the number of images after each step.
        on_epoch: given the row of each epoch's curve.
    """
    trials = finished(journal)
    for number in range(len(trials), settings.trials):
        head = draw(settings, trials, seed=seed)
        try:
            _, fitted = fit_head(
                head,
                train,
                val,
                epochs=settings.epochs,
                batch_size=settings.batch_size,
                seed=seed,
                advance=advance,
                on_epoch=on_epoch,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"trial {number} with {head}: {error}: see tune_head.learning_rate") from None
        trial = {"trial": number, "head": head, "best_epoch": fitted.best_epoch, "curve": fitted.curve}
        trial |= {f"val_{name}": value for name, value in fitted.scores.items()}
        artifacts.append_line(trial, journal)
        trials.append(trial)
    return trials


def finished(journal: Path) -> list[Trial]:
    """The trials that an earlier run of the same search left behind."""
    return artifacts.read_lines(journal)


def draw(settings: TuneHead, before: Sequence[Trial], *, seed: int) -> dict[str, Any]:
    """The hyperparameters of the trial that follows those `before` it."""
    study = _study(settings, before)
    study.sampler = SAMPLERS[settings.sampler](seed_of(seed, "trial", len(before)) % 2**32)
    return study.ask(_space(settings)).params


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest validation accuracy; of equals, the one with the lowest loss, then the first."""
    return max(trials, key=lambda trial: (trial["val_accuracy"], -trial["val_loss"], -trial["trial"]))


def importances(settings: TuneHead, trials: Sequence[Trial], *, seed: int) -> dict[str, float]:
    """Share of each hyperparameter in the variance of validation accuracy, by fANOVA (Hutter et al., ICML 2014).

    Zero for all where there is no variance to share: a single trial, or equal accuracies.
    """
    if len({trial["val_accuracy"] for trial in trials}) < 2:
        return dict.fromkeys(HYPERPARAMETERS, 0.0)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(_study(settings, trials), evaluator=evaluator)
    return {
        name: float(shares.get(name, 0.0)) for name in sorted(HYPERPARAMETERS, key=lambda name: -shares.get(name, 0.0))
    }


def trial_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per trial: its number, scores and hyperparameters."""
    scores = ("trial", "val_accuracy", "val_loss", "best_epoch")
    return [{name: trial[name] for name in scores} | trial["head"] for trial in trials]


def curve_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per trial and epoch."""
    return [{"trial": trial["trial"]} | row for trial in trials for row in trial["curve"]]


def _space(settings: TuneHead) -> dict[str, Any]:
    return {name: CategoricalDistribution(getattr(settings, name)) for name in HYPERPARAMETERS}


def _study(settings: TuneHead, trials: Sequence[Trial]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(params=trial["head"], distributions=_space(settings), value=trial["val_accuracy"])
        for trial in trials
    )
    return study
