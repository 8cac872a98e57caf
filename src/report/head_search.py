"""The chapter on the search for a head."""

from functools import partial

import pandas as pd

from src.figures import transfer
from src.figures.style import both
from src.report.grid_search import grid_chapter
from src.report.numbers import percent
from src.report.pages import Figure, Section, Table
from src.report.study import Study


def search_chapter(study: Study) -> Section:
    """All trials, best first, and what mattered in them; of a search in rungs, the trials of the last."""
    if study.settings["tune_head"].sampler == "halving":
        return grid_chapter(study, _trial_rows(study, study.metrics["tune_head"]["best_trial"]))
    best, draws = study.metrics["tune_head"]["best_trial"], len(study.trials)
    shares = dict(zip(study.importances["parameter"].map(str), study.importances["importance"].map(float), strict=True))
    parts = {name.replace("_", " "): percent(share) for name, share in shares.items()}
    drawn = Figure(
        name="search",
        **both(partial(transfer.search_values, study.trials, shares, best)),
        alt=f"Validation accuracy by value drawn. Importance: {', '.join(map(' '.join, parts.items()))}.",
        caption="Each dot is a trial, the coloured one the best; bars are means. In the titles, the parameter's "
        "importance: its share in the variance of validation accuracy (fANOVA), a rough guide from so few draws.",
    )
    curves = Figure(
        name="search_curves",
        **both(partial(transfer.search_curves, study.trial_curves, best)),
        alt=f"Validation accuracy by epoch of all {draws} trials, trial {best} marked.",
        caption="Validation accuracy of every trial, epoch by epoch.",
    )
    text = (
        f"{draws} draws, trained on cached features and judged on validation images alone. Rates are those that "
        "trained: the drawn one times its optimizer's tune_head.rate_factor. "
        f"Trial {best} won: it is the head of both networks above."
    )
    importances = pd.DataFrame(parts.items(), columns=["Parameter", "Importance"])
    tables = [
        _trial_rows(study, best),
        Table(name="search_importances", caption="Importance of each parameter.", rows=importances),
    ]
    return Section(title="The search for a head", blocks=[text, drawn, curves, *tables])


def _trial_rows(study: Study, best: int) -> Table:
    last = study.trials[study.trials["rung"] == study.trials["rung"].max()]
    ranked = last.sort_values(["val_accuracy", "val_loss", "trial"], ascending=[False, True, True])
    ranked = ranked.drop(columns=["rung", "epochs", "judged"])  # the same for all of them
    words = list(ranked.select_dtypes(exclude="number"))
    shown = ranked[["trial", *words, *(name for name in ranked if name not in ("trial", *words))]].astype(object)
    shown["trial"] = [f"{trial} ★" if trial == best else str(trial) for trial in ranked["trial"]]
    shown["val_accuracy"] = ranked["val_accuracy"].map(percent)
    shown["val_loss"] = ranked["val_loss"].map("{:.3f}".format)
    for name in ("learning_rate", "weight_decay", "dropout"):
        shown[name] = ranked[name].map("{:g}".format)
    return Table(
        name="search_trials",
        caption="All trials that trained to the end, the best validation accuracy first; ★ the one that was chosen.",
        rows=shown.rename(columns=lambda name: str(name).replace("_", " ").replace("val ", "val. ").capitalize()),
        text_columns=1 + len(words),
        marked=ranked["trial"].tolist().index(best),
    )
