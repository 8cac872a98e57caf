"""Figures of a search in rungs say each value, and how many heads go on."""

from xml.etree import ElementTree

import pytest

from src.figures import head_search
from tests.builders.report import halved


@pytest.fixture(scope="module")
def rows():
    return halved(2)[0]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_each_value_has_a_place_and_a_line_and_equal_rows_give_equal_bytes(rows):
    svg = head_search.grid_values(rows, "dropout")
    assert [texts(svg).count(each) for each in ("0.1", "0.2", "0.3", "0.4", "0.5")] == [2] * 5
    assert {"dropout", "rung", "heads with it, %"} <= set(texts(svg))
    assert head_search.grid_values(rows, "dropout") == svg


def test_the_interaction_has_a_cell_for_each_combination_with_its_mean_and_who_goes_on(rows):
    found = texts(head_search.grid_interaction(rows, "weight_decay", "dropout", "optimizer"))
    first, beyond = rows[rows["rung"] == 1], rows[rows["rung"] == 2]
    cells = first.groupby(["optimizer", "dropout", "weight_decay"])["val_accuracy"].mean()
    counts = beyond.groupby(["optimizer", "dropout", "weight_decay"]).size().reindex(cells.index, fill_value=0)
    means = sorted(f"{100 * mean:.1f}" for mean in cells)
    assert sorted(text for text in found if text in set(means)) == means
    assert sorted(text for text in found if text.endswith(" on")) == sorted(f"{count} on" for count in counts)
    assert {"adamw", "sgd"} <= set(found)
