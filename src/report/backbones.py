"""Which backbone, at which resolution, for what cost: a linear probe on the frozen features of each entry."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from src.evidence import fronts
from src.figures import backbones
from src.figures.style import both
from src.report import backbone_tables as tables
from src.report.numbers import count, digits, interval, listed, percent
from src.report.pages import Figure, Section, Table
from src.report.study import Study

COSTS = {"multiply_adds": "multiply-adds of one image", "seconds": "measured seconds of extraction"}


def chapter(study: Study) -> Section:
    """The answer, what each entry reaches and costs, and every difference."""
    found = study.compared.differences()
    blocks: list[str | Figure | Table] = [
        answer(study),
        *_notes(study),
        tables.result_rows(study),
        *_cost_figures(study),
    ]
    blocks += [*_resolution_figure(study), tables.cost_rows(study)]
    if found:
        blocks += [tables.difference_rows(study, found), *tables.pairs(study, found)]
    return Section(title="Which backbone, at which resolution?", blocks=blocks)


def answer(study: Study) -> str:
    """Which entry is best, decided on validation, its one number on test, and what it can be told apart from."""
    results = study.compared
    best, images = results.best, len(next(iter(results.right.values())))
    reached = f"{interval(results.metrics[best]['test'])} on {count(images)} test images"
    if len(results.keys) == 1:
        return f"{_described(study, best)} reaches {reached}, by a linear probe on its frozen features."
    text = (
        f"Of {count(len(results.keys))} backbones as they are, {_described(study, best)} does best on validation, by a "
        f"linear probe on its frozen features; on test it reaches {reached}."
    )
    others = [tables.seen_from(best, each) for each in results.differences() if best in (each.first, each.second)]
    same = [name for name, _, settled in others if not settled]
    better, worse = (
        [name for name, gain, settled in others if settled and (gain > 0) is wins] for wins in (True, False)
    )
    if better:
        text += f" It is better there than {listed(better)}."
    if worse:
        text += f" It is worse there than {listed(worse)}."
    if same:
        text += f" It cannot be told apart from {listed(same, 'or')}.{_cheaper(study, best, same)}"
    return text


def _cheaper(study: Study, best: str, same: Sequence[str]) -> str:
    costs = {key: study.compared.metrics[key]["multiply_adds"] for key in (best, *same)}
    cheapest = min(costs, key=costs.__getitem__)
    if cheapest == best:
        return ""
    return f" Of these, {cheapest} is the cheapest, at {digits(costs[cheapest] / costs[best])} of its multiply-adds."


def _described(study: Study, key: str) -> str:
    seen, entry = tables.pretraining(study, key), study.settings["compared_backbones"][key]
    more = "" if seen == tables.IMAGENET else f", trained on {seen}" if seen != "nothing" else ", with random weights"
    return f"{key} ({entry.name} at {study.compared.metrics[key]['resolution']} pixels{more})"


def _notes(study: Study) -> list[str]:
    """What makes a number less than it seems; nothing where all is well."""
    results, path, notes = study.compared, study.settings["comparison"].penalties, []
    if lost := [key for key, run in results.runs.items() if run.facts.get("unconverged")]:
        notes.append(f"Not every fit of {listed(lost)} converged: a probe may be better than it is said to be here.")
    ends = {path[0], path[-1]} if len(path) > 1 else set()
    if edge := [key for key, found in results.metrics.items() if found["penalty"] in ends]:
        notes.append(
            f"For {listed(edge)}, validation chose an end of the path of penalties ({path[0]:g} to {path[-1]:g}): a "
            f"longer comparison.penalties might serve {'it' if len(edge) == 1 else 'them'} better."
        )
    if absent := next((run.facts["absent"] for run in results.runs.values() if run.facts.get("absent")), None):
        notes.append(f"Validation, which chooses, has no image of {listed(absent)}.")
    return notes


def _rows(study: Study) -> pd.DataFrame:
    """What the figures draw, a row per entry."""
    rows = []
    for key, found in study.compared.metrics.items():
        entry, run = study.settings["compared_backbones"][key], study.compared.runs[key].facts
        rows.append(
            {
                "key": key,
                "network": f"{entry.name} {entry.weights}",
                "label": tables.short(entry.name),
                "imagenet": tables.pretraining(study, key) == tables.IMAGENET,
                "resolution": found["resolution"],
                "multiply_adds": found["multiply_adds"],
                "seconds": 1000 / run["images_per_second"],
                **{name: found["test"][name] for name in ("accuracy", "low", "high")},
            }
        )
    return pd.DataFrame(rows)


def _cost_figures(study: Study) -> list[Figure]:
    rows = _rows(study)
    gains = {key: found["val"]["accuracy"] for key, found in study.compared.metrics.items()}
    figures = []
    for column, what in COSTS.items():
        front = fronts.pareto(gains, dict(zip(rows["key"], rows[column], strict=True)))
        hollow = "" if rows["imagenet"].all() else f" Hollow marks saw other images than {tables.IMAGENET}."
        own = " Seconds are this machine's, whatever else it did." if column == "seconds" else ""
        figures.append(
            Figure(
                name=f"backbones_by_{column}",
                **both(partial(backbones.accuracy_by_cost, rows, column, front)),
                alt=f"Test accuracy of {count(len(rows))} backbones against {what}. Pareto front: {listed(front)}.",
                caption=f"Test accuracy of a linear probe, with 95 % Wilson intervals, against {what}. The line joins "
                f"those that nothing cheaper equals on validation.{hollow}{own}",
            )
        )
    return figures


def _resolution_figure(study: Study) -> list[Figure]:
    """Of the networks that stand at several resolutions; none where none does."""
    rows = _rows(study)
    several = rows[rows.groupby("network")["resolution"].transform("nunique") > 1]
    if several.empty:
        return []
    stored = study.settings["dataset"].image_size
    return [
        Figure(
            name="backbones_by_resolution",
            **both(partial(backbones.accuracy_by_resolution, several)),
            alt="Test accuracy against resolution: "
            + "; ".join(f"{row['key']} {percent(row['accuracy'])}" for row in several.to_dict("records"))
            + ".",
            caption="Test accuracy of a linear probe, with 95 % Wilson intervals, by the pixels per side that the "
            f"network sees. Images are stored at {count(stored)} pixels a side: beyond that they are interpolated.",
        )
    ]
