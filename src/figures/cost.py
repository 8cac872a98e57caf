"""Figure of what accuracy costs in seconds of this machine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from src.figures.labels import Point, label_points, scale_cost
from src.figures.style import FAINT, INK, WIDTH, style, svg
from src.figures.transfer import COLOURS


@style()
def accuracy_by_seconds(rows: pd.DataFrame, front: list[str], *, width: float = WIDTH) -> str:
    """Test accuracy of each method with its interval against seconds, and a line through the Pareto front.

    Args:
        rows: columns method, label, seconds, accuracy, low, high (fractions; low and high nan: no interval).
        front: methods, from the cheapest to the dearest.
    """
    figure = Figure(figsize=(width, 4.0), layout="constrained")
    axes = figure.subplots()
    colours = {row["method"]: COLOURS.get(row["method"], INK) for row in rows.to_dict("records")}
    points = {row["method"]: _point(row) for row in rows.to_dict("records")}
    reaches = {row["method"]: _reach(row) for row in rows.to_dict("records")}
    for method, point in points.items():
        bars: dict[str, Any] = {"yerr": reaches[method], "capsize": 3, "elinewidth": 1.2}
        axes.errorbar(point.x, point.y, fmt="o", color=colours[method], markersize=7, **bars)
    line = [points[method] for method in front]
    axes.plot([p.x for p in line], [p.y for p in line], color=FAINT, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlabel="seconds of this machine", ylabel="test accuracy, %")
    axes.grid(visible=True)
    scale_cost(axes, list(points.values()))
    axes.margins(x=0.38, y=0.12)
    figure.draw_without_rendering()  # now the layout is known, and what lies beside what
    label_points(axes, list(points.values()), colours)
    return svg(figure)


def _reach(row: Mapping[Any, Any]) -> list[list[float]] | None:
    """How far the interval reaches below and above, in points."""
    below, above = 100 * (row["accuracy"] - row["low"]), 100 * (row["high"] - row["accuracy"])
    return None if np.isnan(below) else [[below], [above]]


def _point(row: Mapping[Any, Any]) -> Point:
    reach = np.nanmax([row["high"] - row["accuracy"], row["accuracy"] - row["low"], 0.0])
    return Point(
        name=str(row["label"]),
        key=str(row["method"]),
        x=float(row["seconds"]),
        y=100 * float(row["accuracy"]),
        y_error=100 * float(reach),
    )
