"""Which candidate of the search gives the coefficients, by no more than validation can tell. N validation images.

Each candidate is trained once. Where several cannot be told apart, the one nearest to the paper's coefficients is
taken: seeds for each would cost as many times the search, and the luck of a seed is larger than what is left between
them; a choice by a few images would be that luck.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from src.base.proportions import difference_interval, wilson_interval
from src.scaling.equations import PAPER

NAMES = ("alpha", "beta", "gamma")
ALPHA = 0.05  # of one candidate or more, among all, that seems better than it is

Row = dict[str, Any]  # as in plots/scaling_search/candidates.csv


def best_of(rows: Sequence[Row]) -> Row:
    """The candidate with the highest validation accuracy; of equals the cheapest, then the first."""
    return max(rows, key=lambda row: (row["val_accuracy"], -row["multiply_adds"]))


def confidence(rows: Sequence[Row]) -> float:
    """Of each interval, so that all candidates' hold together (Bonferroni)."""
    return 1 - ALPHA / len(rows)


def above_chance(rows: Sequence[Row], *, images: int, chance: float) -> bool:
    """Whether the best candidate's interval is."""
    right = round(best_of(rows)["val_accuracy"] * images)
    return wilson_interval(right, images, confidence(rows))[0] > chance


def tied(rows: Sequence[Row], *, images: int) -> list[Row]:
    """The candidates that cannot be told from the best one, itself among them."""
    best = round(best_of(rows)["val_accuracy"] * images)
    counts = ((row, round(row["val_accuracy"] * images)) for row in rows)
    level = confidence(rows)
    return [row for row, right in counts if difference_interval((best, images), (right, images), level)[0] <= 0]


def chosen(rows: Sequence[Row], *, images: int, chance: float) -> dict[str, Any]:
    """The coefficients, and `chosen_by` what.

    - paper: none was trained, and they are the paper's.
    - chance: none is above chance by its interval, and they are the paper's.
    - nearest: of those that cannot be told apart, the nearest to the paper's, ratios counted in logarithms.
    - validation: one is better than all others.

    Args:
        images: N.
        chance: validation accuracy that needs no training.
    """
    if rows[0]["val_accuracy"] is None:
        return asdict(PAPER) | {"chosen_by": "paper"}
    if not above_chance(rows, images=images, chance=chance):
        return asdict(PAPER) | {"chosen_by": "chance"}
    near = tied(rows, images=images)
    row = min(near, key=lambda row: (_departure(row), -row["val_accuracy"], row["multiply_adds"]))
    return {name: row[name] for name in NAMES} | {"chosen_by": "validation" if len(near) == 1 else "nearest"}


def summarise(rows: Sequence[Row], found: Mapping[str, Any], *, images: int) -> dict[str, Any]:
    """What was chosen from how many; where they were trained, how many are as good as the best, and the scores.

    The scores are those of the candidate that was chosen, or, where the paper's coefficients were taken, of the best.
    """
    summary = {name: found[name] for name in NAMES} | {"candidates": len(rows)}
    if found["chosen_by"] == "paper":
        return summary
    own = [row for row in rows if all(row[name] == found[name] for name in NAMES)]
    row = best_of(rows) if found["chosen_by"] == "chance" else own[0]
    scores = {"accuracy": row["val_accuracy"], "loss": row["val_loss"]}
    return summary | {"tied": len(tied(rows, images=images)), "val": scores}


def _departure(row: Row) -> float:
    paper = asdict(PAPER)
    return round(sum(math.log(row[name] / paper[name]) ** 2 for name in NAMES), 12)
