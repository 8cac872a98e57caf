"""Figures of the report, from plain rows, as SVG text: one style, direct labels, equal input gives equal bytes.

A method has one colour and a split one line style throughout.
K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from numpy.typing import NDArray

from src.figures.style import FAINT, INK, PAPER, WIDTH, label_ends, shortened, side_by_side, style, svg

COLOURS = {"frozen": "#0072b2", "finetuned": "#d55e00"}
NAMES = {"frozen": "frozen", "finetuned": "fine-tuned"}
SHADES = {name: LinearSegmentedColormap.from_list(name, [PAPER, colour]) for name, colour in COLOURS.items()}
SPLIT_LINES: dict[str, dict[str, Any]] = {
    "train": {"label": "train", "linestyle": (0, (4, 2)), "linewidth": 1.3, "marker": ".", "alpha": 0.75},
    "val": {"label": "validation", "linewidth": 2.2, "marker": "."},
}


@style()
def accuracy_bars(rows: pd.DataFrame, chance: float, *, width: float = WIDTH) -> str:
    """Accuracy of each method as a bar with its interval.

    Args:
        rows: columns method, label, accuracy, low, high (fractions) and text, written beside the bar; top first.
        chance: fraction that guessing reaches.
    """
    beside = width == WIDTH  # the names; else they stand above their bars
    figure = Figure(figsize=(width, (0.46 if beside else 0.6) * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots()
    places, values, right = np.arange(len(rows)), 100 * rows["accuracy"], 100 * rows["high"]
    colours = [COLOURS.get(method, "#afb8c1") for method in rows["method"]]
    axes.barh(places, values, height=0.62 if beside else 0.4, color=colours)
    errors = np.stack([values - 100 * rows["low"], right - values])
    axes.errorbar(values, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1.3, capsize=4)
    for place, end, text in zip(range(len(rows)), right, rows["text"], strict=True):
        axes.text(end + 1.5, place, text, va="center")
    axes.plot([100 * chance] * 2, [-0.75, len(rows) - 0.5], color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    axes.text(100 * chance + 0.8, -0.6 if beside else -0.75, f"chance {100 * chance:.1f} %", va="center", size=9)
    end = 130 if beside else 180
    axes.set(xlim=(0, end), ylim=(len(rows) - 0.5, -0.85), xlabel="test accuracy, %")
    axes.xaxis.set_label_coords(50 / end, -0.16)
    axes.set_xticks(range(0, 101, 20))
    axes.set_yticks(places, rows["label"] if beside else [""] * len(rows))
    for place, label in zip(range(0 if beside else len(rows)), rows["label"], strict=False):
        axes.text(0, place - 0.24, label, va="bottom", bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1})
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(beside)
    axes.spines["bottom"].set_bounds(0, 100)
    return svg(figure)


@style()
def learning_curves(curves: Mapping[str, pd.DataFrame], best_epochs: Mapping[str, int], *, width: float = WIDTH) -> str:
    """Accuracy, loss and learning rates by epoch; a column of charts per method, its best epoch marked.

    Args:
        curves: by method, columns epoch, {train,val}_{accuracy,loss}, head_lr, perhaps backbone_lr or a rate per block.
        best_epochs: by method, the epoch whose weights were kept.
    """
    down, across = side_by_side(len(curves), width)
    figure = Figure(figsize=(width, 7.2 * (1 + 0.8 * (down - 1))), layout="constrained")
    ratios = (3, 3, 2) * down
    shared: Any = {"sharex": "col", "sharey": "row"} if down == 1 else {}
    grid = figure.subplots(3 * down, across, squeeze=False, height_ratios=ratios, **shared)
    grid = grid if down == 1 else grid.reshape(down, 3).T
    for column, (method, rows) in zip(grid.T, curves.items(), strict=True):
        column[0].set_title(NAMES[method], color=COLOURS[method], size=11)
        for axes, quantity, scale in ((column[0], "accuracy", 100), (column[1], "loss", 1)):
            for split, line in SPLIT_LINES.items():
                axes.plot(rows["epoch"], scale * rows[f"{split}_{quantity}"], color=COLOURS[method], **line)
            kept = rows[rows["epoch"] == best_epochs[method]]
            axes.plot(kept["epoch"], scale * kept[f"val_{quantity}"], "o", color=COLOURS[method], markersize=7)
        # The head, and the backbone or its blocks.
        parts = [name.removesuffix("_lr") for name in map(str, rows) if name.endswith("_lr")]
        for part in parts:
            dashes, label = "-" if part == "head" else ":", part if part in (parts[0], parts[-1]) else None
            column[2].plot(rows["epoch"], rows[f"{part}_lr"], dashes, color=COLOURS[method], marker=".", label=label)
        column[2].set(yscale="log", xlabel="epoch")
        column[2].yaxis.set_major_formatter(LogFormatter())
        column[2].yaxis.set_minor_formatter(LogFormatter())  # silent where the major ticks suffice
        column[2].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    for column in grid.T[: 1 if down == 1 else None]:
        for axes, label in zip(column, ("accuracy, %", "loss, nats", "learning rate"), strict=True):
            axes.set_ylabel(label)
        low, high = column[2].get_ylim()
        column[2].set_ylim(low / 1.5, high * 1.5)  # a constant rate, too, is near a tick with a number
    for axes in grid.flat:
        axes.grid(visible=True)
        label_ends(axes)
    return svg(figure)


@style()
def confusion_matrices(
    matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str], *, width: float = WIDTH
) -> str:
    """Per cent of each actual class (row) by the class that was named (column), a matrix per method; for few classes.

    Args:
        matrices: by method, image counts int64 (K, K).
    """
    count = len(classes)
    labels = [shortened(name, 14) for name in classes]
    rows, columns = side_by_side(len(matrices), width)
    figure = Figure(figsize=(width, rows * (4.7 + 0.06 * max(map(len, labels)))), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True)
    for axes, (method, matrix) in zip(grid, matrices.items(), strict=True):
        shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.pcolormesh(shares, cmap=SHADES[method], norm=PowerNorm(0.5, 0, 100), edgecolors=PAPER, linewidth=0.5)
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            text, colour = f"{shares[row, column]:.0f}", PAPER if shares[row, column] > 45 else INK
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=min(9, 90 / count), color=colour)
        axes.set_title(NAMES[method], color=COLOURS[method], size=11)
        axes.set_xticks(np.arange(count) + 0.5, labels, rotation=90)
        axes.set_yticks(np.arange(count) + 0.5, labels)
        axes.set(xlabel="predicted class", ylim=(count, 0), aspect="equal")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    for axes in figure.axes[:rows]:
        axes.set_ylabel("actual class")
    return svg(figure)


@style()
def class_ranges(rows: Mapping[str, pd.DataFrame], *, width: float = WIDTH) -> str:
    """Accuracy on each class before and after, joined by a line, over faint intervals.

    Args:
        rows: by method, columns class, accuracy, low, high (fractions), the same classes in the same order, top first.
    """
    classes = next(iter(rows.values()))["class"]
    figure = Figure(figsize=(width, 0.26 * len(classes) + 1.1), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(classes))
    values = [100 * frame["accuracy"].to_numpy() for frame in rows.values()]
    axes.hlines(places, np.min(values, axis=0), np.max(values, axis=0), color=FAINT, linewidth=1.2)
    for number, (method, frame) in enumerate(rows.items()):
        colour = COLOURS[method]
        axes.hlines(places, 100 * frame["low"], 100 * frame["high"], color=colour, linewidth=6, alpha=0.22)
        axes.plot(100 * frame["accuracy"], places, "o", color=colour, markersize=6)
        axes.text(1.1 / width * number, 1.02, f"● {NAMES[method]}", transform=axes.transAxes, color=colour)
    axes.set_yticks(places, [shortened(name, 32 if width == WIDTH else 16) for name in classes])
    axes.set(ylim=(len(classes) - 0.4, -0.6), xlabel="test accuracy of the class, %")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
    return svg(figure)


@style()
def search_curves(curves: pd.DataFrame, best_trial: int, *, width: float = WIDTH) -> str:
    """Validation accuracy by epoch of every trial, the best one marked; columns trial, epoch, val_accuracy."""
    figure = Figure(figsize=(width, 3.4), layout="constrained")
    axes = figure.subplots()
    best = curves[curves["trial"] == best_trial]
    for _, rows in curves[curves["trial"] != best_trial].groupby("trial"):
        axes.plot(rows["epoch"], 100 * rows["val_accuracy"], color=FAINT, linewidth=1, alpha=0.55, marker=".")
    label = f"trial {best_trial}"
    axes.plot(best["epoch"], 100 * best["val_accuracy"], "o-", color=COLOURS["frozen"], linewidth=2.2, label=label)
    axes.set(xlabel="epoch", ylabel="validation accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    label_ends(axes)
    return svg(figure)


@style()
def search_values(
    trials: pd.DataFrame, importances: Mapping[str, float], best_trial: int, *, width: float = WIDTH
) -> str:
    """Validation accuracy of every trial by the value it drew, a chart per searched parameter, the best trial marked.

    Args:
        trials: columns trial, val_accuracy and one per parameter.
        importances: by parameter, fraction; in the order of the charts.
    """
    _, columns = side_by_side(3, width)
    height = -(-len(importances) // columns)
    figure = Figure(figsize=(width, 2.5 * height), layout="constrained")
    grid = figure.subplots(height, columns, sharey=True, squeeze=False)
    best = trials["trial"] == best_trial
    for axes in grid.flat[len(importances) :]:
        axes.set_visible(False)
    for axes, (name, importance) in zip(grid.flat, importances.items(), strict=False):
        _values_panel(axes, trials[name], 100 * trials["val_accuracy"], best)
        axes.set_title(f"{name.replace('_', ' ')} · {100 * importance:.0f} %")
    for axes in grid[:, 0]:
        axes.set_ylabel("validation acc., %")
    return svg(figure)


def _values_panel(axes: Axes, drawn: pd.Series, accuracy: pd.Series, best: pd.Series) -> None:
    values = sorted(drawn.unique())
    places = drawn.map({value: place for place, value in enumerate(values)})
    means = accuracy.groupby(drawn).mean().loc[values]
    axes.hlines(means, np.arange(len(values)) - 0.3, np.arange(len(values)) + 0.3, color=INK, linewidth=1.2)
    axes.plot(places[~best], accuracy[~best], "o", color=FAINT, markersize=5, alpha=0.55)
    axes.plot(places[best], accuracy[best], "o", color=COLOURS["frozen"], markersize=7)
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    axes.set_xticks(range(len(values)), [shortened(text, 12) for text in texts])
    if len(values) > 6:  # rates, on a scale of each optimizer's own
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.grid(visible=True)
