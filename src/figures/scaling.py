"""Figures of the scaling study: an arm has one colour and one marker throughout."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.figures.labels import Point, label_points, scale_cost
from src.figures.style import FAINT, INK, PAPER, WIDTH, label_ends, side_by_side, style, svg

# From Okabe and Ito's palette, the yellows darkened so that a label can be read on white.
ARMS = {
    "baseline": ("#57606a", "s"),
    "depth": ("#0072b2", "^"),
    "width": ("#b87a00", "v"),
    "resolution": ("#009e73", "D"),
    "compound": ("#d55e00", "o"),
}
REFERENCES = [
    (colour, marker) for marker, colour in product(("P", "X", "p", "h"), ("#cc79a7", "#3d8fc4", "#8a7f00", "#7b4fb5"))
]
COSTS = {  # column: label of the axis, and what a unit of it holds
    "multiply_adds": ("multiply-adds per image, millions", 1e6),
    "parameters": ("parameters, millions", 1e6),
    "seconds": ("training seconds per seed", 1.0),
}
ACCURACIES = LinearSegmentedColormap.from_list("accuracies", ["#d7e9f5", "#0072b2", "#00223a"], N=40)
CURVES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)  # values of alpha whose curve on the surface is drawn
MANY = 40  # candidates; of more, the dots bear no numbers


def _looks(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each arm."""
    others = [arm for arm in arms if arm not in ARMS]
    return ARMS | {arm: REFERENCES[place % len(REFERENCES)] for place, arm in enumerate(others)}


@style()
def accuracy_by_cost(rows: pd.DataFrame, *, width: float = WIDTH) -> str:
    """Accuracy of each arm against multiply-adds, parameters and training seconds, with a standard deviation each way.

    Args:
        rows: columns arm, accuracy, accuracy_std (fractions), multiply_adds, parameters, seconds, seconds_std; missing
            values are not drawn.
    """
    looks = _looks(list(rows["arm"]))
    down, across = side_by_side(len(COSTS), width)
    figure = Figure(figsize=(width, 4.0 if down == 1 else 2.8 * down), layout="constrained")
    panels = figure.subplots(down, across, sharey=True)
    drawn = []
    for axes, (column, (label, unit)) in zip(panels, COSTS.items(), strict=True):
        known = rows[rows[column].notna()]
        points = [_point(row, column, unit) for row in known.to_dict("records")]
        for point in points:
            colour, marker = looks[point.key]
            bars: dict[str, Any] = {
                "xerr": point.x_error or None,
                "yerr": point.y_error or None,
                "capsize": 3,
                "elinewidth": 1.2,
            }
            axes.errorbar(point.x, point.y, fmt=marker, color=colour, markersize=7, **bars)
        axes.set_xlabel(label)
        axes.grid(visible=True)
        scale_cost(axes, points)
        drawn.append((axes, points))
    panels[0].margins(y=0.12)
    for axes in panels[:down]:
        axes.set_ylabel("test accuracy, %")
    figure.draw_without_rendering()  # now the layout is known, and what lies beside what
    for axes, points in drawn:
        label_points(axes, points, {arm: colour for arm, (colour, _) in looks.items()})
    return svg(figure)


def _point(row: Mapping[Any, Any], column: str, unit: float) -> Point:
    errors = {"x_error": row.get(f"{column}_std", 0.0) / unit, "y_error": 100 * row["accuracy_std"]}
    known = {name: 0.0 if np.isnan(value) else value for name, value in errors.items()}
    return Point(name=_short(row["arm"]), key=str(row["arm"]), x=row[column] / unit, y=100 * row["accuracy"], **known)


def _short(arm: str) -> str:
    return arm.removeprefix("efficientnet_")


@style()
def training_curves(curves: Mapping[str, pd.DataFrame], *, width: float = WIDTH) -> str:
    """Training loss and validation accuracy of each arm by epoch, the mean over seeds, and each seed faintly.

    Args:
        curves: by arm, columns seed, epoch, train_loss (nats), val_accuracy (fraction).
    """
    looks = _looks(list(curves))
    height = max(3.6, 0.2 * len(curves) + 1.0)
    down, across = side_by_side(2, width)
    figure = Figure(figsize=(width, height * down), layout="constrained")
    quantities = {"train_loss": ("training loss, nats", 1), "val_accuracy": ("validation accuracy, %", 100)}
    for axes, (column, (label, scale)) in zip(figure.subplots(down, across), quantities.items(), strict=True):
        for arm, rows in curves.items():
            colour, seeds = looks[arm][0], rows.groupby("seed")
            for _, one in seeds:
                axes.plot(one["epoch"], scale * one[column], color=colour, linewidth=0.8, alpha=0.3, label="_seed")
            mean = scale * rows.groupby("epoch")[column].mean()
            dots = "." if len(mean) == 1 else None
            axes.plot(mean.index, mean, color=colour, linewidth=2, marker=dots, label=_short(arm))
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
        label_ends(axes, gap=0.2 / height)
    return svg(figure)


@style()
def constraint_surface(
    candidates: pd.DataFrame, chosen: int | None, paper: tuple[float, float, float], *, width: float = WIDTH
) -> str:
    """The surface alpha * beta^2 * gamma^2 = 2 seen along alpha, whose curves of equal alpha are drawn, and candidates.

    Args:
        candidates: columns alpha, beta, gamma, val_accuracy (fraction; missing where none was trained).
        chosen: index of the row to mark.
        paper: alpha, beta, gamma of the paper.
    """
    figure = Figure(figsize=(width, 5.4), layout="constrained")
    axes = figure.subplots()
    _draw_surface(axes)
    shown = _side_by_side(candidates)
    trained = bool(candidates["val_accuracy"].notna().any())
    colours: dict[str, Any] = (
        {"c": 100 * shown["val_accuracy"], "cmap": ACCURACIES} if trained else {"facecolors": PAPER}
    )
    size = 95 if len(shown) <= MANY else 30
    dots = axes.scatter(shown["across"], shown["gamma"], s=size, edgecolors=FAINT, linewidths=1, zorder=3, **colours)
    if trained:
        side = "right" if width == WIDTH else "bottom"
        bar = figure.colorbar(dots, ax=axes, label="validation accuracy, %", aspect=30, pad=0.01, location=side)
        bar.outline.set_visible(False)
    if len(shown) <= MANY:
        for row in shown.to_dict("records"):
            axes.annotate(f"{row['alpha']:g}", (row["across"], row["gamma"]), (0, 8), **_BESIDE_A_DOT)
    if chosen is not None:
        place, colour = (shown["across"][chosen], shown["gamma"][chosen]), ARMS["compound"][0]
        axes.scatter(place[0], place[1], s=2.7 * size, facecolors="none", edgecolors=colour, linewidths=2)
        below = _BESIDE_A_DOT | {"va": "top", "color": colour, "weight": "bold"}
        axes.annotate("chosen", place, (0, -10), **below)
    axes.plot(paper[1], paper[2], "*", color=INK, markersize=15, zorder=4)
    blank = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
    right = _BESIDE_A_DOT | {"ha": "left", "va": "center", "bbox": blank}
    axes.annotate(f"{paper[0]:g}, the paper's", (paper[1], paper[2]), (10, 0), **right)
    axes.set(xlabel="β, growth of width", ylabel="γ, growth of resolution")
    return svg(figure)


_BESIDE_A_DOT: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "bottom", "size": 9, "zorder": 5}


def _draw_surface(axes: Axes) -> None:
    """Curves of equal alpha, from the axis of gamma to that of beta."""
    for alpha in CURVES:
        edge = np.sqrt(2 / alpha)  # of beta and gamma
        beta = np.linspace(1, edge, 50)
        axes.plot(beta, edge / beta, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        text = f"α = {alpha:g}" if alpha == CURVES[0] else f"{alpha:g}"
        axes.annotate(text, (edge, 1), (0, -6), **(_BESIDE_A_DOT | {"va": "top", "color": "#57606a"}))


def _side_by_side(candidates: pd.DataFrame) -> pd.DataFrame:
    """Candidates with a column `across`: beta, moved apart where others have the same beta and gamma."""
    groups = candidates.sort_values("alpha").groupby(["beta", "gamma"])["alpha"]
    betas = np.unique(candidates["beta"])
    step = min(np.diff(betas).min(), 0.1) if len(betas) > 1 else 0.1
    place, size = groups.cumcount(), groups.transform("size")
    return candidates.assign(across=candidates["beta"] + step * min(0.3, 0.8 / size.max()) * (place - (size - 1) / 2))
