"""Figures of the comparison of backbones: a network has one colour throughout, whatever its resolution.

A mark is hollow where the weights saw other images than ImageNet-1k. R x R pixels.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from src.figures.labels import Point, label_points, scale_cost
from src.figures.style import FAINT, INK, PAPER, WIDTH, label_ends, shortened, style, svg

# Okabe and Ito's palette, the yellow darkened so that a label can be read on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b87a00", "#57606a", "#3d8fc4", "#7b4fb5")
COSTS = {  # column: label of the axis, and what a unit of it holds
    "multiply_adds": ("multiply-adds per image, millions", 1e6),
    "seconds": ("measured seconds per 1 000 images", 1.0),
}
LONGEST = 26  # letters of a name in a chart


def colours(networks: Sequence[str]) -> dict[str, str]:
    """Of each network, in the order in which they come."""
    return dict(zip(dict.fromkeys(networks), cycle(PALETTE), strict=False))


@style()
def accuracy_by_cost(rows: pd.DataFrame, column: str, front: Sequence[str], *, width: float = WIDTH) -> str:
    """Test accuracy of each entry with its interval against one of COSTS, and a line through the Pareto front.

    Args:
        rows: columns key, network, imagenet (whether it saw ImageNet-1k and no more), accuracy, low, high (fractions),
            multiply_adds, seconds.
        column: the cost.
        front: keys, from the cheapest to the dearest.
    """
    label, unit = COSTS[column]
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.subplots()
    looks = colours(list(rows["network"]))
    of_key = {str(row["key"]): looks[row["network"]] for row in rows.to_dict("records")}
    points = []
    for row in rows.to_dict("records"):
        point = _point(row, row[column] / unit)
        _mark(axes, row, point.x, of_key[point.key])
        points.append(point)
    known = {point.key: point for point in points}
    line = [known[key] for key in front]
    axes.plot([p.x for p in line], [p.y for p in line], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlabel=label, ylabel="test accuracy, %")
    axes.grid(visible=True)
    scale_cost(axes, points)
    axes.margins(y=0.12)
    figure.draw_without_rendering()  # now the layout is known, and what lies beside what
    label_points(axes, points, of_key)
    return svg(figure)


@style()
def accuracy_by_resolution(rows: pd.DataFrame, *, width: float = WIDTH) -> str:
    """Test accuracy with its interval against the resolution, a line per network.

    Args:
        rows: columns network, label, imagenet, resolution (R), accuracy, low, high (fractions).
    """
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    axes = figure.subplots()
    looks = colours(list(rows["network"]))
    for network, group in rows.groupby("network", sort=False):
        own = group.sort_values("resolution")
        label, colour = shortened(own["label"].iloc[0], LONGEST), looks[str(network)]
        axes.plot(own["resolution"], 100 * own["accuracy"], color=colour, linewidth=1.8, label=label)
        for row in own.to_dict("records"):
            _mark(axes, row, row["resolution"], colour)
    axes.set_xscale("log", base=2)
    sides = sorted(set(rows["resolution"]))
    axes.set_xticks(sides, [str(side) for side in sides])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="pixels per side that the network sees", ylabel="test accuracy, %")
    axes.grid(visible=True)
    label_ends(axes)
    return svg(figure)


def _point(row: Mapping[Any, Any], x: float) -> Point:
    reach = max(row["high"] - row["accuracy"], row["accuracy"] - row["low"])
    key = str(row["key"])
    return Point(name=shortened(key, LONGEST), key=key, x=x, y=100 * row["accuracy"], y_error=100 * reach)


def _mark(axes: Axes, row: Mapping[Any, Any], x: float, colour: str) -> None:
    errors = 100 * np.array([[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]])
    axes.errorbar(
        *(x, 100 * row["accuracy"]),
        yerr=errors,
        fmt="o",
        color=colour,
        markerfacecolor=colour if row["imagenet"] else PAPER,
        markersize=7,
        capsize=3,
        elinewidth=1.2,
        label="_mark",
        ecolor=INK if not row["imagenet"] else colour,
    )
