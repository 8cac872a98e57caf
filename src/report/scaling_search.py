"""The chapter on the search for a way to scale."""

import pandas as pd

from src.base.proportions import wilson_interval
from src.figures import scaling
from src.report.numbers import count, interval, percent
from src.report.pages import Figure, Section, Table
from src.report.study import Study
from src.scaling.equations import PAPER


def searched(study: Study) -> str:
    """What the search did, what it chose, and how little that may mean."""
    found, epochs = study.scaling.search, study.settings["scaling_search"].epochs
    number = found["candidates"]
    grid = f"{count(number)} network{'' if number == 1 else 's'} with α · β² · γ² near 2"
    paper = f"α {PAPER.alpha:g}, β {PAPER.beta:g}, γ {PAPER.gamma:g}"
    if "val" not in found:
        return f"{grid}, none of them trained (scaling_search.epochs is 0): the study takes the paper's {paper}."
    chosen = f"α {found['alpha']:g}, β {found['beta']:g}, γ {found['gamma']:g}"
    images = study.metrics["download"]["val"]["images"]
    low, high = wilson_interval(round(found["val"]["accuracy"] * images), images)
    best = {"accuracy": found["val"]["accuracy"], "low": low, "high": high}
    near = int((study.scaling.candidates["val_accuracy"] >= low).sum()) - 1
    reach = "reaches" if near == 1 else "reach"
    doubt = f"; {count(near)} of the others {reach} into that interval, so which is best is not settled" if near else ""
    return (
        f"{grid}, each trained once for {count(epochs)} epoch{'' if epochs == 1 else 's'} and judged on validation "
        f"images alone: {chosen} reached {interval(best)}{doubt}. The paper chose {paper}."
    )


def search(study: Study) -> Section:
    """All candidates beside the surface that they are near, and the one that was chosen."""
    candidates, picked = study.scaling.candidates, study.scaling.coefficients
    trained = picked["chosen_by"] == "validation"
    same = candidates[["alpha", "beta", "gamma"]].eq([picked[name] for name in ("alpha", "beta", "gamma")]).all(axis=1)
    chosen = int(candidates.index[same][0]) if trained else None
    colour = "colour is validation accuracy" if trained else "none was trained"
    figure = Figure(
        name="scaling_surface",
        svg=scaling.constraint_surface(candidates, chosen, (PAPER.alpha, PAPER.beta, PAPER.gamma)),
        alt=f"{count(len(candidates))} candidates by β and γ, near the surface on which α · β² · γ² is 2; the table "
        "below has the same numbers. A star marks the paper's choice.",
        caption="The surface α · β² · γ² = 2, seen along α: dashed, where it has the α written at the end. Dots are "
        f"candidates with their own α, those of equal β and γ side by side; {colour}. The star is the paper's choice.",
    )
    return Section(
        title="Which way to scale",
        blocks=[searched(study), figure, _candidate_rows(candidates, chosen)],
    )


def _candidate_rows(candidates: pd.DataFrame, chosen: int | None) -> Table:
    if chosen is None:
        order = "those whose α · β² · γ² is nearest to 2 first"
        ranked = candidates.loc[(candidates["growth"] - 2).abs().round(9).sort_values(kind="stable").index]
    else:
        order = "the best validation accuracy first, of equals the cheapest; ★ the one that was chosen"
        ranked = candidates.sort_values(["val_accuracy", "multiply_adds"], ascending=[False, True], kind="stable")
    shown = pd.DataFrame(
        {
            "α": [f"{row.alpha:g}{' ★' if row.Index == chosen else ''}" for row in ranked.itertuples()],
            "β": ranked["beta"].map("{:g}".format).tolist(),
            "γ": ranked["gamma"].map("{:g}".format).tolist(),
            "α · β² · γ²": ranked["growth"].map("{:.3f}".format).tolist(),
            "R": ranked["resolution"].map(count).tolist(),
            "Parameters": ranked["parameters"].map(count).tolist(),
            "Multiply-adds": ranked["multiply_adds"].map(count).tolist(),
        }
    )
    if chosen is not None:
        shown["Val. accuracy"] = ranked["val_accuracy"].map(percent).tolist()
        shown["Val. loss"] = ranked["val_loss"].map("{:.3f}".format).tolist()
    return Table(
        caption=f"All candidates at φ = 1, {order}.",
        rows=shown,
        text_columns=0,
        marked=None if chosen is None else ranked.index.tolist().index(chosen),
    )
