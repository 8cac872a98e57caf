"""The chapter on the search for a way to scale."""

from functools import partial

import pandas as pd

from src.base.proportions import wilson_interval
from src.figures import scaling
from src.figures.style import both
from src.report.numbers import count, interval, percent
from src.report.pages import Figure, Section, Table
from src.report.study import Study
from src.scaling import equations
from src.scaling.equations import PAPER, Coefficients

ALPHA = 0.05  # divided by the number of candidates where the search asks whether any is above chance


def searched(study: Study) -> str:
    """What the search did, what it chose and why, and how little that may mean."""
    found, picked, epochs = study.scaling.search, study.scaling.coefficients, study.settings["scaling_search"].epochs
    number = found["candidates"]
    grid = f"{count(number)} network{'' if number == 1 else 's'} of about twice the base's multiply-adds"
    if picked["chosen_by"] == "paper":
        return f"{grid}, none trained (scaling_search.epochs is 0): the study takes the paper's {_named(PAPER)}."
    images = study.metrics["download"]["val"]["images"]
    trained = (
        f"{grid}, each trained once for {count(epochs)} epoch{'' if epochs == 1 else 's'} and judged on "
        f"{count(images)} validation images alone"
    )
    reached, best = _reached(found["val"]["accuracy"], images), study.scaling.candidates["val_accuracy"].max()
    chosen, paper = _named(equations.coefficients(picked)), _named(PAPER)
    if picked["chosen_by"] == "chance":
        best_of = _reached(found["val"]["accuracy"], images, ALPHA / number)
        return (
            f"{trained}: none is above chance, the best at {best_of}, an interval that allows for their number, so the "
            f"study takes the paper's {paper}."
        )
    if picked["chosen_by"] == "validation":
        others = "" if number == 1 else ", and more than any other"
        return f"{trained}: {chosen} reached {reached}{others}. The paper chose {paper}."
    return (
        f"{trained}: {count(found['tied'])} of them, up to {percent(best)}, cannot be told apart. Of these the study "
        f"takes the nearest to the paper's, {chosen}, which reached {reached}: a choice by a few images would be the "
        f"luck of one seed. The paper chose {paper}."
    )


def _named(coefficients: Coefficients) -> str:
    return f"α {coefficients.alpha:g}, β {coefficients.beta:g}, γ {coefficients.gamma:g}"


def _reached(accuracy: float, images: int, alpha: float = ALPHA) -> str:
    low, high = wilson_interval(round(accuracy * images), images, 1 - alpha)
    return interval({"accuracy": accuracy, "low": low, "high": high})


def any_trained(study: Study) -> bool:
    """Whether any candidate was."""
    return bool(study.scaling.candidates["val_accuracy"].notna().any())


def search(study: Study) -> Section:
    """All candidates beside the surface that they are near, and the one that was chosen."""
    candidates, picked = study.scaling.candidates, study.scaling.coefficients
    same = candidates[["alpha", "beta", "gamma"]].eq([picked[name] for name in ("alpha", "beta", "gamma")]).all(axis=1)
    chosen = int(candidates.index[same][0]) if picked["chosen_by"] in ("validation", "nearest") else None
    colour = "colour is validation accuracy" if any_trained(study) else "none was trained"
    figure = Figure(
        name="scaling_surface",
        **both(partial(scaling.constraint_surface, candidates, chosen, (PAPER.alpha, PAPER.beta, PAPER.gamma))),
        alt=f"{count(len(candidates))} candidates by β and γ, beside the surface on which α · β² · γ² is 2; the table "
        "below has the same numbers. A star marks the paper's choice.",
        caption="The surface α · β² · γ² = 2, seen along α: dashed, where it has the α written at the end. Dots are "
        f"candidates with their own α, those of equal β and γ side by side; {colour}. The star is the paper's choice.",
    )
    return Section(
        title="Which way to scale",
        blocks=[searched(study), figure, _candidate_rows(candidates, chosen, trained=any_trained(study))],
    )


def _candidate_rows(candidates: pd.DataFrame, chosen: int | None, *, trained: bool) -> Table:
    if trained:
        order = "the best validation accuracy first, of equals the cheapest"
        order += "" if chosen is None else "; ★ the one that was chosen"
        ranked = candidates.sort_values(["val_accuracy", "multiply_adds"], ascending=[False, True], kind="stable")
    else:
        order = "those that cost most nearly twice the base first"
        ranked = candidates.loc[(candidates["cost"] - 2).abs().round(9).sort_values(kind="stable").index]
    shown = pd.DataFrame({"α": [f"{row.alpha:g}{' ★' if row.Index == chosen else ''}" for row in ranked.itertuples()]})
    for name, column in (("β", "beta"), ("γ", "gamma")):
        shown[name] = ranked[column].map("{:g}".format).tolist()
    for column in ("layers", "channels", "pixels", "cost"):
        shown[f"× {column}"] = ranked[column].map("{:.2f}".format).tolist()
    for name, column in (("R", "resolution"), ("Parameters", "parameters"), ("Multiply-adds", "multiply_adds")):
        shown[name] = ranked[column].map(count).tolist()
    if trained:
        shown["Val. accuracy"] = ranked["val_accuracy"].map(percent).tolist()
        shown["Val. loss"] = ranked["val_loss"].map("{:.3f}".format).tolist()
    return Table(
        name="scaling_candidates",
        caption=f"All candidates at φ = 1, {order}. Layers, channels, pixels per side and cost (multiply-adds) are "
        "what coefficients come to after rounding, over the base's. Networks that grow along one axis are left out.",
        rows=shown,
        text_columns=0,
        marked=None if chosen is None else ranked.index.tolist().index(chosen),
    )
