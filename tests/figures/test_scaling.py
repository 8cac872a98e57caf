"""The figures on scaling: each chart names every arm, no name hides another, equal input gives equal bytes."""

import re
import warnings
from collections import Counter
from functools import cache, partial
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from src.figures import scaling
from src.figures.labels import Point, scale_cost
from src.figures.style import both

ARMS = ("baseline", "depth", "width", "resolution", "compound")
MANY = (*ARMS, "small_cnn", "resnet50", "resnet152", "densenet201", "efficientnet_b0", "efficientnet_pico")
PAPER = (1.2, 1.1, 1.15)
TEXT = "{http://www.w3.org/2000/svg}text"


def costs(arms=ARMS, *, accuracies=None, spread=0.01, wide=False):
    """The first arm costs 30 million multiply-adds and the others four times as many; `wide`: ever more."""
    count = len(arms)
    rows = {"arm": arms, "accuracy": np.linspace(0.5, 0.6, count) if accuracies is None else accuracies}
    rows["multiply_adds"] = 3e7 * (2.0 ** np.arange(count) if wide else np.array([1.0] + [4.0] * (count - 1)))
    rows["parameters"] = 4e6 * np.linspace(1, 3, count)
    rows["seconds"] = 100 * np.linspace(1, 5, count)
    return pd.DataFrame(rows).assign(accuracy_std=spread, seconds_std=10 * spread)


def curves(arms=ARMS, *, seeds=(0, 1), epochs=3):
    epoch = np.arange(1, epochs + 1)
    return {
        arm: pd.concat(
            pd.DataFrame(
                {"seed": seed, "epoch": epoch, "train_loss": 2 / epoch, "val_accuracy": 0.5 + 0.01 * epoch * seed}
            )
            for seed in seeds
        )
        for arm in arms
    }


def candidates(*, trained=True):
    rows = [(1.9, 1.0, 1.0), (2.0, 1.0, 1.0), (1.6, 1.0, 1.1), (1.2, 1.2, 1.1), (1.0, 1.4, 1.0)]
    frame = pd.DataFrame(rows, columns=["alpha", "beta", "gamma"])
    return frame.assign(val_accuracy=[0.4, 0.41, 0.42, 0.43, 0.39] if trained else np.nan)


FIGURES = {
    "accuracy_by_cost": lambda: scaling.accuracy_by_cost(costs()),
    "training_curves": lambda: scaling.training_curves(curves()),
    "constraint_surface": lambda: scaling.constraint_surface(candidates(), 3, PAPER),
    "untrained": lambda: scaling.constraint_surface(candidates(trained=False), None, PAPER),
}


OTHERS = {
    "many": lambda: scaling.accuracy_by_cost(costs(MANY, wide=True)),
    "curves of one seed": lambda: scaling.training_curves(curves(seeds=(1,))),
    "many curves": lambda: scaling.training_curves(curves(MANY, seeds=(1,))),
    "one arm": lambda: scaling.accuracy_by_cost(costs(("small_cnn",))),
    "one arm's curves": lambda: scaling.training_curves(curves(("small_cnn",))),
}


@cache
def drawn(name):
    """A figure, drawn once for all tests that only look at it."""
    return (FIGURES | OTHERS)[name]()


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(TEXT)]


def label_boxes(svg, names):
    """left, right, bottom, top of each text among `names`, as wide as DejaVu Sans draws it at most."""
    boxes = []
    for element in ElementTree.fromstring(svg).iter(TEXT):
        if element.text in names:
            x, y = map(float, re.findall(r"-?[\d.]+", element.get("transform"))[-2:])
            anchor = re.search(r"text-anchor: (\w+)", element.get("style"))
            width = 5.4 * len(element.text)
            left = x - width if anchor and anchor[1] == "end" else x
            boxes.append((left, left + width, y - 7, y))
    return boxes


def cover(first, second):
    return first[0] < second[1] and second[0] < first[1] and first[2] < second[3] and second[2] < first[3]


@pytest.mark.parametrize("name", FIGURES)
def test_equal_input_gives_equal_bytes_whatever_a_person_prefers(name):
    first = drawn(name)
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "pink", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert FIGURES[name]() == first
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", FIGURES)
def test_figures_load_nothing_and_carry_no_date(name):
    svg = drawn(name)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', svg))
    assert "<image" not in svg
    assert "metadata" not in svg


@pytest.mark.parametrize(
    ("by_cost", "by_epoch", "arms"),
    [
        ("accuracy_by_cost", "training_curves", ARMS),
        ("many", "many curves", MANY),
        ("one arm", "one arm's curves", ("small_cnn",)),
    ],
)
def test_every_arm_is_named_in_every_chart(by_cost, by_epoch, arms):
    names = [arm.removeprefix("efficientnet_") for arm in arms]
    by_cost, by_epoch = Counter(texts(drawn(by_cost))), Counter(texts(drawn(by_epoch)))
    assert [by_cost[name] for name in names] == [3] * len(arms)
    assert [by_epoch[name] for name in names] == [2] * len(arms)


@pytest.mark.parametrize(
    "accuracies", [None, [0.5] * 5, [0.5, 0.6, 0.6, 0.601, 0.602]], ids=["apart", "equal", "close"]
)
def test_no_name_hides_another_and_all_are_on_the_page(accuracies):
    svg = scaling.accuracy_by_cost(costs(accuracies=accuracies)) if accuracies else drawn("accuracy_by_cost")
    width, height = (float(value) for value in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    boxes = label_boxes(svg, ARMS)
    assert len(boxes) == 15
    assert not [pair for pair in combinations(boxes, 2) if cover(*pair)]
    assert all(left > 0 and right < width and bottom > 0 and top < height for left, right, bottom, top in boxes)


@pytest.mark.parametrize(("name", "arms"), [("curves of one seed", ARMS), ("many curves", MANY)])
def test_names_at_the_ends_of_equal_curves_stay_beside_the_chart(name, arms):
    svg = drawn(name)  # all end at the foot, and at the top
    height = float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1])
    places = [
        float(element.get("y") or re.findall(r"-?[\d.]+", element.get("transform"))[-1])
        for element in ElementTree.fromstring(svg).iter(TEXT)
        if element.text in [arm.removeprefix("efficientnet_") for arm in arms]
    ]
    assert all(5 < place < height - 20 for place in places)
    for panel in (places[: len(arms)], places[len(arms) :]):
        assert np.diff(sorted(panel)).min() > 8


def test_error_bars_are_drawn_where_there_is_a_spread():
    with_bars, without = drawn("accuracy_by_cost"), scaling.accuracy_by_cost(costs(spread=np.nan))
    assert with_bars.count('id="LineCollection') == 15 + 5  # up and down in all charts, and the seconds' own
    assert without.count('id="LineCollection') == 0


def test_costs_that_were_not_measured_are_said_not_to_be():
    found = texts(scaling.accuracy_by_cost(costs().assign(seconds=np.nan)))
    assert "not measured" in found
    assert found.count("compound") == 2


def test_the_surface_names_each_candidates_alpha_the_chosen_one_and_the_papers():
    found = Counter(texts(drawn("constraint_surface")))
    assert all(found[alpha] >= 1 for alpha in ("1.9", "2", "1.6", "1.2", "1"))
    assert found["chosen"] == found["1.2, the paper's"] == found["validation accuracy, %"] == 1
    untrained = texts(drawn("untrained"))
    assert not {"chosen", "validation accuracy, %"} & set(untrained)
    assert "1.2, the paper's" in untrained


def test_the_dashed_curves_lie_on_the_surface():
    """Of the one for alpha 1, both ends: beta is sqrt(2) where gamma is 1, and the other way round."""
    svg = drawn("constraint_surface")
    dashed = re.findall(r'<path d="([^"]*)"[^>]*stroke-dasharray', svg)
    curve = np.array(
        [[float(number) for number in point.split()] for point in re.findall(r"[ML] ([\d.]+ [\d.]+)", dashed[0])]
    )
    across = (curve[:, 0] - curve[0, 0]) / (curve[-1, 0] - curve[0, 0])
    up = (curve[:, 1] - curve[-1, 1]) / (curve[0, 1] - curve[-1, 1])
    beta, gamma = 1 + across * (np.sqrt(2) - 1), 1 + up * (np.sqrt(2) - 1)
    assert len(dashed) == len(scaling.CURVES)
    assert beta**2 * gamma**2 == pytest.approx(2, abs=1e-4)


def test_candidates_of_equal_width_and_resolution_stand_side_by_side():
    moved = scaling._side_by_side(candidates())
    assert moved["across"].tolist() == pytest.approx([0.985, 1.015, 1.0, 1.2, 1.4])
    assert not moved.duplicated(["across", "gamma"]).any()


def test_one_arm_one_seed_one_epoch_and_one_candidate_are_enough():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaling.accuracy_by_cost(costs(("depth",), spread=np.nan))
        scaling.training_curves(curves(("depth",), seeds=(3,), epochs=1))
        scaling.constraint_surface(candidates().iloc[:1], 0, PAPER)
        scaling.constraint_surface(candidates(trained=False).iloc[:1], None, PAPER)


def test_no_bar_leaves_a_chart_of_costs():
    axes = Figure().subplots()
    scale_cost(axes, [Point(name="arm", key="arm", x=x, y=50.0, x_error=1.1 * x) for x in (1.0, 1.2)])
    low, high = axes.get_xlim()
    assert low <= -0.1 * 1.2
    assert high >= 2.1 * 1.2


def test_a_figure_for_a_telephone_is_narrower_and_says_the_same():
    drawn = both(partial(scaling.accuracy_by_cost, costs()))
    widths = {name: float(re.findall(r'<svg [^>]*width="([\d.]+)pt"', text)[0]) for name, text in drawn.items()}
    assert widths["narrow"] < widths["svg"] / 2
    for arm in ARMS:
        assert all(f">{arm}<" in text for text in drawn.values())
