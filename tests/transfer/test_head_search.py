"""The head search: drawn by trial, finished after a kill to the same bytes, and judged on validation."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from src.base.randomness import generator
from src.interface.params import RateFactor, TuneHead
from src.models.heads import Head
from src.training.fitting import Session
from src.transfer import head_search
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_training import fit_head
from src.transfer.trials import Trial, best_of, curve_rows, trial_rows

TRIALS = 13  # TPE draws at random until it has seen ten


def settings(sampler: str = "random", trials: int = TRIALS) -> TuneHead:
    return TuneHead(
        trials=trials,
        epochs=2,
        batch_size=16,
        sampler=sampler,
        reduction=4,
        finalists=1,
        learning_rate=(0.01, 0.001, 0.0005),
        rate_factor=RateFactor(adam=1, adamw=1, sgd=100, rmsprop=1),
        weight_decay=(0.0, 0.01),
        dropout=(0.1, 0.5),
        optimizer=("adamw", "sgd"),
        schedule=("cosine", "step", "exponential"),
        classifier=("simple", "deep"),
    )


def features(count: int, name: str) -> FeatureBatches:
    labels = torch.arange(count) % 3
    cloud = 2 * F.one_hot(labels, 8) + 1.5 * torch.randn(2, count, 8, generator=generator(name))
    return FeatureBatches(features=cloud.half(), labels=labels, classes=("a", "b", "c"), seed=0)


def run(journal: Path, sampler: str = "random", trials: int = TRIALS, seed: int = 0) -> list[Trial]:
    images: list[int] = []
    before = len(head_search.finished(journal))
    found = head_search.search_heads(
        settings(sampler, trials),
        features(48, "train"),
        features(40, "val"),
        journal=journal,
        class_weights="equal",
        session=Session(seed=seed, advance=images.append),
    )
    assert sum(images) == 2 * 48 * (trials - before)
    return found


def trial(number: int, accuracy: float, loss: float = 1.0, **head: Any) -> Trial:
    values = {name: getattr(settings(), name)[0] for name in head_search.HYPERPARAMETERS} | head
    if "learning_rate" not in head and values["optimizer"] == "sgd":
        values["learning_rate"] *= 100
    drawn = Head(**values)
    return Trial(
        trial=number,
        rung=1,
        epochs=2.0,
        judged=40,
        head=drawn,
        best_epoch=1,
        curve=[],
        val_accuracy=accuracy,
        val_loss=loss,
    )


def read(journal: bytes, folder: Path) -> list[Trial]:
    """The trials of a journal."""
    (folder / "read.jsonl").write_bytes(journal)
    return head_search.finished(folder / "read.jsonl")


@pytest.fixture(scope="module", params=["random", "tpe"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """The sampler, and the journal of a search that nobody stopped."""
    journal = tmp_path_factory.mktemp("search") / "trials.jsonl"
    run(journal, request.param)
    return request.param, journal.read_bytes()


@pytest.mark.parametrize(
    ("kept", "torn"),
    [(11, 1), (13, 0), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 0), (1, 40), (5, 0), (12, 300)))],
)
def test_a_search_that_was_killed_goes_on_to_the_same_bytes(
    undisturbed: tuple[str, bytes], tmp_path: Path, kept: int, torn: int
) -> None:
    sampler, expected = undisturbed
    lines, journal = expected.splitlines(keepends=True), tmp_path / "trials.jsonl"
    journal.write_bytes(b"".join(lines[:kept]) + b"".join(lines[kept : kept + 1])[:torn])
    trials = run(journal, sampler)
    assert journal.read_bytes() == expected
    assert [asdict(trial) for trial in trials] == [json.loads(line)["batch"][0] for line in lines]
    assert best_of(trials) == best_of(read(expected, tmp_path))


def test_a_draw_is_a_function_of_the_seed_and_of_the_finished_trials(
    undisturbed: tuple[str, bytes], tmp_path: Path
) -> None:
    sampler, journal = undisturbed
    trials = read(journal, tmp_path)
    for number in (0, 3, 12):
        again = head_search.draw(settings(sampler), trials[:number], seed=0)
        assert again == trials[number].head
    others = [head_search.draw(settings(sampler), trials[:3], seed=seed) for seed in range(1, 6)]
    assert any(other != trials[3].head for other in others)


def test_random_draws_do_not_look_at_results_and_tpe_does() -> None:
    low, high = (
        [trial(n, accuracy, optimizer=name) for n, (accuracy, name) in enumerate(rows)]
        for rows in (
            [(0.1 + 0.02 * n, ("adamw", "sgd")[n % 2]) for n in range(20)],
            [(0.9 - 0.02 * n, ("sgd", "adamw")[n % 2]) for n in range(20)],
        )
    )
    draws = {
        s: [[head_search.draw(settings(s), rows, seed=i) for i in range(8)] for rows in (low, high)]
        for s in ("random", "tpe")
    }
    assert draws["random"][0] == draws["random"][1]
    assert draws["tpe"][0] != draws["tpe"][1]


def test_tpe_draws_more_of_what_did_well() -> None:
    rows = [trial(n, 0.9 if n % 4 == 0 else 0.2, optimizer="sgd" if n % 4 == 0 else "adamw") for n in range(24)]
    drawn = [head_search.draw(settings("tpe"), rows, seed=seed).optimizer for seed in range(20)]
    assert drawn.count("sgd") > 12


def test_random_draws_cover_every_value_and_do_not_repeat_one_sequence() -> None:
    rows = [trial(n, 0.5) for n in range(60)]
    drawn = [head_search.draw(settings(), rows[:number], seed=0) for number in range(60)]
    for name in head_search.HYPERPARAMETERS:
        values = {getattr(head, name) for head in drawn if name != "learning_rate" or head.optimizer == "adamw"}
        assert values == set(getattr(settings(), name))
    assert len(set(drawn)) > 30
    assert [*drawn[:8]] != [*drawn[8:16]]


def test_a_trial_is_a_head_trained_with_what_was_drawn(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    row = read(undisturbed[1], tmp_path)[4]
    _, fitted = fit_head(
        row.head,
        features(48, "train"),
        features(40, "val"),
        epochs=2,
        batch_size=16,
        class_weights="equal",
        session=Session(seed=0, advance=lambda count: None),
    )
    assert row.curve == fitted.curve
    assert row.best_epoch == fitted.best_epoch
    assert (row.val_accuracy, row.val_loss) == (fitted.scores["accuracy"], fitted.scores["loss"])


def test_more_trials_begin_with_the_same_ones(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    sampler, expected = undisturbed
    run(tmp_path / "short.jsonl", sampler, trials=4)
    assert expected.startswith((tmp_path / "short.jsonl").read_bytes())


def test_the_best_trial_has_the_highest_accuracy_then_the_lowest_loss_then_comes_first() -> None:
    assert best_of([trial(0, 0.5, 0.1), trial(1, 0.6, 2.0), trial(2, 0.4, 0.0)]).trial == 1
    assert best_of([trial(0, 0.6, 1.0), trial(1, 0.6, 0.5), trial(2, 0.6, 0.7)]).trial == 1
    assert best_of([trial(0, 0.1, 1.0), trial(1, 0.6, 0.5), trial(2, 0.6, 0.5)]).trial == 1


def test_importances_share_one_whole_and_come_in_order(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    trials = read(undisturbed[1], tmp_path)
    shares = head_search.importances(settings(), trials, seed=0)
    assert set(shares) == set(head_search.HYPERPARAMETERS)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares == head_search.importances(settings(), trials, seed=0)


def test_each_optimizer_has_rates_of_its_own_scale_and_the_recorded_one_is_what_trains(tmp_path: Path) -> None:
    trials = run(tmp_path / "trials.jsonl", trials=16)
    rates = {name: {t.head.learning_rate for t in trials if t.head.optimizer == name} for name in ("adamw", "sgd")}
    assert rates["adamw"] <= {0.01, 0.001, 0.0005}
    assert rates["sgd"] <= {1.0, 0.1, 0.05}
    assert all(len(found) > 1 for found in rates.values())
    constant = [t for t in trials if t.head.schedule == "step"]
    assert [t.curve[0]["head_lr"] for t in constant] == [t.head.learning_rate for t in constant]
    assert [row["learning_rate"] for row in trial_rows(trials)] == [t.head.learning_rate for t in trials]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sampler_is_told_the_rate_that_it_drew_and_draws_as_without_a_factor(sampler: str) -> None:
    """The same draws, times the factor."""
    plain = replace(settings(sampler), rate_factor=RateFactor(adam=1, adamw=1, sgd=1, rmsprop=1))
    ours: list[Trial] = []
    theirs: list[Trial] = []
    for number in range(14):
        scaled = head_search.draw(settings(sampler), ours, seed=0)
        unscaled = head_search.draw(plain, theirs, seed=0)
        factor = 100 if scaled.optimizer == "sgd" else 1
        assert scaled == replace(unscaled, learning_rate=unscaled.learning_rate * factor)
        accuracy = 0.1 + (7 * number % 13) / 20
        ours.append(trial(number, accuracy, **asdict(scaled)))
        theirs.append(trial(number, accuracy, **asdict(unscaled)))
    shares = head_search.importances(settings(sampler), ours, seed=0)
    assert shares == head_search.importances(plain, theirs, seed=0)


def test_a_rate_that_matters_alike_for_all_optimizers_gives_the_optimizer_no_importance() -> None:
    drawn = [head_search.draw(settings(), [trial(n, 0.5) for n in range(number)], seed=0) for number in range(40)]
    rates = [head.learning_rate / (100 if head.optimizer == "sgd" else 1) for head in drawn]
    trials = [
        trial(n, 0.8 if rate > 0.005 else 0.3, **asdict(head))
        for n, (head, rate) in enumerate(zip(drawn, rates, strict=True))
    ]
    shares = head_search.importances(settings(), trials, seed=0)
    assert next(iter(shares)) == "learning_rate"
    assert shares["optimizer"] < 0.05


def test_the_hyperparameter_that_decides_accuracy_has_all_the_importance() -> None:
    drawn = [head_search.draw(settings(), [trial(n, 0.5) for n in range(number)], seed=0) for number in range(40)]
    trials = [trial(n, 0.8 if head.classifier == "deep" else 0.3, **asdict(head)) for n, head in enumerate(drawn)]
    shares = head_search.importances(settings(), trials, seed=0)
    assert next(iter(shares)) == "classifier"
    assert shares["classifier"] > 0.9


def test_without_variance_every_importance_is_zero() -> None:
    zeros = dict.fromkeys(head_search.HYPERPARAMETERS, 0.0)
    assert head_search.importances(settings(), [trial(0, 0.7)], seed=0) == zeros
    assert (
        head_search.importances(
            settings(), [trial(n, 0.7, optimizer=("adamw", "sgd")[n % 2]) for n in range(6)], seed=0
        )
        == zeros
    )


def test_the_tables_have_a_row_per_trial_and_a_row_per_epoch(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    trials = read(undisturbed[1], tmp_path)
    rows, curves = trial_rows(trials), curve_rows(trials)
    assert [list(row) for row in rows] == [
        ["trial", "rung", "epochs", "judged", "val_accuracy", "val_loss", "best_epoch", *head_search.HYPERPARAMETERS]
    ] * TRIALS
    assert [(row["trial"], row["epoch"]) for row in curves] == [
        (number, epoch) for number in range(TRIALS) for epoch in (1, 2)
    ]
    best = [max(row["val_accuracy"] for row in curves if row["trial"] == number) for number in range(TRIALS)]
    assert [row["val_accuracy"] for row in rows] == best
