"""Figures: they hold the texts they should as text, equal input gives equal bytes, and no name breaks them."""

import warnings
from functools import cache
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest

from src.figures import transfer


def bars():
    rows = {"method": ["untrained", "frozen", "finetuned"], "label": ["Untrained", "Frozen", "Tuned"]}
    rows |= {"accuracy": [0.1, 0.7, 0.8], "low": [0.09, 0.68, 0.79], "high": [0.11, 0.72, 1.0]}
    return pd.DataFrame(rows | {"text": ["10.0 %", "70.0 %", "80.0 %"]})


def curve(epochs=3, **more):
    epoch = np.arange(1, epochs + 1)
    columns = {f"{split}_{what}": epoch / 10 for split in ("train", "val") for what in ("accuracy", "loss")}
    return pd.DataFrame({"epoch": epoch, **columns, "head_lr": 0.1 / epoch, **more})


def per_class(names, low=0.2):
    return pd.DataFrame({"class": names, "accuracy": low + 0.1, "low": low, "high": low + 0.3})


def trials(count):
    rows = [
        {"trial": i, "val_accuracy": 0.5 + i / 100, "learning_rate": 10.0**-i, "optimizer": "adamw"}
        for i in range(count)
    ]
    return pd.DataFrame(rows)


def figures(names=("cat", "dog")):
    matrix = np.array([[8, 2], [0, 0]])
    search = pd.concat([curve().assign(trial=i) for i in range(3)])
    return {
        "accuracy_bars": lambda: transfer.accuracy_bars(bars(), 0.1),
        "learning_curves": lambda: transfer.learning_curves(
            {"frozen": curve(), "finetuned": curve(5, backbone_lr=0.001)}, {"frozen": 2, "finetuned": 5}
        ),
        "confusion_matrices": lambda: transfer.confusion_matrices({"frozen": matrix, "finetuned": matrix.T}, names),
        "class_ranges": lambda: transfer.class_ranges({"frozen": per_class(names), "finetuned": per_class(names, 0.5)}),
        "search_curves": lambda: transfer.search_curves(search, 1),
        "search_values": lambda: transfer.search_values(trials(3), {"optimizer": 0.6, "learning_rate": 0.4}, 2),
    }


@cache
def drawn(name):
    """One of `figures`, drawn once for all tests that only look at it."""
    return figures()[name]()


def test_of_many_blocks_the_rates_of_the_head_and_of_the_lowest_are_named():
    blocks = {f"features.{depth}_lr": 0.1 ** (9 - depth) for depth in (8, 4, 0)}
    found = texts(transfer.learning_curves({"finetuned": curve(**blocks)}, {"finetuned": 2}))
    assert {"head", "features.0"} <= set(found)
    assert not {"features.8", "features.4"} & set(found)


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", figures())
def test_equal_input_gives_equal_bytes_whatever_a_person_prefers_whose_settings_stay(name):
    first = drawn(name)
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "pink", "lines.linewidth": 9}):
        before = dict(matplotlib.rcParams)
        assert figures()[name]() == first
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", figures())
def test_figures_carry_no_date_and_no_maker(name):
    svg = drawn(name)
    assert "metadata" not in svg
    assert matplotlib.__version__ not in svg


def test_bars_say_their_numbers():
    assert {"Untrained", "Tuned", "70.0 %", "80.0 %", "chance 10.0 %"} <= set(texts(drawn("accuracy_bars")))


def test_curves_are_labelled_at_their_ends():
    found = texts(drawn("learning_curves"))
    assert [found.count(text) for text in ("train", "validation", "head", "backbone")] == [4, 4, 2, 1]


def test_learning_rates_are_written_as_numbers():
    found = texts(drawn("learning_curves"))
    assert {"1e−03", "1e−02", "1e−01"} <= set(found)
    assert not [text for text in found if "math" in text]


def test_confusion_is_per_cent_of_the_actual_class_and_an_absent_class_is_blank():
    svg = transfer.confusion_matrices(
        {"frozen": np.array([[3, 1], [0, 0]]), "finetuned": np.eye(2, dtype=int)}, ["a", "b"]
    )
    assert sorted(text for text in texts(svg) if text.isdigit()) == ["100", "100", "25", "75"]


def test_a_constant_learning_rate_still_has_a_number_and_one_that_ends_at_zero_a_label():
    flat = curve().assign(head_lr=[5e-4, 5e-4, 4.9e-4])
    ending = curve(backbone_lr=[0.1, 0.05, 0.0])
    found = texts(transfer.learning_curves({"frozen": flat}, {"frozen": 1}))
    assert [text for text in found if text.endswith("e−04")]
    svg = transfer.learning_curves({"finetuned": ending}, {"finetuned": 1})
    label = next(
        e for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") if e.text == "backbone"
    )
    assert 0 < float(label.get("y") or label.get("transform").split()[-1].strip(")")) < 520


def test_search_shows_each_parameter_with_its_importance_and_values():
    found = texts(drawn("search_values"))
    assert {"optimizer · 60 %", "learning rate · 40 %", "adamw", "1", "0.1", "0.01"} <= set(found)


def test_one_epoch_and_one_trial_are_enough():
    single = {"frozen": curve(1), "finetuned": curve(1, backbone_lr=0.1)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transfer.learning_curves(single, {"frozen": 1, "finetuned": 1})
        transfer.search_curves(curve(1).assign(trial=0), 0)
        transfer.search_values(trials(1), {"optimizer": 0.0, "learning_rate": 0.0}, 0)


def test_class_names_of_any_kind_are_drawn_as_they_are_without_a_warning():
    names = ("$x_1$ <b>&</b>", "名前", "bell\x07", "l" * 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = texts(transfer.class_ranges({"frozen": per_class(names), "finetuned": per_class(names)}))
        matrices = texts(
            transfer.confusion_matrices(dict.fromkeys(("frozen", "finetuned"), np.eye(4, dtype=int)), names)
        )
    assert {"$x_1$ <b>&</b>", "名前", "bell ", "l" * 31 + "…"} <= set(found)
    assert {"$x_1$ <b>&</b>", "名前", "bell ", "l" * 13 + "…"} <= set(matrices)
