"""The reliability diagram: its texts as text, its points where they belong, and equal input gives equal bytes."""

import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from src.evidence.calibration import reliability_bins
from src.figures.calibration import reliability_diagrams

SVG = "{http://www.w3.org/2000/svg}"


def bins(images=300, seed=0):
    generator = np.random.default_rng(seed)
    stated = 0.5 + 0.5 * generator.random(images)
    return reliability_bins(stated, generator.random(images) < stated)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def marks(svg):
    """Places (x, y) of the points, in points from the upper left."""
    uses = [
        use for use in ElementTree.fromstring(svg).iter(f"{SVG}use") if re.search("fill: #0072b2", use.get("style", ""))
    ]
    return [(float(use.get("x")), float(use.get("y"))) for use in uses]


def test_methods_and_labels_are_texts_and_equal_input_gives_equal_bytes():
    charts = {"frozen": {"as trained": bins(), "temperature 0.61": bins(seed=1)}, "finetuned": {"as trained": bins()}}
    svg = reliability_diagrams(charts)
    found = texts(svg)
    assert {"frozen", "fine-tuned", "● temperature 0.61", "confidence, %", "test accuracy, %"} <= set(found)
    assert found.count("● as trained") == 2
    assert reliability_diagrams(charts) == svg


def test_a_point_is_as_far_right_as_it_says_and_as_high_as_it_is_right():
    rows = pd.DataFrame({"confidence": [0.5, 0.7, 0.9], "accuracy": [0.5, 0.9, 0.6], "low": 0.4, "high": 0.95})
    (left, low), (middle, high), (right, between) = marks(reliability_diagrams({"frozen": {"as trained": rows}}))
    assert middle - left == pytest.approx(right - middle)
    assert (low - high) / (low - between) == pytest.approx(4, rel=1e-3)
    assert (low - high) / (right - left) == pytest.approx(1, rel=1e-3)  # both scales are the same


@pytest.mark.parametrize("images", [1, 300])
def test_one_image_and_names_of_any_kind_are_drawn_without_a_warning(images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = texts(reliability_diagrams({"frozen": {"$x_1$ <b>&</b> 名前": bins(images)}}))
    assert "● $x_1$ <b>&</b> 名前" in found
