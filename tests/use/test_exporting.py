"""An exported network is the network with all that comes before and after it, in equal bytes wherever it was made."""

import json

import numpy as np
import onnx
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from src.images import augmentation
from src.images.augmentation import View
from src.models.heads import build_head
from src.use import answering, exporting
from tests.builders import exported
from tests.builders.small import CHOSEN, load, noise


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "resolution"), [(8, 8), (8, 20), (32, 45), (70, 32)])
def test_two_products_with_a_matrix_are_the_resampling_that_training_sees(
    side: int, resolution: int, interpolation: str
) -> None:
    view = View(resolution=resolution, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), interpolation=interpolation)  # type: ignore[arg-type]
    seen = list[Tensor]()
    watching = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    watching.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = noise(3, side)
    exporting.Whole(watching, view, side=side, temperature=1.0)(images)
    torch.testing.assert_close(seen[0], augmentation.render(images, view), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_the_file_answers_any_number_of_stored_images_as_the_study_does(count: int) -> None:
    stored = exported.images(count)
    logits = exported.expected(stored)
    np.testing.assert_allclose(exported.model().logits(stored), logits, atol=1e-5)
    np.testing.assert_allclose(exported.model().probabilities(stored), softmax(logits, axis=1), atol=1e-6)


def test_an_export_names_no_place_on_this_machine() -> None:
    for trace in (b"site-packages", b".py", b"/src/"):
        assert trace not in exported.content()


@pytest.mark.slow
def test_an_export_of_the_same_weights_has_the_same_bytes() -> None:
    again = exporting.to_onnx(exporting.Whole(exported.network(), exported.VIEW, side=6, temperature=0.25), 6)
    assert exporting.described(again, exported.FACTS) == exported.content()


def test_what_a_model_is_stands_in_its_metadata() -> None:
    content = exported.content(licence="MIT", threshold=None, versions={"torch": "2"})
    model = answering.load(content)
    assert (model.classes, model.size, model.threshold) == (exported.CLASSES, 6, None)
    assert model.metadata["licence"] == "MIT"
    assert json.loads(model.metadata["versions"]) == {"torch": "2"}
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


class Branching(nn.Module):
    """What it computes depends on its input's values, which no graph can hold."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.sum() > 0 else -images.mean((2, 3))


@pytest.mark.slow
def test_a_network_that_no_graph_can_hold_is_an_error_in_one_line() -> None:
    whole = exporting.Whole(Branching(), exported.VIEW, side=6, temperature=1.0)
    with pytest.raises(ValueError, match=r"^the network cannot be exported to ONNX: .*; allowed: another") as error:
        exporting.to_onnx(whole, 6)
    assert "\n" not in str(error.value)


def test_weights_of_another_network_are_refused() -> None:
    backbone = load()
    head = build_head(CHOSEN.classifier, width=backbone.width, classes=4, dropout=0.0, seed=1)
    state = {f"backbone.{name}": value for name, value in backbone.network.state_dict().items()}
    state |= {f"head.{name}": value for name, value in head.state_dict().items()}
    restored = exporting.restored(backbone, CHOSEN, state, classes=4)
    assert torch.equal(restored.state_dict()["head.4.weight"], head.state_dict()["4.weight"])
    assert not restored.training
    with pytest.raises(ValueError, match=r"models/finetuned\.pt is of another network: 2 of another shape: head\.4"):
        exporting.restored(backbone, CHOSEN, state, classes=5)
