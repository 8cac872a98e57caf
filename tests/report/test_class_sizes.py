"""Where classes differ in size, scores that count each alike come first, and the class that lacks images is named."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from src.base.proportions import wilson_interval
from src.report import class_sizes, contents
from src.report.study import Study
from tests.builders.report import NAMES, plain, study, undrawn


@cache
def base() -> Study:
    made: Study = study()
    return made


def sized(sizes: list[int], tested: list[int] | None = None, **settings: object) -> Study:
    """With so many training images of each class, and so many of test, as the tables have them."""
    made = base()
    labels = torch.repeat_interleave(torch.arange(len(NAMES)), torch.tensor(sizes))
    classes = made.assessed.classes
    if tested is not None:
        classes = classes.assign(images=[*tested] * (len(classes) // len(tested)))
    return replace(
        made,
        images=replace(made.images, labels=labels),
        assessed=replace(made.assessed, classes=classes),
        settings={**made.settings, **settings},
    )


EQUAL, TWICE = [120] * 10, [100] * 9 + [200]


def test_classes_of_up_to_twice_the_size_leave_accuracy_in_front() -> None:
    assert class_sizes.in_front(sized(EQUAL)) == []
    assert class_sizes.in_front(sized(TWICE)) == []


def test_of_larger_ones_balanced_accuracy_comes_first_on_the_page() -> None:
    made = sized([100] * 9 + [201])
    (text,) = class_sizes.in_front(made)
    rows = made.answers.test
    for method in ("frozen", "finetuned"):
        score = balanced_accuracy_score(rows["actual"], rows[method])
        assert f"{100 * score:.1f} % [" in plain(text)
    assert "truck has 201 training images, airplane 100" in text
    assert text.endswith("class_weights=balanced trains them so.")
    assert "class_weights" not in class_sizes.in_front(sized([100] * 9 + [201], class_weights="balanced"))[0]
    with undrawn():
        assert contents.report(made).lead[0] == text


@pytest.mark.parametrize("images", [1, 16, 99])
def test_the_class_with_the_fewest_images_is_named_with_how_little_is_known_of_it(images: int) -> None:
    low, high = wilson_interval(images // 2, images)
    (text,) = class_sizes.lacking(sized([120] * 7 + [110] + [120] * 2, [200] * 7 + [images] + [200] * 2))
    assert plain(text) == (
        f"horse has the fewest images, 110 to train on and {images} in test, by which its own accuracy is known to "
        f"±{50 * (high - low):.0f} points at worst."
    )


def test_a_class_without_test_images_is_known_nothing_of_and_many_images_need_no_word() -> None:
    (text,) = class_sizes.lacking(sized([1] + [120] * 9, [0] + [200] * 9))
    assert text == (
        "airplane has the fewest images, 1 to train on and none in test: of its own accuracy nothing is known."
    )
    (text,) = class_sizes.lacking(sized([110] + [120] * 9, [500] * 9 + [0]))
    assert text == (
        "airplane has the fewest images, 110 to train on; truck has the fewest in test, none: of its own accuracy "
        "nothing is known."
    )
    (text,) = class_sizes.lacking(sized([110] + [120] * 9, [500] * 9 + [3]))
    assert "; truck has the fewest in test, 3, by which its own accuracy is known to ±" in text
    (text,) = class_sizes.lacking(sized(EQUAL, [50] * 10))
    assert text.startswith(f"Each class has {EQUAL[0]} images to train on and 50 in test, by which its own accuracy is")
    (text,) = class_sizes.lacking(sized([110] * 3 + [120] * 7, [60] * 3 + [200] * 7))
    assert text.startswith("airplane and 2 more have the fewest images, 110 to train on and 60 in test, by which")
    assert class_sizes.lacking(sized(EQUAL, [100] * 10)) == []
    assert len(class_sizes.lacking(sized([500] * 9 + [100], [100] * 10))) == 1
