"""Small images with words below them, as a sheet. T x T pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.figures.style import FAINT, WIDTH, shortened, style, svg

GAP = 0.04  # between the images of a row, as a share of one's side
LETTERS = 22  # of a line, at most, for an image of an inch


@style()
def sheet(images: NDArray[np.uint8], lines: Sequence[Sequence[str]], columns: int, *, width: float = WIDTH) -> str:
    """Groups of images, `columns` of them in a row, and fewer on a telephone, each with its lines of text below.

    Args:
        images: (G, n, T, T, 3): groups of n images side by side.
        lines: of each group.
    """
    groups, beside = images.shape[:2]
    columns = max(1, round(columns * width / WIDTH))
    rows, room = -(-groups // columns), width / columns
    side = (room - 0.15) / beside / (1 + GAP)  # inches of an image, of which none is larger than an inch
    side, depth = min(1.0, side), max(map(len, lines))
    height = side + 0.17 * depth + 0.2
    figure = Figure(figsize=(width, rows * height))
    for number, (group, words) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(number, columns)
        top = 1 - row / rows
        for place, image in enumerate(group):
            left = column * room + place * side * (1 + GAP)
            axes = figure.add_axes((left / width, top - side / (rows * height), side / width, side / (rows * height)))
            axes.imshow(image, interpolation="none")
            axes.set_axis_off()
        for line, word in enumerate(words):
            look: dict[str, Any] = {"size": 8, "va": "top", "color": None if line == 0 else FAINT}
            below = top - (side + 0.05 + 0.17 * line) / (rows * height)
            letters = round(LETTERS * beside * side) if beside * side > 0.6 else LETTERS
            figure.text(column * room / width, below, shortened(word, letters), **look)
    return svg(figure)
