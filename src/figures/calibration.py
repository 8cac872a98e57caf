"""Figures of how far a classifier's confidence can be believed, from plain rows, as SVG text."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from src.figures.style import FAINT, INK, WIDTH, shortened, side_by_side, style, svg
from src.figures.transfer import COLOURS, NAMES


@style()
def reliability_diagrams(charts: Mapping[str, Mapping[str, pd.DataFrame]], *, width: float = WIDTH) -> str:
    """Accuracy by confidence with intervals, a chart per method; on the diagonal a classifier is as right as it says.

    Args:
        charts: method -> label -> columns confidence, accuracy, low, high (fractions), a row per bin; of several
            labels, the last is drawn in the method's colour and those before it in grey.
    """
    frames = [rows for series in charts.values() for rows in series.values()]
    lowest = 100 * min(min(rows["confidence"].min(), rows["low"].min()) for rows in frames)
    start = max(0.0, np.floor(lowest / 10) * 10 - 2)
    (rows_of, columns), labels = side_by_side(max(2, len(charts)), width), max(map(len, charts.values()))
    figure = Figure(figsize=(width, rows_of * (width / columns + 0.6 + 0.25 * labels)), layout="constrained")
    grid = figure.subplots(rows_of, columns, sharey=True)
    for axes in grid[len(charts) :]:
        axes.set_visible(False)
    for axes, (method, series) in zip(grid, charts.items(), strict=False):
        axes.plot([start, 100], [start, 100], color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
        for number, (label, rows) in enumerate(series.items()):
            colour = COLOURS.get(method, INK) if number == len(series) - 1 else FAINT
            confidence, accuracy = 100 * rows["confidence"], 100 * rows["accuracy"]
            axes.vlines(confidence, 100 * rows["low"], 100 * rows["high"], color=colour, linewidth=1.3, alpha=0.6)
            axes.plot(confidence, accuracy, "o-", color=colour, linewidth=1, markersize=5)
            height = 1.02 + 0.055 * (len(series) - 1 - number)  # above the chart, whose corners a bad one may fill
            axes.text(0, height, f"● {shortened(label, 40)}", transform=axes.transAxes, color=colour)
        title = NAMES.get(method, shortened(method, 32))
        axes.set_title(title, color=COLOURS.get(method, INK), size=11, pad=8 + 17 * labels)
        axes.set(xlim=(start, 101), ylim=(start, 101), aspect="equal", xlabel="confidence, %")
        axes.grid(visible=True, axis="both")
    for axes in grid[:rows_of]:
        axes.set_ylabel("test accuracy, %")
    return svg(figure)
