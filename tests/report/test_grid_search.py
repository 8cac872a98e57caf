"""The chapter on a search in rungs: what each got, a figure per parameter, and what rate, decay and optimizer do."""

from dataclasses import replace
from functools import cache

import pytest

from src.report import pages
from src.report.head_search import search_chapter
from tests.builders.report import SETTINGS, study, undrawn

HALVING = replace(SETTINGS.tune_head, sampler="halving")


@cache
def chapter():
    with undrawn():
        return search_chapter(study(tune_head=HALVING))


def blocks(kind):
    return [block for block in chapter().blocks if isinstance(block, kind)]


def test_the_rungs_say_how_many_heads_got_how_many_epochs_and_how_many_diverged():
    rungs = next(table for table in blocks(pages.Table) if table.caption == "The rungs.").rows
    assert [list(row)[:4] for row in rungs.itertuples(index=False)] == [
        ["1", "1\u202f200", "0.034", "120"],
        ["2", "600", "0.5", "240"],
        ["3", "60", "6", "240"],
    ]
    assert list(rungs["Diverged"]) == ["1", "0", "0"]
    assert "1\u202f200 for 0.034 epochs, 600 for 0.5 epochs and 60 for 6 epochs" in blocks(str)[0]
    assert "of no others" in blocks(str)[0]


def test_the_table_of_trials_has_the_last_rung_alone_and_marks_the_best():
    (trials,) = [table for table in blocks(pages.Table) if table.caption.startswith("All trials")]
    assert len(trials.rows) == 60
    assert trials.marked == 0
    assert not {"Rung", "Epochs", "Judged"} & set(trials.rows)


def test_each_parameter_has_a_figure_with_its_values_in_words_and_rates_as_drawn():
    figures = {figure.name: figure for figure in blocks(pages.Figure)}
    names = ("learning_rate", "weight_decay", "dropout", "optimizer", "schedule", "classifier")
    assert {f"search_{name}" for name in (*names, "interaction", "curves")} == set(figures)
    rates = figures["search_learning_rate"].alt
    assert [f"{rate}: mean" in rates for rate in SETTINGS.tune_head.learning_rate] == [True] * 4
    assert "0.05: mean" not in rates  # SGD's, after its factor


def test_shares_are_those_that_the_scores_were_made_with():
    """The builder gives sgd 5 points more, and noise; one head diverges."""
    table = blocks(pages.Table)[-1].rows
    shares = dict(zip(table["Parameter"], table["Share"].str.removesuffix("\u202f%").astype(float), strict=True))
    expected = 0.05**2 / 4 / (0.05**2 / 4 + 0.02**2 / 12 + 0.5**2 / 1200)
    assert shares["optimizer"] / 100 == pytest.approx(expected, abs=0.05)
    assert max(share for key, share in shares.items() if key != "optimizer") < 5
    assert set(shares) >= {"learning rate × weight decay × optimizer", "learning rate × optimizer"}


@pytest.mark.parametrize("values", [{"optimizer": ("adamw",)}])
def test_a_parameter_with_one_value_has_no_figure_and_no_interaction(values):
    found = study(tune_head=HALVING)
    rows = found.trials[found.trials["optimizer"] == "sgd"]
    best = int(rows[rows["rung"] == 3]["trial"].iloc[0])
    metrics = {**found.metrics, "tune_head": found.metrics["tune_head"] | {"best_trial": best}}
    with undrawn():
        section = search_chapter(replace(found, trials=rows, metrics=metrics))
    names = {block.name for block in section.blocks if isinstance(block, pages.Figure)}
    assert not {"search_optimizer", "search_interaction"} & names
    assert "search_dropout" in names
