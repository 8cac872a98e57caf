"""Classes one by one, and their mean: against scikit-learn and scipy, and how often the interval covers."""

import warnings

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support

from src.base.proportions import wilson_interval
from src.evidence.per_class import balanced_accuracy, per_class


def answers(classes, *, images=200, present=None, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(present or classes, size=images)
    named = np.where(generator.random(images) < 0.7, labels, generator.integers(present or classes, size=images))
    return labels, named, confusion_matrix(labels, named, labels=range(classes))


def diagonal(images, right):
    """A matrix of classes with so many `images`, of which so many are `right`, the others taken for the next class."""
    return np.diag(right) + np.roll(np.diag(images - right), 1, axis=1)


@pytest.mark.parametrize(("classes", "present"), [(2, 2), (3, 2), (10, 10), (100, 97)])
def test_recall_precision_and_f1_are_scikit_learns_with_scipys_intervals(classes, present):
    labels, named, matrix = answers(classes, present=present)
    table = per_class(matrix, [f"c{k}" for k in range(classes)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = precision_recall_fscore_support(labels, named, labels=range(classes), zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1", "images"), expected, strict=True):
        assert table[name].tolist() == pytest.approx(values.tolist(), nan_ok=True)
    assert table["named"].tolist() == np.bincount(named, minlength=classes).tolist()
    first = table.iloc[0]
    for name, total in (("recall", first["images"]), ("precision", first["named"])):
        interval = binomtest(matrix[0, 0], total).proportion_ci(method="wilson")
        assert (first[f"{name}_low"], first[f"{name}_high"]) == pytest.approx(tuple(interval))


def test_a_class_without_images_has_no_recall_and_one_never_named_no_precision():
    table = per_class(np.array([[3, 1, 0], [0, 0, 0], [2, 0, 0]]), ["a", "b", "c"]).set_index("class")
    assert table.loc["a", ["recall", "precision"]].tolist() == [0.75, 0.6]
    assert table.loc["b", ["recall", "recall_low", "recall_high"]].isna().all()
    assert table.loc["b", ["precision", "f1"]].tolist() == [0, 0]
    assert table.loc["c", ["precision", "precision_low", "precision_high"]].isna().all()
    assert table.loc["c", ["recall", "f1"]].tolist() == [0, 0]


def test_neither_named_nor_shown_is_nan_throughout():
    assert per_class(np.array([[1, 0], [0, 0]]), ["a", "b"]).loc[1, ["recall", "precision", "f1"]].isna().all()


@pytest.mark.parametrize(("classes", "present"), [(2, 2), (3, 2), (10, 10), (100, 97)])
def test_balanced_accuracy_is_scikit_learns(classes, present):
    labels, named, matrix = answers(classes, present=present)
    found = balanced_accuracy(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found["accuracy"] == pytest.approx(balanced_accuracy_score(labels, named))
    assert found["classes"] == len(set(labels))
    assert 0 <= found["low"] < found["accuracy"] < found["high"] <= 1


def test_of_a_single_class_it_is_wilsons_interval_of_its_recall():
    found = balanced_accuracy(np.array([[17, 3], [0, 0]]))
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(17, 20))


def test_of_one_image_a_class_it_is_wilsons_interval_of_all_images():
    right = (np.arange(100) < 62).astype(int)
    found = balanced_accuracy(diagonal(np.ones(100, int), right))
    assert (found["low"], found["high"]) == pytest.approx(wilson_interval(62, 100))


@pytest.mark.parametrize("right", [0, 5])
def test_all_right_and_all_wrong_are_not_sure_and_stay_within_0_and_1(right):
    found = balanced_accuracy(diagonal(np.full(4, 5), np.full(4, right)))
    assert 0 <= found["low"] <= found["accuracy"] == right / 5 <= found["high"] <= 1
    assert 0.15 < found["high"] - found["low"] < 0.45


def test_naming_one_class_always_is_right_for_one_class_of_all():
    assert balanced_accuracy(np.array([[90, 0, 0], [6, 0, 0], [4, 0, 0]]))["accuracy"] == pytest.approx(1 / 3)


def test_without_images_there_is_no_balanced_accuracy():
    with pytest.raises(ValueError, match="without images"):
        balanced_accuracy(np.zeros((3, 3), int))


STUDIES = {
    "one image a class": ([1] * 100, [0.8] * 100),
    "one image a class, some harder": ([1] * 100, np.linspace(0.3, 1, 100)),
    "four images a class": ([4] * 50, [0.8] * 50),
    "two classes": ([20, 20], [0.7, 0.7]),
    "a rare class is hard": ([9900, 100], [1.0, 0.5]),
    "a rare class is all but certain": ([9900, 100], [0.999, 0.975]),
    "one image of a hard class": ([1000] * 9 + [1], [0.95] * 9 + [0.5]),
    "classes of all sizes": ([1000, 500, 100, 50, 20, 10, 5, 3, 2, 1], [0.8] * 10),
    "a hundred classes": ([100] * 100, np.linspace(0.6, 1, 100)),
    "nearly perfect": ([100] * 10, [0.999] * 10),
}


def covered(name, studies):
    images, recalls = map(np.array, STUDIES[name])
    generator = np.random.default_rng(0)
    found = [balanced_accuracy(diagonal(images, generator.binomial(images, recalls))) for _ in range(studies)]
    return np.mean([each["low"] - 1e-12 <= recalls.mean() <= each["high"] + 1e-12 for each in found])


@pytest.mark.parametrize("name", STUDIES)
def test_the_interval_covers_in_nearly_all_simulated_studies(name):
    assert covered(name, 200) >= 0.93 - 3 * np.sqrt(0.07 * 0.93 / 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_interval_covers_in_95_percent_of_many_simulated_studies(name):
    """Or nearly: where one mistake is expected, Wilson's interval itself covers in 92 %."""
    assert covered(name, 4000) >= (0.91 if name == "nearly perfect" else 0.93)
