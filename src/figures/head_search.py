"""Figures of a search over a whole grid of heads in rungs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.figures.style import FAINT, INK, PAPER, WIDTH, label_ends, shortened, side_by_side, style, svg
from src.figures.transfer import COLOURS, SHADES

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's


@style()
def grid_values(rows: pd.DataFrame, name: str, *, width: float = WIDTH) -> str:
    """What a parameter's values do: accuracy in the first rung, and the share of their heads that reach each rung.

    Args:
        rows: columns trial, rung, val_accuracy and the parameter; a row per head and rung.
        name: of the parameter.
    """
    down, across = side_by_side(2, width)
    figure = Figure(figsize=(width, 2.9 * down), layout="constrained")
    left, right = figure.subplots(down, across)
    values = sorted(rows[name].unique())
    _ranges(left, rows[rows["rung"] == 1], name, values)
    last = rows["rung"].max()
    for number, value in enumerate(values):
        alive = [(rows.loc[rows["rung"] == rung, name] == value).mean() for rung in range(1, last + 1)]
        colour = PALETTE[number % len(PALETTE)]
        right.plot(range(1, last + 1), 100 * np.array(alive), "o-", color=colour, markersize=4, label=_text(value))
    right.set(xlabel="rung", ylabel="heads with it, %", ylim=(-3, 103))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.grid(visible=True)
    label_ends(right)
    return svg(figure)


@style()
def grid_interaction(rows: pd.DataFrame, columns: str, down: str, panels: str, *, width: float = WIDTH) -> str:
    """Mean accuracy of each combination of three parameters in the first rung, and how many of its heads go on.

    Args:
        rows: as for `grid_values`.
        columns, down, panels: parameters along, down and for each chart.
    """
    first, beyond = rows[rows["rung"] == 1], rows[rows["rung"] == 2]
    values = {name: sorted(first[name].unique()) for name in (columns, down, panels)}
    means = 100 * first.groupby([panels, down, columns])["val_accuracy"].mean()
    counts = beyond.groupby([panels, down, columns]).size()
    shape = side_by_side(len(values[panels]), width)
    figure = Figure(figsize=(width, shape[0] * (0.5 * len(values[down]) + 1.2)), layout="constrained")
    grid = figure.subplots(*shape, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, values[panels], strict=True):
        cells = means.loc[panel].unstack(columns).loc[values[down], values[columns]].to_numpy()
        axes.pcolormesh(cells, cmap=SHADES["frozen"], vmin=means.min(), vmax=means.max(), edgecolors=PAPER)
        for (row, column), mean in np.ndenumerate(cells):
            on = counts.get((panel, values[down][row], values[columns][column]), 0)
            colour = PAPER if mean > (means.min() + means.max()) / 2 else INK
            text = f"{mean:.1f}\n{on} on"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8, color=colour)
        axes.set_title(shortened(panel, 20))
        axes.set_xticks(np.arange(len(values[columns])) + 0.5, map(_text, values[columns]))
        axes.set_yticks(np.arange(len(values[down])) + 0.5, map(_text, values[down]))
        axes.set(xlabel=columns.replace("_", " "))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel(down.replace("_", " "))
    return svg(figure)


def _ranges(axes: Axes, rows: pd.DataFrame, name: str, values: Sequence[object]) -> None:
    """Of each value, the middle half of its heads, all but a tenth on either side, and the mean."""
    for place, value in enumerate(values):
        own = 100 * rows.loc[rows[name] == value, "val_accuracy"]
        low, first, third, high = own.quantile([0.1, 0.25, 0.75, 0.9])
        axes.vlines(place, low, high, color=FAINT, linewidth=1.5)
        axes.vlines(place, first, third, color=COLOURS["frozen"], linewidth=7, alpha=0.45)
        axes.plot(place, own.mean(), "o", color=COLOURS["frozen"], markersize=6)
        axes.plot(place, own.max(), "_", color=INK, markersize=12)
    axes.set_xticks(range(len(values)), [shortened(_text(value), 12) for value in values])
    axes.set(xlim=(-0.5, len(values) - 0.5), ylabel="validation acc., %", xlabel=name.replace("_", " "))
    axes.grid(visible=True)


def _text(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}"
