"""Names beside the marks of a chart, where they cover least, and the scale of its costs. A mark is a point in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from src.figures.style import FAINT

LETTER, LINE, BESIDE = 5.6, 12.0, 9.0  # points: of a letter and a line of a label, and from it to its mark

Box = tuple[float, float, float, float]  # left, right, bottom, top


@dataclass(frozen=True, kw_only=True)
class Point:
    """A mark: its name for readers, the key of its colour, and how far its bars reach each way."""

    name: str
    key: str
    x: float
    y: float
    x_error: float = 0.0
    y_error: float = 0.0


def scale_cost(axes: Axes, points: Sequence[Point]) -> None:
    """From 0 where the costs are of one size, else logarithmic; no bar leaves the chart."""
    values, reach = [point.x for point in points], max((point.x + point.x_error for point in points), default=0.0)
    if not values:
        axes.xaxis.set_major_locator(NullLocator())
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=FAINT)
    elif max(values) < 8 * min(values):
        axes.set_xlim(min([0.0, *(1.05 * (point.x - point.x_error) for point in points)]), 1.2 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    else:
        axes.set_xscale("log")
        axes.margins(x=0.15)
        span = max(values) / min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 30 else (1, 3) if span < 300 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def label_points(axes: Axes, points: Sequence[Point], colours: Mapping[str, str]) -> None:
    """Write each point's name beside it, joined by a line where that is not next to it."""
    if not points:
        return
    scale = 72 / axes.figure.dpi  # points of typography per pixel
    extent = axes.get_window_extent()
    left, right = scale * extent.x0, scale * extent.x1
    centres, ends = (
        scale * axes.transData.transform(np.array([(p.x + n * p.x_error, p.y + n * p.y_error) for p in points]))
        for n in (0, 1)
    )
    errors = ends - centres
    marks = [
        _box(x, y, *size)
        for (x, y), (along, up) in zip(centres, errors, strict=True)
        for size in ((10, 10), (6, 2 * up), (2 * along, 6))
    ]
    sizes = [LETTER * len(point.name) for point in points]
    gaps = [BESIDE + along for along in errors[:, 0]]
    places = _free_places(centres, gaps, sizes, marks, (left, right))
    for point, gap, (side, up) in zip(points, gaps, places, strict=True):
        colour = colours[point.key]
        axes.annotate(
            point.name,
            xy=(point.x, point.y),
            xytext=(gap * side, up),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            size=9,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7} if abs(up) >= LINE else None,
        ).set_in_layout(False)


def _free_places(
    centres: NDArray[np.float64],
    gaps: Sequence[float],
    widths: Sequence[float],
    marks: Sequence[Box],
    ends: tuple[float, float],
) -> list[tuple[int, float]]:
    """For each point the side (1: right, -1: left) and the height above it at which its label covers least.

    Args:
        centres: of the points, (points, 2); all lengths in points of typography.
        gaps: between a point and its label.
        widths: of the labels.
        marks: boxes that labels had better not cover.
        ends: left and right one of the chart.
    """
    heights = [0.0, *(sign * LINE * step / 2 for step in range(1, 17) for sign in (1, -1))]
    places, taken = [(1, 0.0)] * len(centres), list[Box]()
    for number in sorted(range(len(centres)), key=lambda i: -centres[i][1]):
        (x, y), gap, width = centres[number], gaps[number], widths[number]
        inwards = 1 if x < sum(ends) / 2 else -1
        choices = {
            (side, up): _box(x + side * (gap + width / 2), y + up, width, LINE)
            for up in heights
            for side in (inwards, -inwards)
        }
        costs = {
            choice: 10 * max(0.0, ends[0] - box[0], box[1] - ends[1])
            + 9 * sum(_overlap(box, other) for other in taken)
            + sum(_overlap(box, mark) for mark in marks)
            + 4 * abs(choice[1])
            for choice, box in choices.items()
        }
        places[number] = min(costs, key=costs.__getitem__)
        taken.append(choices[places[number]])
    return places


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, x + width / 2, y - height / 2, y + height / 2


def _overlap(first: Box, second: Box) -> float:
    """Area that both cover."""
    across = min(first[1], second[1]) - max(first[0], second[0])
    return max(0.0, across) * max(0.0, min(first[3], second[3]) - max(first[2], second[2]))
