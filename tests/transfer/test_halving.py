"""Successive halving: the whole grid is tried, the best of each classifier go on, a kill costs one batch at most."""

import json
from collections import Counter
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path

import pytest

from src.interface.params import TuneHead
from src.models import heads as models
from src.training.fitting import Session
from src.transfer import halving, head_search
from src.transfer.head_training import fit_head
from src.transfer.trials import Trial, best_of, curve_rows, finalists, trial_rows
from tests.builders.report import SETTINGS
from tests.builders.small import CHOSEN, features, quiet

TRAIN, VAL = features(90, noise=3.0), features(50, name="val", noise=3.0)
SMALL = replace(
    SETTINGS.tune_head,
    sampler="halving",
    reduction=4,
    finalists=1,
    epochs=3,
    batch_size=16,
    learning_rate=(0.01, 0.001),
    weight_decay=(0.0, 0.05),
    dropout=(0.1, 0.5),
    schedule=("cosine",),
)


def run(journal: Path, settings: TuneHead = SMALL, *, seed: int = 0, **told: object) -> list[Trial]:
    session = Session(**{"seed": seed, "advance": quiet} | told)
    return head_search.search_heads(settings, TRAIN, VAL, journal=journal, class_weights="equal", session=session)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The journal of a search that nobody stopped."""
    journal = tmp_path_factory.mktemp("halving") / "trials.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        _make_small(patch)
        run(journal)
    return journal.read_bytes()


def _make_small(patch: pytest.MonkeyPatch) -> None:
    """Narrow heads, four deep ones a batch."""
    patch.setattr(models, "HIDDEN", 16)
    patch.setattr(halving, "WEIGHTS", 2**15)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    _make_small(monkeypatch)


def read(journal: bytes, folder: Path) -> list[Trial]:
    (folder / "read.jsonl").write_bytes(journal)
    return head_search.finished(folder / "read.jsonl")


def test_params_yamls_grid_has_1200_heads_each_once_in_rungs_from_a_few_steps_to_all_epochs() -> None:
    settings = SETTINGS.tune_head
    heads = halving.grid(settings)
    assert len(heads) == len(set(heads)) == 1200
    assert {head.learning_rate for head in heads if head.optimizer == "sgd"} == {1.0, 0.5, 0.1, 0.05}
    plan = halving.rungs(settings, images=45_000, judges=5000)
    assert [rung.heads for rung in plan] == [300, 38, 5, 3]  # of each classifier and optimizer
    assert [rung.length.steps for rung in plan] == [3, 14, 88, 10 * 88]
    assert [rung.length.epochs for rung in plan] == [1, 1, 1, 10]
    assert [rung.length.judged for rung in plan] == [1000, 3584, 5000, 5000]
    assert [rung.images for rung in plan] == [1536, 7168, 45_000, 450_000]


def test_on_few_images_rungs_that_would_be_equally_long_are_one() -> None:
    plan = halving.rungs(SETTINGS.tune_head, images=1024, judges=100)  # two steps an epoch
    assert [(rung.heads, rung.length.steps, rung.length.judged) for rung in plan] == [(300, 4, 100), (3, 20, 100)]
    (only,) = halving.rungs(replace(SETTINGS.tune_head, epochs=1), images=40, judges=10)
    assert (only.heads, only.length.steps) == (300, 1)


def test_every_head_is_tried_and_the_best_of_each_classifier_and_optimizer_go_on(
    undisturbed: bytes, tmp_path: Path
) -> None:
    trials = read(undisturbed, tmp_path)
    by_rung = [[trial for trial in trials if trial.rung == rung] for rung in (1, 2, 3)]
    heads = halving.grid(SMALL)
    assert sorted(trial.trial for trial in by_rung[0]) == list(range(len(heads)))
    assert all(trial.head == heads[trial.trial] for trial in trials)
    for before, after, count in zip(by_rung, by_rung[1:], (2, 1), strict=False):
        for league in product(SMALL.classifier, SMALL.optimizer):
            own, kept = (
                [t for t in each if (t.head.classifier, t.head.optimizer) == league] for each in (before, after)
            )
            ranked = sorted(own, key=lambda trial: (-trial.val_accuracy, trial.val_loss, trial.trial))
            left = [trial for trial in ranked if trial.trial in {each.trial for each in kept}]
            assert 1 <= len(left) == len(kept) <= count
            assert left[0] == ranked[0]
            for trial in ranked[: ranked.index(left[-1])]:  # what is out before the last that is in, has a twin
                losses = [each.val_loss for each in left if each.val_accuracy == trial.val_accuracy]
                assert any(loss == pytest.approx(trial.val_loss, rel=1e-3) for loss in losses)
    assert best_of(trials).val_accuracy == max(trial.val_accuracy for trial in by_rung[2])


def test_heads_that_validation_does_not_tell_apart_take_one_place() -> None:
    losses = [0.5, 0.5004, 0.5, 0.6, 0.50001]
    own = [
        Trial(
            trial=number,
            rung=1,
            epochs=0.1,
            judged=10,
            head=replace(CHOSEN, weight_decay=float(number)),
            best_epoch=1,
            curve=[],
            val_accuracy=0.7 if number == 2 else 0.8,
            val_loss=loss,
        )
        for number, loss in enumerate(losses)
    ]
    league = (CHOSEN.classifier, CHOSEN.optimizer)
    assert halving._best(own, league, 5) == [0, 2, 3]
    assert halving._best(own, league, 2) == [0, 3]


def test_the_last_rung_has_heads_as_they_are_trained_alone(undisturbed: bytes, tmp_path: Path) -> None:
    for trial in finalists(read(undisturbed, tmp_path)):
        session = Session(seed=0, advance=quiet)
        _, fitted = fit_head(trial.head, TRAIN, VAL, epochs=3, batch_size=16, class_weights="equal", session=session)
        losses = [[row["train_loss"] for row in curve] for curve in (trial.curve, fitted.curve)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        if trial.head.optimizer == "sgd":  # Adam: see test_stacked_heads.py
            assert trial.val_accuracy == fitted.scores["accuracy"]
            assert trial.val_loss == pytest.approx(fitted.scores["loss"], rel=1e-3)
            assert trial.best_epoch == fitted.best_epoch


@pytest.mark.parametrize(
    ("kept", "torn"), [(3, 30), (-1, 0), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((0, 1), (5, 0)))]
)
def test_a_search_that_was_killed_goes_on_to_the_same_bytes(
    undisturbed: bytes, tmp_path: Path, kept: int, torn: int
) -> None:
    lines, journal, images = undisturbed.splitlines(keepends=True), tmp_path / "trials.jsonl", list[int]()
    kept %= len(lines)
    journal.write_bytes(b"".join(lines[:kept]) + lines[kept][:torn])
    before = sum(round(trial.epochs * 90) for trial in head_search.finished(journal))
    trials = run(journal, advance=images.append)
    assert journal.read_bytes() == undisturbed
    assert sum(images) == sum(round(trial.epochs * 90) for trial in trials) - before
    assert sum(images) + before <= head_search.images_in_all(SMALL, images=90, judges=50)
    assert len(trials) == sum(len(json.loads(line)["batch"]) for line in lines)


def test_another_seed_finds_other_scores(undisturbed: bytes, tmp_path: Path) -> None:
    others = run(tmp_path / "other.jsonl", seed=1)
    assert others[0].head == halving.grid(SMALL)[0]
    assert others[0].val_loss != min(read(undisturbed, tmp_path), key=lambda trial: (trial.rung, trial.trial)).val_loss


def test_the_epochs_of_the_last_rung_alone_are_told_by_trial(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    settings = replace(SMALL, learning_rate=(0.01,), weight_decay=(0.0,))
    trials = run(tmp_path / "trials.jsonl", settings, on_epoch=rows.append)
    last = finalists(trials)
    assert Counter(row["trial"] for row in rows) == {trial.trial: 3 for trial in last}
    assert curve_rows(trials) == curve_rows(last)
    table = trial_rows(trials)
    assert Counter(row["rung"] for row in table) == Counter(trial.rung for trial in trials)
    assert {(row["rung"], row["epochs"]) for row in table if row["rung"] == 1} == {(1, 60 / 90)}


def test_heads_that_diverge_are_out_and_where_all_do_it_is_an_error(tmp_path: Path) -> None:
    settings = replace(SMALL, learning_rate=(0.01, 1e38), weight_decay=(0.0,), optimizer=("sgd",))
    trials = run(tmp_path / "some.jsonl", settings)
    wild = [trial for trial in trials if trial.head.learning_rate > 1e9]
    assert {trial.rung for trial in wild} == {1}
    assert [trial.val_loss for trial in wild] == [None] * 4
    assert best_of(trials).val_loss not in (None, inf)
    with pytest.raises(FloatingPointError, match=r"all 2 simple sgd heads diverged within 0\.67 epochs: see tune_head"):
        run(tmp_path / "all.jsonl", replace(settings, learning_rate=(1e38,)))


def test_batches_have_one_classifier_and_equal_dropout_side_by_side() -> None:
    heads = halving.grid(SMALL)
    found = list(halving.batches(heads, range(len(heads)), width=10, classes=3))
    assert sorted(number for batch in found for number in batch) == list(range(len(heads)))
    for batch in found:
        assert len({heads[number].classifier for number in batch}) == 1
        rates = [heads[number].dropout for number in batch]
        assert rates == sorted(rates)
