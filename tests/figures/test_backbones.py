"""Figures of the comparison of backbones: equal bytes, every entry named, hollow where it saw other images."""

import warnings
from xml.etree import ElementTree

import pandas as pd
import pytest

from src.figures import backbones

TEXT = "{http://www.w3.org/2000/svg}text"


def rows(count: int = 6, *, imagenet: bool = True) -> pd.DataFrame:
    """Two networks by turns, at several resolutions; all cost and reach more than the one before."""
    made = []
    for place in range(count):
        share = 0.5 + 0.4 * place / max(count - 1, 1)
        made.append(
            {
                **{
                    "key": f"entry_{place}",
                    "network": f"net{place % 2}",
                    "label": f"net{place % 2}",
                    "imagenet": imagenet,
                },
                **{"resolution": 32 * (place + 1), "accuracy": share, "low": share - 0.02, "high": share + 0.01},
                **{"multiply_adds": 3e6 * 3**place, "seconds": 0.4 * 2**place},
            }
        )
    return pd.DataFrame(made)


def texts(svg: str) -> list[str]:
    return [str(element.text) for element in ElementTree.fromstring(svg).iter(TEXT)]


@pytest.mark.parametrize("column", backbones.COSTS)
def test_every_entry_is_named_once_and_equal_input_gives_equal_bytes(column: str) -> None:
    svg = backbones.accuracy_by_cost(rows(), column, ["entry_0", "entry_3"])
    assert sorted(text for text in texts(svg) if text.startswith("entry_")) == [f"entry_{i}" for i in range(6)]
    assert backbones.COSTS[column][0] in texts(svg)
    assert backbones.accuracy_by_cost(rows(), column, ["entry_0", "entry_3"]) == svg
    assert backbones.accuracy_by_cost(rows(), column, ["entry_0"]) != svg, "the front is drawn"


def test_marks_are_hollow_where_weights_saw_other_images() -> None:
    full, hollow = (backbones.accuracy_by_cost(rows(imagenet=seen), "seconds", ["entry_0"]) for seen in (True, False))
    assert "fill: #ffffff; stroke: #0072b2" in hollow
    assert "fill: #ffffff; stroke: #0072b2" not in full


def test_a_network_is_a_line_over_its_resolutions() -> None:
    found = texts(backbones.accuracy_by_resolution(rows()))
    assert {"net0", "net1", "32", "64", "96", "128", "160", "192"} <= set(found)


def test_one_entry_and_many_are_drawn_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for count in (1, 30):
            backbones.accuracy_by_cost(rows(count), "multiply_adds", ["entry_0"])
            backbones.accuracy_by_resolution(rows(count))
