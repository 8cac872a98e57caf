"""The chapter on the search for a head where it tried the whole grid, in rungs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from src.evidence.grid_effects import variance_shares
from src.figures import head_search as figures
from src.figures import transfer
from src.figures.style import both
from src.report.numbers import count, listed, percent
from src.report.pages import Figure, Section, Table
from src.report.study import Study

TOGETHER = ("learning_rate", "weight_decay", "optimizer")  # what may act otherwise together than each alone


def grid_chapter(study: Study, finalists: Table) -> Section:
    """What each rung left, what each parameter did, and what rate, weight decay and optimizer did together."""
    rows, best = _as_drawn(study), study.metrics["tune_head"]["best_trial"]
    rungs = _rungs(rows)
    lengths = zip(rungs["heads"], rungs["epochs"], strict=True)
    sizes = [f"{count(heads)} for {epochs:.2g} epochs" for heads, epochs in lengths]
    text = (
        f"The whole grid of {count(len(rows[rows['rung'] == 1]))} heads, trained on cached features and judged on "
        f"validation images alone, by successive halving: {listed(sizes)}. Each rung trains its heads from the start, "
        "and the best of each classifier and optimizer go on, one of those that validation does not tell apart. A head "
        "below the last rung was trained for a short while: its accuracy ranks it among its like, and says little of "
        "what longer training gives. "
        f"Trial {best} won: it is the head of both networks above. MLflow has a run of each head of the last rung, and "
        "of no others."
    )
    parameters = [name for name in map(str, study.importances["parameter"]) if rows[name].nunique() > 1]
    drawn = [_value_figure(rows, name, rungs) for name in parameters]
    curves = Figure(
        name="search_curves",
        **both(partial(transfer.search_curves, study.trial_curves, best)),
        alt=f"Validation accuracy by epoch of the heads of the last rung, trial {best} marked.",
        caption="Validation accuracy of every head of the last rung, epoch by epoch.",
    )
    tables = [Table(name="search_rungs", caption="The rungs.", rows=_rung_table(rungs), text_columns=0), finalists]
    together = _together(rows) if all(name in parameters for name in TOGETHER) else []
    return Section(title="The search for a head", blocks=[text, *tables, curves, *drawn, *together])


def _as_drawn(study: Study) -> pd.DataFrame:
    """The trials, their rates before `rate_factor` multiplied them: one scale for all optimizers."""
    settings: Any = study.settings["tune_head"]
    drawn = {
        (optimizer, rate * getattr(settings.rate_factor, optimizer)): rate
        for optimizer in settings.optimizer
        for rate in settings.learning_rate
    }
    pairs = zip(study.trials["optimizer"], study.trials["learning_rate"], strict=True)
    return study.trials.assign(learning_rate=[drawn[pair] for pair in pairs])


def _rungs(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per rung: rung, heads, epochs, judged, best, median, failed (heads without a finite loss)."""
    by_rung = rows.groupby("rung")
    found = by_rung.agg(
        heads=("trial", "size"),
        epochs=("epochs", "first"),
        judged=("judged", "first"),
        best=("val_accuracy", "max"),
        median=("val_accuracy", "median"),
        finite=("val_loss", "count"),
    )
    return found.assign(failed=found["heads"] - found["finite"]).reset_index()


def _rung_table(rungs: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "Rung": rungs["rung"].map(str),
        "Heads": rungs["heads"].map(count),
        "Epochs": rungs["epochs"].map("{:.2g}".format),
        "Validation images": rungs["judged"].map(count),
        "Best accuracy": rungs["best"].map(percent),
        "Median": rungs["median"].map(percent),
        "Diverged": rungs["failed"].map(str),
    }
    return pd.DataFrame(columns)


def _value_figure(rows: pd.DataFrame, name: str, rungs: pd.DataFrame) -> Figure:
    words, first = name.replace("_", " "), rungs.iloc[0]
    means = rows[rows["rung"] == 1].groupby(name)["val_accuracy"].mean()
    last = rows[rows["rung"] == rungs["rung"].max()][name].value_counts()
    values = [f"{value}: mean {percent(mean)}, {last.get(value, 0)} in the last rung" for value, mean in means.items()]
    note = " as Adam takes it, before its optimizer's factor" if name == "learning_rate" else ""
    return Figure(
        name=f"search_{name}",
        **both(partial(figures.grid_values, rows, name)),
        alt=f"Accuracy after the first rung by {words}, and the share of each value among the heads of each rung. "
        f"{'; '.join(values)}.",
        caption=f"{words.capitalize()}{note}. Left: validation accuracy of all heads after {first['epochs']:.2g} "
        "epochs; the middle half (bar), all but a tenth at either end (line), mean (dot) and best (dash). Right: how "
        "many of each rung's heads have the value.",
    )


def _together(rows: pd.DataFrame) -> list[str | Figure | Table]:
    first = rows[rows["rung"] == 1]
    shares = variance_shares(first, TOGETHER, "val_accuracy")
    epochs = f"{first['epochs'].iloc[0]:.2g}"
    figure = Figure(
        name="search_interaction",
        **both(partial(figures.grid_interaction, rows, *TOGETHER)),
        alt=f"Mean validation accuracy after {epochs} epochs by learning rate, weight decay and optimizer. "
        f"Shares in the variance: {', '.join(f'{_words(key)} {percent(share)}' for key, share in shares.items())}.",
        caption="Learning rate × weight decay × optimizer: mean validation accuracy (%) of the heads after "
        f"{epochs} epochs, and how many of them went on to the second rung.",
    )
    return [figure, _sentence(shares, epochs), _share_table(shares)]


def _sentence(shares: Mapping[tuple[str, ...], float], epochs: str) -> str:
    alone = sum(share for key, share in shares.items() if len(key) == 1)
    jointly = sum(share for key, share in shares.items() if len(key) > 1)
    return (
        f"After {epochs} epochs, learning rate, weight decay and optimizer each by itself explain {percent(alone)} of "
        f"the variance of accuracy over the grid, their interactions another {percent(jointly)}; the rest is due to "
        "the other parameters. Of longer training this says nothing: see which values are left in the later rungs."
    )


def _share_table(shares: Mapping[tuple[str, ...], float]) -> Table:
    rows = [(_words(key), percent(share)) for key, share in shares.items()]
    return Table(
        name="search_shares",
        caption="Share in the variance of validation accuracy in the first rung (exact, over the whole grid).",
        rows=pd.DataFrame(rows, columns=["Parameter", "Share"]),
    )


def _words(names: tuple[str, ...]) -> str:
    return " × ".join(names).replace("_", " ")
