"""Figures of a comparison of experiments: each has one colour throughout, the first the ink's."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.figures.backbones import PALETTE
from src.figures.style import FAINT, INK, WIDTH, label_ends, shortened, style, svg

LONGEST = 22  # letters of a name in a chart
TITLES = {"train_frozen": "head on the frozen backbone", "finetune": "whole network"}
ROWS = {"val_accuracy": ("validation accuracy, %", 100), "val_loss": ("validation loss, nats", 1)}
ROWS |= {"train_loss": ("training loss, nats", 1)}


def colours(names: Sequence[str]) -> dict[str, str]:
    """Of each side, in the order in which they come."""
    return dict(zip(names, cycle((INK, *PALETTE[1:], PALETTE[0])), strict=False))


@style()
def curves(sides: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]]) -> str:
    """Accuracy and loss by epoch, a column of charts per stage, experiments over each other.

    Args:
        sides: by name, of each of its experiments the curves by stage: columns epoch, {train,val}_loss, val_accuracy.
    """
    stages = [stage for stage in TITLES if any(stage in own for members in sides.values() for own in members)]
    figure = Figure(figsize=(WIDTH, 7.2), layout="constrained")
    grid = figure.subplots(len(ROWS), len(stages), sharex="col", squeeze=False)
    looks = colours(list(sides))
    for column, stage in zip(grid.T, stages, strict=True):
        column[0].set_title(TITLES[stage], size=11)
        for axes, (quantity, (_, scale)) in zip(column, ROWS.items(), strict=True):
            for name, members in sides.items():
                for number, own in enumerate(each[stage] for each in members if stage in each):
                    label = shortened(name, LONGEST) if number == 0 else None
                    line = {"color": looks[name], "linewidth": 1.8, "marker": ".", "alpha": 0.85, "label": label}
                    axes.plot(own["epoch"], scale * own[quantity], **line)
        column[-1].set_xlabel("epoch")
        column[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for axes, (label, _) in zip(grid[:, 0], ROWS.values(), strict=True):
        axes.set_ylabel(label)
    for axes in grid.flat:
        axes.grid(visible=True)
        label_ends(axes)
    return svg(figure)


@style()
def differences(rows: pd.DataFrame) -> str:
    """Differences of accuracy with their intervals, around a line at none.

    Args:
        rows: columns label, side, difference, low, high (fractions), text, written beside; top first.
    """
    figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    looks = colours(["", *dict.fromkeys(rows["side"])])
    places = range(len(rows))
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        colour = looks[row["side"]]
        axes.hlines(place, 100 * row["low"], 100 * row["high"], color=colour, linewidth=2)
        axes.plot(100 * row["difference"], place, "o", color=colour, markersize=7)
        axes.text(1.01, place, row["text"], transform=axes.get_yaxis_transform(), va="center", size=9)
    axes.axvline(0, color=FAINT, linewidth=1, zorder=0)
    reach = 1.08 * 100 * float(np.abs(rows[["low", "high"]].to_numpy()).max()) or 1.0
    axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.5, -0.5), xlabel="difference in test accuracy, points")
    axes.set_yticks(places, [shortened(name, 44) for name in rows["label"]])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    return svg(figure)
