"""The page that compares experiments, in the report's style."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from src.evidence import changes
from src.figures import experiments as figures
from src.report import comparison_words as words
from src.report import differences, flips
from src.report.comparison import Pairing
from src.report.numbers import count, duration, percent
from src.report.pages import Block, Figure, Page, Section, Table
from src.report.sides import Side


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that a comparison says: sides and pairs of them, groups of seeds, what was refused, and warnings."""

    sides: Sequence[Side]
    pairings: Sequence[Pairing]
    seeds: Sequence[Side]
    refused: Sequence[str]
    warnings: Sequence[str]


def page(found: Comparison) -> Page:
    sides = found.sides
    return Page(
        title=f"Compared: {words.people(sides)}",
        answer=words.answer(found.pairings),
        facts=" ".join(differences.commits(sides)),
        warnings=[*found.warnings, *found.refused, *(line for each in found.pairings for line in each.refused)],
        lead=[*_made_of(sides), *(line for each in found.pairings if (line := words.sureness(each)))],
        sections=[
            *_metrics(found.pairings),
            *_seeds(found.seeds),
            *(section for each in found.pairings for section in _images(each)),
            *_curves(sides),
            _differences(sides),
            _cost(sides),
        ],
    )


def _made_of(sides: Sequence[Side]) -> list[Block]:
    return _table("What was set differently.", "Value", sides, differences.parameters(sides), stages=False) or [
        "All values of params.yaml are the same."
    ]


def _metrics(pairings: Sequence[Pairing]) -> list[Section]:
    blocks: list[Block] = []
    tested = [(each, row) for each in pairings for row in each.tested]
    if tested:
        blocks.append(_forest(pairings))
    for each in pairings:
        rows = [
            [words.short(row), *words.both(row), words.bounds(row), words.p_value(row.change.p_value)]
            for row in each.rows
        ]
        others = f" other{'' if each.equal == 1 else 's'}" if rows else ""
        same = f" {count(each.equal)}{others} {'is' if each.equal == 1 else 'are'} equal." if each.equal else ""
        if not rows:
            which = " that both have" if each.uncompared else ""
            blocks.append(f"No metric of {each.second.label}{which} differs from {each.first.label}'s.{same}")
            continue
        columns = ["Metric", each.first.name, each.second.name, "Difference", "p"]
        caption = (
            f"{each.second.label} against {each.first.label}: metrics that differ, with 95 % intervals where both "
            "answered the same images: shares by Newcombe's, losses by Hall's, several seeds by Student's t. On "
            f"test, p is exact (McNemar) and, like the interval, corrected by Holm for all accuracies that "
            f"were tested here, {len(tested)} in number.{same}"
        )
        blocks.append(Table(caption=caption, rows=pd.DataFrame(rows, columns=columns), marked=_marked(each)))
    return [Section(title="What changed, and how sure that is", blocks=blocks)]


def _marked(pairing: Pairing) -> int | None:
    return list(pairing.rows).index(pairing.main) if pairing.main else None


def _forest(pairings: Sequence[Pairing]) -> Figure:
    rows = pd.DataFrame(
        [
            {"label": f"{each.second.name}: {words.of_what(row)}", "side": each.second.name, "text": words.bounds(row)}
            | {"difference": row.change.difference, "low": row.change.low, "high": row.change.high}
            for each in pairings
            for row in each.tested
        ]
    )
    first = pairings[0].first.name
    said = "; ".join(f"{label}: {text}" for label, text in zip(rows["label"], rows["text"], strict=True))
    return Figure(
        name="differences",
        svg=figures.differences(rows),
        alt=f"Differences in test accuracy from {first}, points. {said}.",
        caption=f"Accuracy on test minus that of {first}, with the interval of the table below: right of the line is "
        "better.",
    )


def _seeds(groups: Sequence[Side]) -> list[Section]:
    rows = []
    for side in groups:
        for stage, leaf in seeded(side):
            values = own(side, stage, leaf)
            mean, spread, low, high = changes.mean_over_seeds(values)
            each = ", ".join(percent(x) for x in values)
            rows.append([side.label, f"{stage} {leaf}", percent(mean), f"{100 * spread:.2f}"])
            rows[-1] += [f"[{100 * low:.1f}, {100 * high:.1f}]", each]
    if not rows:
        return []
    columns = ["Experiments", "Metric", "Mean", "Spread, points", "95 % interval of the mean", "Each"]
    caption = (
        "Experiments that differ in their seed alone: the spread is the standard deviation, the interval Student's t. "
        "Both are the luck in training."
    )
    table = Table(caption=caption, rows=pd.DataFrame(rows, columns=columns), text_columns=2)
    return [Section(title="Over seeds", blocks=[table])]


def seeded(side: Side) -> list[tuple[str, str]]:
    """Accuracies on test that some seeds of `side` make differ, by stage and name."""
    stages = side.head.metrics
    found = [(stage, "test.accuracy") for stage in stages if side.metric(stage, "test.accuracy") is not None]
    return [each for each in found if len(set(own(side, *each))) > 1]


def own(side: Side, stage: str, leaf: str) -> list[float]:
    """The metric of each member."""
    found = (Side(members=[each]).metric(stage, leaf) for each in side.members)
    return [x for x in found if x is not None]


def _images(pairing: Pairing) -> list[Section]:
    row, blocks = pairing.main, flips.galleries(pairing)
    if not row or not blocks:
        return []
    both = f"{pairing.first.name} and {pairing.second.name}"
    return [Section(title=f"Images that flipped between {both} ({words.of_what(row)})", blocks=blocks)]


def _curves(sides: Sequence[Side]) -> list[Section]:
    curves = {side.label: [each.curves for each in side.members] for side in sides}
    if not any(own for members in curves.values() for own in members):
        return []
    figure = Figure(
        name="curves",
        svg=figures.curves(curves),
        alt=f"Validation accuracy and losses by epoch of {words.people(sides)}.",
        caption="By epoch. Where a stage was not run again, its curves lie on each other.",
    )
    return [Section(title="How training went", blocks=[figure])]


def _differences(sides: Sequence[Side]) -> Section:
    blocks: list[Block] = []
    for what, title, rows in (
        ("code", "Code that results were made by", differences.code(sides)),
        ("images, weights and sources", "Data, by its digest", differences.data(sides)),
        ("versions, devices and threads", "What stages ran under", differences.versions(sides)),
    ):
        blocks += _table(f"{title}.", "", sides, rows) or [f"The same {what}."]
    return Section(title="Code, data and versions", blocks=blocks)


def _cost(sides: Sequence[Side]) -> Section:
    rows, totals = [], [0.0] * len(sides)
    for stage, costs in differences.cost(sides):
        took = [each["seconds"] if each else 0.0 for each in costs]
        totals = [total + seconds for total, seconds in zip(totals, took, strict=True)]
        memory = [f"{count(round(each['peak_memory_mb']))}" if each else "" for each in costs]
        same = differences.same_run(sides, stage)
        rows.append([stage, *(duration(x) if each else "" for x, each in zip(took, costs, strict=True)), *memory])
        rows[-1].append("one run, which DVC gave to all" if same and len(sides) > 1 else "")
    rows.append(["all", *map(duration, totals), *[""] * (len(sides) + 1)])
    names = [side.name for side in sides]
    columns = ["Stage", *names, *(f"{name}, MiB" for name in names), ""]
    table = Table(
        caption="What each stage took, and the most memory it held. Seconds of a busy machine are more.",
        rows=pd.DataFrame(rows, columns=columns),
        marked=len(rows) - 1,
    )
    return Section(title="Cost", blocks=[table])


def _table(
    caption: str, what: str, sides: Sequence[Side], rows: Sequence[differences.Difference], *, stages: bool = True
) -> list[Block]:
    """Nothing where nothing differs."""
    if not rows:
        return []
    texts = [[row.what, *row.sides, *([", ".join(row.stages)] if stages else [])] for row in rows]
    columns = [what, *(side.name for side in sides), *(["Stages"] if stages else [])]
    return [Table(caption=caption, rows=pd.DataFrame(texts, columns=columns), text_columns=len(columns))]
