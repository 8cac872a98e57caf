"""The head search: draws of hyperparameters, each trained on cached features and judged on validation."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from src.base.randomness import seed_of
from src.interface.params import TuneHead
from src.models.heads import Head
from src.training.fitting import Session
from src.transfer import halving
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_training import fit_head
from src.transfer.trials import Trial, read_batches, write_batch

HALVING = "halving"  # the sampler that draws nothing: it tries the whole grid
HYPERPARAMETERS = tuple(field.name for field in fields(Head))
SAMPLERS: dict[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


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

    `halving` tries the whole grid, as halving.py says. Else, each finished trial is on disk before the next is drawn. A
    trial is drawn by a sampler seeded from (seed, trial number) and given the finished trials in order, so a search
    that was killed goes on as if it had not been.

    Args:
        session: its seed is also that of the draws; a trial has no checkpoints.
        journal: file of one JSON line per finished trial.
    """
    if settings.sampler == HALVING:
        return halving.search_heads(settings, train, val, class_weights=class_weights, session=session, journal=journal)
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
        trial = Trial(
            trial=number,
            rung=1,
            epochs=float(settings.epochs),
            judged=len(val.labels),
            head=head,
            best_epoch=fitted.best_epoch,
            curve=fitted.curve,
            val_accuracy=fitted.scores["accuracy"],
            val_loss=fitted.scores["loss"],
        )
        write_batch([trial], journal)
        trials.append(trial)
    return trials


def images_in_all(settings: TuneHead, *, images: int, judges: int) -> int:
    """How many images all heads are trained on, epochs counted, of a training set of `images`."""
    if settings.sampler == HALVING:
        return halving.images_in_all(settings, images=images, judges=judges)
    return settings.trials * settings.epochs * images


def finished(journal: Path) -> list[Trial]:
    """The trials that an earlier run of the same search left behind."""
    return [trial for batch in read_batches(journal) for trial in batch]


def draw(settings: TuneHead, before: Sequence[Trial], *, seed: int) -> Head:
    """The hyperparameters of the trial that follows those `before` it, its rate on the scale of its optimizer.

    What is drawn is a rate as Adam takes it, and `rate_factor` multiplies it: with one range for all, the search would
    find the optimizer that the range suits.
    """
    study = _study(settings, before)
    study.sampler = SAMPLERS[settings.sampler](seed_of(seed, "trial", len(before)) % 2**32)
    drawn = study.ask(_space(settings)).params
    return Head(**drawn | {"learning_rate": _scaled(settings, drawn["learning_rate"], drawn["optimizer"])})


def importances(settings: TuneHead, trials: Sequence[Trial], *, seed: int) -> dict[str, float]:
    """Share of each hyperparameter in the variance of validation accuracy, by fANOVA (Hutter et al., ICML 2014).

    Of halving's trials, those of the first rung count, in which the whole grid is trained equally long.

    The learning rate's is that of what was drawn, before `rate_factor`: the optimizer has no share in it.

    Zero for all where there is no variance to share: a single trial, or equal accuracies.
    """
    first = [trial for trial in trials if trial.rung == 1]
    if len({trial.val_accuracy for trial in first}) < 2:
        return dict.fromkeys(HYPERPARAMETERS, 0.0)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares = optuna.importance.get_param_importances(_study(settings, first), evaluator=evaluator)
    return {
        name: float(shares.get(name, 0.0)) for name in sorted(HYPERPARAMETERS, key=lambda name: -shares.get(name, 0.0))
    }


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
