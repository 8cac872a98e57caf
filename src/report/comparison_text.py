"""A comparison for a terminal, as tables of plain text, and for machines, as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from src.evidence import changes
from src.report import comparison_words as words
from src.report import differences
from src.report.comparison import Pairing, Row
from src.report.comparison_page import Comparison, own, seeded
from src.report.numbers import MINUS, NARROW, duration, percent
from src.report.sides import Side

Rows = list[list[str]]
LONGEST = 10  # letters of an experiment's name above its column


def tables(found: Comparison) -> Iterator[Rows | str]:
    """Tables, each with its head, and sentences between them."""
    names = [_name(side) for side in found.sides]
    for what, differing in _made_of(found.sides):
        yield [[what, *names], *([row.what, *row.sides] for row in differing)]
    for pairing in found.pairings:
        head = [f"{pairing.second.name} against {pairing.first.name}", _name(pairing.first), _name(pairing.second)]
        rows = [
            [_short(row), *words.both(row), words.bounds(row), words.p_value(row.change.p_value)]
            for row in pairing.rows
        ]
        if rows:
            yield ""
            yield _plain([[*head, "difference [95 %]", "p"], *rows])
        if pairing.equal:
            yield f"{pairing.equal} metric{' is' if pairing.equal == 1 else 's are'} equal."
    for side in found.seeds:
        rows = [[f"{stage} {leaf}", *_over_seeds(own(side, stage, leaf))] for stage, leaf in seeded(side)]
        if rows:
            yield ""
            yield _plain([[side.label, "mean", "spread", "95 % interval"], *rows])
    yield ""
    totals = [
        sum(each["seconds"] if (each := costs[i]) else 0.0 for _, costs in differences.cost(found.sides))
        for i in range(len(names))
    ]
    yield _plain([["time", *names], ["all stages", *map(duration, totals)]])


def _made_of(sides: Sequence[Side]) -> Iterator[tuple[str, list[differences.Difference]]]:
    found = {
        "value": differences.parameters(sides),
        "code": differences.code(sides),
        "data": differences.data(sides),
        "version": differences.versions(sides),
    }
    yield from ((what, rows) for what, rows in found.items() if rows)


def _name(side: Side) -> str:
    """Its begin and its end, which tell names apart."""
    half = LONGEST // 2
    return side.name if len(side.name) <= LONGEST else f"{side.name[:half]}…{side.name[1 - half :]}"


def _short(row: Row) -> str:
    """Without the family, which the member's name does not need."""
    return f"{row.stage.rpartition('@')[2]} {row.leaf}"


def _over_seeds(values: Sequence[float]) -> list[str]:
    mean, spread, low, high = changes.mean_over_seeds(values)
    return [percent(mean), f"{100 * spread:.2f}", f"[{100 * low:.1f}, {100 * high:.1f}]"]


def _plain(rows: Rows) -> Rows:
    return [[plain(text) for text in row] for row in rows]


def plain(text: str) -> str:
    """With signs that every terminal has."""
    return text.replace(NARROW, " ").replace(MINUS, "-")


def as_json(found: Comparison, page: str) -> dict[str, Any]:
    """Everything that the page says, numbers as numbers; accuracies are fractions, losses nats."""
    sides = found.sides
    groups = [(side, key, own(side, *key)) for side in found.seeds for key in seeded(side)]
    return {
        "answer": plain(words.answer(found.pairings)),
        "page": page,
        "sides": [{"name": side.name, "experiments": [_experiment(each) for each in side.members]} for side in sides],
        "parameters": _differences(sides, differences.parameters(sides)),
        "code": _differences(sides, differences.code(sides)),
        "data": _differences(sides, differences.data(sides)),
        "versions": _differences(sides, differences.versions(sides)),
        "comparisons": [_pairing(each) for each in found.pairings],
        "seeds": [
            {"side": side.name, "stage": stage, "metric": leaf, "each": values}
            | dict(zip(("mean", "spread", "low", "high"), changes.mean_over_seeds(values), strict=True))
            for side, (stage, leaf), values in groups
        ],
        "cost": [
            {"stage": stage, "sides": dict(zip((side.name for side in sides), costs, strict=True))}
            for stage, costs in differences.cost(sides)
        ],
        "refused": [*found.refused, *(line for each in found.pairings for line in each.refused)],
        "warnings": list(found.warnings),
    }


def _experiment(of: Any) -> dict[str, Any]:
    return {"name": of.name, "commit": of.revision.commit, "baseline": of.revision.baseline, "seed": of.seed}


def _differences(sides: Sequence[Side], rows: Sequence[differences.Difference]) -> list[dict[str, Any]]:
    names = [side.name for side in sides]
    return [
        {"name": row.what, "sides": dict(zip(names, row.sides, strict=True)), "stages": list(row.stages)}
        for row in rows
    ]


def _pairing(of: Pairing) -> dict[str, Any]:
    flips = of.flips
    return {
        "first": of.first.name,
        "second": of.second.name,
        "metrics": [_row(row) for row in of.rows],
        "equal": of.equal,
        "flipped": {"stage": flips.stage, "gained": list(flips.gained), "lost": list(flips.lost)} if flips else None,
    }


def _row(row: Row) -> dict[str, Any]:
    change = row.change
    found = {"stage": row.stage, "metric": row.leaf, "first": change.first, "second": change.second}
    found |= {"difference": change.difference, "low": change.low, "high": change.high, "level": 1 - change.level}
    found |= {"p_value": change.p_value, "settled": change.settled, "over": change.over or None}
    return found | {"first_alone": change.alone and change.alone[0], "second_alone": change.alone and change.alone[1]}
