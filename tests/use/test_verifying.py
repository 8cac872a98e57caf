"""A model that answers otherwise than torch is refused, by the first image that shows it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from src.use import answering, exporting, verifying
from src.use.answering import Model
from src.use.verifying import Parity
from tests.builders import exported

IMAGES = {"val": exported.images(70, seed=1), "test": exported.images(5, seed=2)}


def compare(model: Model, tolerance: float = 1e-3) -> Parity:
    counted = list[int]()
    meant = {split: exported.expected(stored) for split, stored in IMAGES.items()}
    found = verifying.compare(model, IMAGES, meant, tolerance=tolerance, advance=counted.append)
    assert sum(counted) == 2 * 75
    return found


def broken(name: str, change: float) -> Model:
    """The model with one weight changed."""
    graph = exported.graph()
    (place,) = [each for each in graph.graph.initializer if each.name == name]
    values = numpy_helper.to_array(place).copy()
    values.flat[0] += change
    place.CopyFrom(numpy_helper.from_array(values, name))
    return answering.load(exporting.described(graph, exported.FACTS), threads=1)


def largest_weight(graph: onnx.ModelProto) -> str:
    return max(graph.graph.initializer, key=lambda each: numpy_helper.to_array(each).size).name


def test_a_true_export_agrees_on_all_images_within_rounding() -> None:
    found = compare(exported.model())
    assert found.agreement == 1
    assert 0 < found.difference < 1e-4


def test_one_changed_weight_is_refused_by_the_first_image_of_another_class() -> None:
    model = broken(largest_weight(exported.graph()), 50.0)
    other = model.logits(IMAGES["val"]).argmax(axis=1) != exported.expected(IMAGES["val"]).argmax(axis=1)
    first = int(other.argmax())
    assert other.any()
    before = np.abs(model.logits(IMAGES["val"]) - exported.expected(IMAGES["val"])).max(axis=1)[:first]
    tolerance = float(before.max(initial=0)) + 1
    with pytest.raises(ValueError, match=rf"takes image {first} of val \(1 at a time\) for '.+' and torch for '.+'"):
        compare(model, tolerance)


def test_a_small_change_of_one_weight_is_a_difference_above_the_tolerance() -> None:
    model = broken(largest_weight(exported.graph()), 0.01)
    with pytest.raises(ValueError, match=r"by [\d.e-]+ in a logit of image 0 of val .* export\.tolerance \(1e-05\)"):
        compare(model, 1e-5)


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="image 0 of val"):
        compare(broken(largest_weight(exported.graph()), float("nan")))
