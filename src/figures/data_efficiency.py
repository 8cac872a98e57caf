"""The figure of how accuracy grows with the number of images."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from src.figures.style import FAINT, INK, WIDTH, style, svg

COLOUR = "#0072b2"


@style()
def accuracy_by_images(
    probes: pd.DataFrame,
    rungs: pd.DataFrame,
    line: Sequence[tuple[float, float]],
    measured: float,
    *,
    width: float = WIDTH,
) -> str:
    """Test accuracy by number of training images: each probe, means with intervals, and a law beyond what was measured.

    Args:
        probes: columns images, test_accuracy (fractions).
        rungs: columns images, accuracy, low, high (fractions).
        line: images and accuracy of the law; none where there is no law.
        measured: images up to which there are probes: the line is dashed beyond.
    """
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(probes["images"], 100 * probes["test_accuracy"], ".", color=FAINT, markersize=5, label="_probes")
    errors: NDArray[np.float64] = 100 * np.stack(
        [rungs["accuracy"] - rungs["low"], rungs["high"] - rungs["accuracy"]]
    ).astype(np.float64)
    axes.errorbar(
        *(rungs["images"], 100 * rungs["accuracy"]),
        yerr=errors,
        fmt="o",
        color=COLOUR,
        markersize=6,
        capsize=3,
        elinewidth=1.2,
        label="_means",
    )
    for dashes, part in (
        ("-", [point for point in line if point[0] <= measured]),
        ((0, (4, 3)), [point for point in line if point[0] >= measured]),
    ):
        if part:
            axes.plot(*zip(*((x, 100 * y) for x, y in part), strict=True), color=INK, linewidth=1.1, linestyle=dashes)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace(",", " ")))
    axes.set(xlabel="training images", ylabel="test accuracy, %")
    axes.grid(visible=True)
    return svg(figure)
