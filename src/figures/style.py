"""How figures of the report look: colours, fonts, direct labels, and SVG whose texts stay text."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers tell apart: https://jfly.uni-koeln.de/color/
INK, FAINT, PAPER = "#24292f", "#8c959f", "#ffffff"
WIDTH, NARROW = 9.0, 4.2  # inches: as the page's column of text, and as that of a telephone
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, and is wide: what fits in it fits in the reader's font
    "text.parse_math": False,  # a class may be called $5
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid.axis": "y",
    "grid.color": "#e4e7eb",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
}
READERS_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, whatever was set before; also a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a person's matplotlibrc says
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]  # its stub wants literal keys
        yield


def svg(figure: Figure) -> str:
    """`figure` as SVG whose texts stay text, without date or maker."""
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the text is written as text: the reader's fonts draw it
        # Figure.savefig lays out by a drawing of its own first, and gives the same bytes.
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(text, metadata=nothing)  # type: ignore[no-untyped-call]
    return text.getvalue().replace("'DejaVu Sans'", READERS_FONT)


class Drawings(TypedDict):
    """The same figure for the page's column of text and for a telephone's."""

    svg: str
    narrow: str


def both(draw: Callable[..., str]) -> Drawings:
    """A figure as `svg` and, drawn again for a telephone, as `narrow`; `draw` takes its width in inches."""
    return {"svg": draw(width=WIDTH), "narrow": draw(width=NARROW)}


def side_by_side(count: int, width: float) -> tuple[int, int]:
    """Rows and columns of `count` charts: side by side in the page's column, one below the other on a telephone."""
    return (1, count) if width == WIDTH else (count, 1)


def shortened(name: object, length: int) -> str:
    """`name` in one line of at most `length` characters that an SVG may hold."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(name))
    return text if len(text) <= length else f"{text[: length - 1]}…"


def label_ends(axes: Axes, gap: float = 0.09) -> None:
    """Write the label of each line of `axes` at its right end, ends at least `gap` of the axes' height apart."""
    axes.get_ylim()  # transData is right only once the limits were asked for
    ends = []
    for line in axes.lines:
        if not str(line.get_label()).startswith("_"):  # matplotlib's mark of a line without label
            point = axes.transData.transform(np.asarray(line.get_xydata())[-1])
            height = axes.transAxes.inverted().transform(point)[1]
            ends.append((float(np.clip(height, 0, 1)), str(line.get_label()), str(line.get_color())))
    heights: list[float] = []
    for height, _, _ in sorted(ends):
        heights.append(max(height, heights[-1] + gap) if heights else height)
    highest = max(1.0, gap * (len(ends) - 1))
    for place in reversed(range(len(heights))):  # back down, where that left the chart
        heights[place] = min(heights[place], highest - gap * (len(heights) - 1 - place))
    for height, (_, text, colour) in zip(heights, sorted(ends), strict=True):
        axes.text(1.02, height, text, transform=axes.transAxes, va="center", color=colour)
