"""The figure of a learning-rate range test."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from src.figures.style import FAINT, INK, WIDTH, label_ends, style, svg
from src.figures.transfer import COLOURS


@style()
def range_test(rows: Sequence[Mapping[str, float]], suggested: float) -> str:
    """Training loss by learning rate, each step's and smoothed, and the rate that is suggested.

    Args:
        rows: learning_rate, loss and smoothed (nats), in the order of the rates.
    """
    frame = pd.DataFrame(rows)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(frame["learning_rate"], frame["loss"], ".", color=FAINT, alpha=0.55, label="_steps")
    axes.plot(frame["learning_rate"], frame["smoothed"], color=COLOURS["finetuned"], linewidth=2.2, label="smoothed")
    axes.axvline(suggested, color=INK, linewidth=1, linestyle=(0, (2, 2)), label="_suggested")
    low, high = frame["smoothed"].min(), frame["smoothed"].iloc[: len(frame) // 2 + 1].max()
    room = 0.5 * (high - low) + 0.01  # for the scatter; where the loss diverges, it leaves the chart
    axes.set(xscale="log", xlabel="learning rate of the head", ylabel="training loss, nats")
    axes.set_ylim(max(0.0, low - room), high + room)
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter())
    axes.text(suggested, 0.97, f" {suggested:g}", transform=axes.get_xaxis_transform(), va="top")
    axes.grid(visible=True)
    label_ends(axes)
    return svg(figure)
