"""Figures of a comparison of experiments: each is named once in a chart, and equal input gives equal bytes."""

from xml.etree import ElementTree

import pandas as pd

from src.figures import experiments

TEXT = "{http://www.w3.org/2000/svg}text"


def texts(svg: str) -> list[str]:
    return [str(element.text) for element in ElementTree.fromstring(svg).iter(TEXT)]


def curve(start: float) -> pd.DataFrame:
    return pd.DataFrame(
        {"epoch": [1, 2, 3], **{column: [start, start + 0.1, start + 0.2] for column in experiments.ROWS}}
    )


def test_curves_of_all_experiments_are_in_one_chart_and_each_side_is_named_once() -> None:
    sides = {"cold": [{"finetune": curve(0.1)}, {"finetune": curve(0.2)}], "$hot$": [{"finetune": curve(0.3)}]}
    svg = experiments.curves(sides)
    found = texts(svg)
    assert [found.count(name) for name in sides] == [3, 3]
    assert "whole network" in found
    assert "head on the frozen backbone" not in found
    assert svg == experiments.curves(sides)


def test_differences_are_written_beside_their_bars_around_nothing() -> None:
    rows = pd.DataFrame(
        {"label": ["a: frozen", "b: frozen"], "side": ["a", "b"], "difference": [0.02, -0.01], "low": [-0.01, -0.05]}
        | {"high": [0.04, 0.03], "text": ["+2.0 [-1.0, +4.0]", "-1.0 [-5.0, +3.0]"]}
    )
    svg = experiments.differences(rows)
    assert {*rows["label"], *rows["text"], "difference in test accuracy, points"} <= set(texts(svg))
    assert svg == experiments.differences(rows)


def test_no_difference_at_all_can_be_drawn() -> None:
    rows = pd.DataFrame(
        {"label": ["a"], "side": ["a"], "difference": [0.0], "low": [0.0], "high": [0.0], "text": ["0"]}
    )
    assert "a" in texts(experiments.differences(rows))
