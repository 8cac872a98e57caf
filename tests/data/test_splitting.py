"""Splits are stratified, decided by their seed alone, and duplicates are counted exactly."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.base.splits import Split
from src.data import splitting
from src.interface.params import Dataset
from tests.builders.data import dataset

LABELS = torch.arange(10).repeat(100)  # 100 images of each of 10 classes
CLASSES = tuple("abcdefghij")
TEST = torch.arange(10)


def choose(labels: Tensor = LABELS, **changes: Any) -> dict[str, Tensor]:
    classes = CLASSES[: int(labels.max()) + 1]
    chosen = splitting.choose({"train": labels, "test": TEST}, classes, dataset(**changes))
    return {name: rows for name, (_, rows) in chosen.items()}


def test_train_and_val_share_the_images_in_proportion_and_in_their_old_order() -> None:
    rows = choose(val_fraction=0.2)
    assert torch.equal(torch.cat([rows["train"], rows["val"]]).sort().values, torch.arange(1000))
    assert torch.bincount(LABELS[rows["val"]]).tolist() == [20] * 10
    assert torch.bincount(LABELS[rows["train"]]).tolist() == [80] * 10
    assert all(torch.equal(some, some.sort().values) for some in rows.values())
    assert torch.equal(rows["test"], torch.arange(10))


def test_the_split_seed_alone_decides_which_images_are_validation() -> None:
    first = choose(split_seed=3)["val"]
    torch.manual_seed(99)
    for changes in ({}, {"train_limit": 50}, {"image_size": 64}, {"source": "elsewhere"}):
        assert torch.equal(choose(split_seed=3, **changes)["val"], first)
    assert not torch.equal(choose(split_seed=4)["val"], first)


def test_a_larger_limit_and_a_larger_fraction_add_images_and_take_none_away() -> None:
    for key, values in (("train_limit", (10, 11, 57, 300, 750)), ("val_fraction", (0.01, 0.1, 0.11, 0.5))):
        part = "train" if key == "train_limit" else "val"
        kept = [set(choose(**{key: value})[part].tolist()) for value in values]
        assert all(small < large for small, large in pairwise(kept))


COUNTS = {
    "counts": st.lists(st.integers(2, 40), min_size=2, max_size=8),
    "fraction": st.floats(0.001, 0.999),
    "limit": st.integers(2, 300),
    "seed": st.integers(0, 2**32 - 1),
}
ORDERS = {"counts": st.lists(st.integers(5, 60), min_size=2, max_size=6), "seed": st.integers(0, 1000)}
SCENES = {
    "scenes": st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), min_size=9, max_size=60),
    "fraction": st.floats(0.02, 0.6),
    "seed": st.integers(0, 1000),
}
FEW = settings(max_examples=25)  # of the fast tests; the slow ones draw as many as Hypothesis does by default


@FEW
@given(**COUNTS)
def test_every_class_is_in_every_split_and_the_counts_are_exact(
    counts: list[int], fraction: float, limit: int, seed: int
) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    rows = choose(labels, val_fraction=fraction, split_seed=seed)
    expected = min(max(round(fraction * len(labels)), len(counts)), len(labels) - len(counts))
    assert len(rows["val"]) == expected
    for part in ("train", "val"):
        assert torch.bincount(labels[rows[part]], minlength=len(counts)).min() >= 1
    limit = min(max(limit, len(counts)), len(rows["train"]))
    limited = choose(labels, val_fraction=fraction, split_seed=seed, train_limit=limit)
    assert len(limited["train"]) == limit
    assert set(limited["train"].tolist()) <= set(rows["train"].tolist())
    assert torch.bincount(labels[limited["train"]], minlength=len(counts)).min() >= 1


@FEW
@given(**ORDERS)
def test_every_beginning_of_a_stratified_order_holds_the_classes_in_proportion(counts: list[int], seed: int) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = splitting.stratified_order(labels, seed)
    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    for length in range(len(counts), len(labels) - len(counts)):
        found = torch.bincount(labels[order[:length]], minlength=len(counts))
        exact = torch.tensor(counts) * length / len(labels)
        assert (found - exact).abs().max() <= len(counts)  # at most one image a class is out of its turn


def test_a_val_of_its_own_is_kept_whole_and_nothing_is_held_out() -> None:
    labels = {"train": LABELS, "val": TEST, "test": TEST}
    chosen = splitting.choose(labels, CLASSES, dataset())
    assert {name: (given, len(rows)) for name, (given, rows) in chosen.items()} == {
        "train": ("train", 1000),
        "val": ("val", 10),
        "test": ("test", 10),
    }


@FEW
@given(**SCENES)
def test_scenes_are_never_divided_and_the_test_is_as_large_as_they_allow(
    scenes: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    """Of each scene its class and how many images show it."""
    scenes += [(label, 1) for label in (0, 1, 2)] * 3  # three of each class, at least
    labels = torch.tensor([label for label, size in scenes for _ in range(size)])
    numbers = torch.tensor([number for number, (_, size) in enumerate(scenes) for _ in range(size)])
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    labels, numbers = labels[order], numbers[order]
    own = dataset(test_fraction=fraction, split_seed=seed)
    chosen = splitting.choose({splitting.UNSPLIT: labels}, CLASSES[:3], own, numbers)
    rows = [chosen[name][1] for name in ("train", "val", "test")]
    assert torch.equal(torch.cat(rows).sort().values, torch.arange(len(labels)))
    sides = [set(numbers[some].tolist()) for some in rows]
    assert sum(map(len, sides)) == len(scenes), "a scene is on two sides"
    assert all(set(labels[some].tolist()) == {0, 1, 2} for some in rows)
    largest = max(size for _, size in scenes)
    wanted = min(max(round(fraction * len(labels)), 3), len(labels) - 6)
    assert abs(len(rows[2]) - wanted) <= 3 * largest


def test_of_images_that_are_no_copies_the_test_is_exact_in_every_class_and_grows_with_its_fraction() -> None:
    tests = []
    for fraction in (0.05, 0.2, 0.21, 0.5):
        settings = dataset(test_fraction=fraction, val_fraction=0.25)
        chosen = splitting.choose({splitting.UNSPLIT: LABELS}, CLASSES, settings)
        assert {given for given, _ in chosen.values()} == {splitting.UNSPLIT}
        test = chosen["test"][1]
        assert torch.bincount(LABELS[test]).tolist() == [round(100 * fraction)] * 10
        assert len(chosen["val"][1]) == round(0.25 * (1000 - len(test)))
        tests.append(set(test.tolist()))
    assert all(small < large for small, large in pairwise(tests))


def test_a_scene_counts_for_the_class_of_most_of_its_images() -> None:
    """A row of look-alikes, 40 of one class, whose first image is of another."""
    labels, scenes = torch.tensor([0] * 100 + [1] * 100), torch.arange(200)
    scenes[100:140] = 99
    for seed in range(20):
        chosen = splitting.choose({splitting.UNSPLIT: labels}, CLASSES[:2], dataset(split_seed=seed), scenes)
        counts = torch.bincount(labels[chosen["test"][1]]).tolist()
        assert counts == pytest.approx([20, 20], abs=1)


def test_a_scene_that_is_most_of_its_class_is_left_to_train() -> None:
    """A burst of 50 of the 100 images of its class, where the test is a fifth."""
    labels, scenes = torch.tensor([0] * 100 + [1] * 100), torch.arange(200)
    scenes[:50] = 0
    for seed in range(20):
        chosen = splitting.choose({splitting.UNSPLIT: labels}, CLASSES[:2], dataset(split_seed=seed), scenes)
        assert torch.bincount(labels[chosen["test"][1]]).tolist() == [20, 20]
        assert 0 in scenes[chosen["train"][1]]


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (LABELS, dataset(train_limit=9), r"^dataset.train_limit: 9 is not allowed; allowed: 10 .*to 750 "),
        (LABELS, dataset(train_limit=751), r"^dataset.train_limit: 751 is not allowed; allowed: 10 .*to 750 "),
        (torch.tensor([0, 0, 1]), dataset(), r"^train: class 'b' has 1 image, too few to hold one out"),
    ],
)
def test_too_few_images_are_an_error_that_says_what_is_allowed(labels: Tensor, settings: Dataset, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        splitting.choose({"train": labels, "test": labels}, CLASSES[: int(labels.max()) + 1], settings)


def test_duplicates_are_counted_within_and_across_splits() -> None:
    images = torch.arange(10, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 2)
    images[9, 2, 1, 1] += 1

    def split(*rows: int) -> Split:
        return Split(images=images[list(rows)], labels=torch.zeros(len(rows), dtype=torch.int64), classes=("a", "b"))

    splits = {"train": split(0, 1, 1, 2, 1), "val": split(2, 3, 3), "test": split(3, 1, 2, 1, 9)}
    assert splitting.describe(splits) == {
        "images": 13,
        "train": {"images": 5, "duplicates": 2},
        "val": {"images": 3, "duplicates": 1},
        "test": {"images": 5, "duplicates": 1},
        "across": {"train_val": 1, "train_test": 3, "val_test": 2},
        "classes": 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "drawn"),
    [
        (test_every_class_is_in_every_split_and_the_counts_are_exact, COUNTS),
        (test_every_beginning_of_a_stratified_order_holds_the_classes_in_proportion, ORDERS),
        (test_scenes_are_never_divided_and_the_test_is_as_large_as_they_allow, SCENES),
    ],
)
def test_a_hundred_draws_do_as_a_few(test: Any, drawn: dict[str, st.SearchStrategy[Any]]) -> None:
    given(**drawn)(test.hypothesis.inner_test)()
