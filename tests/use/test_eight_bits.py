"""The copy in 8 bits: what it is made of, and when it is refused."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from src.base.splits import Split
from src.interface.params import Export
from src.use import eight_bits, judging, quantising
from src.use.eight_bits import Copy
from tests.builders import exported

IMAGES = {"val": exported.images(60, seed=1), "test": exported.images(50, seed=2)}
SETTINGS = Export(tolerance=1e-3, target=0.9, calibration_images=20, int8_tolerance=0.1)


@pytest.fixture(autouse=True)
def all_of_a_small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has two convolutions."""
    monkeypatch.setattr(quantising, "KEPT", 0)


def attempt(settings: Export = SETTINGS, *, black: bool = False) -> Copy:
    """Of a model that names each image right; its ranges are those of `black` images where they are to be bad."""
    logits = {split: exported.expected(stored) for split, stored in IMAGES.items()}
    labels = {split: each.argmax(axis=1) for split, each in logits.items()}
    exact = judging.Calibrated(temperature=exported.TEMPERATURE, logits=logits, threshold=0.5)
    images = torch.from_numpy(exported.images(30)) * (not black)
    train = Split(images=images, labels=torch.zeros(30), classes=exported.CLASSES)
    return eight_bits.attempt(
        exported.graph(), exported.FACTS, train, IMAGES, labels, exact, settings, lambda count: None
    )


def test_all_products_of_the_network_are_of_integers_and_those_of_the_resampling_are_not() -> None:
    graph = quantising.quantised(exported.graph(), exported.images()).graph
    sources = {output: node.op_type for node in graph.node for output in node.output}
    products = [
        [sources.get(name) for name in node.input[:2]] for node in graph.node if node.op_type in quantising.PRODUCTS
    ]
    assert products.count(["DequantizeLinear"] * 2) == 3  # two convolutions and a linear layer
    assert len(products) == 3 + 2
    weights = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) > 1]
    assert len(weights) == 3
    assert max(np.abs(onnx.numpy_helper.to_array(each)).max() for each in weights) <= 64  # 7 bits


def test_the_first_convolutions_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantising, "KEPT", 2)
    graph = quantising.quantised(exported.graph(), exported.images()).graph
    kinds = {each.name: each.data_type for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert [kinds.get(node.input[1]) for node in convolutions] == [onnx.TensorProto.FLOAT] * 2
    assert onnx.TensorProto.INT8 in kinds.values()  # the linear layer


def clipped() -> onnx.ModelProto:
    """Four times red, and green and blue, clipped to [0, 6] and doubled: the clipping cuts off most of the range."""
    tensor, node, value = onnx.helper.make_tensor, onnx.helper.make_node, onnx.helper.make_tensor_value_info
    kept = [
        tensor("network.first", 1, [1, 3, 1, 1], [4.0, 1.0, 1.0]),
        tensor("network.second", 1, [1, 1, 1, 1], [2.0]),
        tensor("least", 1, [], [0.0]),
        tensor("most", 1, [], [6.0]),
    ]
    nodes = [
        node("Cast", ["images"], ["pixels"], "cast", to=1),
        node("Conv", ["pixels", "network.first"], ["before"], "first"),
        node("Clip", ["before", "least", "most"], ["after"], "relu6"),
        node("Conv", ["after", "network.second"], ["doubled"], "second"),
    ]
    given, made = value("images", 2, ["N", 3, 1, 1]), value("doubled", 1, ["N", 1, 1, 1])
    graph = onnx.helper.make_graph(nodes, "clipped", [given], [made], kept)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


def test_what_relu6_lets_through_has_all_the_steps_however_wide_the_range_before_it_is() -> None:
    images = np.zeros((30, 3, 1, 1), dtype=np.uint8)
    images[0], images[1:, 1, 0, 0] = 255, np.arange(29) % 5
    content = quantising.quantised(clipped(), images).SerializeToString()
    (found,) = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    assert found.ravel() == pytest.approx([12.0, *(2.0 * (np.arange(29) % 5))], abs=0.2)


def test_a_copy_that_keeps_its_accuracy_is_accepted_and_says_what_it_is() -> None:
    found = attempt()
    assert found.refused == ""
    assert found.verdict == {"accepted": True, "reason": None}
    assert found.model is not None
    right = found.model.probabilities(IMAGES["test"]).argmax(1) == exported.expected(IMAGES["test"]).argmax(1)
    assert found.metrics["test_accuracy"] == right.mean()
    assert found.metrics["difference"] == pytest.approx(right.mean() - 1)
    assert found.metrics["low"] <= found.metrics["difference"] <= found.metrics["high"]
    assert b"int8" in found.content
    assert len(found.content) < len(exported.content()) * 0.9


def test_a_copy_that_loses_more_than_is_allowed_is_refused_and_lite_is_named() -> None:
    found = attempt(black=True)
    loss = 1 - found.metrics["val_accuracy"]
    assert loss > SETTINGS.int8_tolerance
    assert found.refused.startswith(
        f"it loses {100 * loss:.1f} points on validation; export.int8_tolerance allows 10. "
    )
    assert "backbone.name=efficientnet_lite0" in found.refused
    assert found.verdict == {"accepted": False, "reason": found.refused}
    assert found.metrics["accepted"] == 0
    assert found.metrics["high"] < 0


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet18", "timm/convnext_atto"])
def test_lite_is_not_named_where_it_is_no_way_out(backbone: str) -> None:
    said = eight_bits.reason(0.05, 0.01, backbone)
    assert said == "it loses 5.0 points on validation; export.int8_tolerance allows 1"
    assert eight_bits.reason(0.01, 0.01, backbone) == ""


def test_no_images_for_the_ranges_means_no_copy() -> None:
    found = attempt(replace(SETTINGS, calibration_images=0))
    assert (found.model, found.metrics) == (None, {})
    assert found.verdict == {"accepted": False, "reason": "export.calibration_images is 0"}
