"""The training images nearest to one: their own features find themselves, and cosines are those of a plain formula."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src.images import augmentation
from src.interface.params import Backbone
from src.models.backbones import load_backbone
from src.transfer.features import freeze
from src.use import nearest
from src.use.nearest import Neighbours
from tests.builders import exported, registered
from tests.builders.small import PICO, SHIPPED, photo

SETTINGS = Backbone(name=PICO, weights=str(SHIPPED), resolution=32)
COUNT = 12


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A folder with features of training images, those features, and the images."""
    images, backbone = photo(COUNT, exported.SIDE), load_backbone(SETTINGS, seed=0)
    with torch.inference_mode():
        known = freeze(backbone.network)(augmentation.render(images, backbone.view))
    folder = tmp_path_factory.mktemp("study")
    registered.leave_features(folder, SETTINGS, known, images)
    return folder, known, images


@pytest.fixture
def neighbours(study: tuple[Path, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Neighbours:
    monkeypatch.chdir(study[0])
    monkeypatch.setattr(nearest, "CHUNK", 5)
    return nearest.load(exported.CLASSES, exported.SIDE)


def test_a_training_image_is_nearest_to_itself_and_the_others_follow_by_their_cosine(
    neighbours: Neighbours, study: tuple[Path, torch.Tensor, torch.Tensor]
) -> None:
    _, known, images = study
    rows = known.numpy().astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for index in range(COUNT):
        found = neighbours.of(images[index].numpy(), 4)
        meant = rows @ rows[index]
        assert found[0].index == index
        assert found[0].similarity == pytest.approx(1, abs=1e-3)
        assert [each.similarity for each in found] == pytest.approx(np.sort(meant)[::-1][:4], abs=1e-3)
        assert all(each.label == exported.CLASSES[each.index % len(exported.CLASSES)] for each in found)
        np.testing.assert_array_equal(neighbours.pixels(found[0].index), images[index].numpy())
    assert len(neighbours.of(images[0].numpy(), 99)) == COUNT


@pytest.mark.parametrize(
    ("classes", "size", "said"),
    [
        (("cat", "dog"), exported.SIDE, "are not of the model's study"),
        (exported.CLASSES, 32, "are not of the model's study"),
    ],
)
def test_features_of_another_study_are_refused(
    study: tuple[Path, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    classes: tuple[str, ...],
    size: int,
    said: str,
) -> None:
    monkeypatch.chdir(study[0])
    with pytest.raises(ValueError, match=said):
        nearest.load(classes, size)


def test_features_of_other_weights_are_refused(
    study: tuple[Path, torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study[0])
    monkeypatch.setattr("src.models.backbones.describe", lambda _: {"weights_sha256": "another"})
    with pytest.raises(ValueError, match="was made with other weights of efficientnet_pico"):
        nearest.load(exported.CLASSES, exported.SIDE)


def test_without_features_it_says_which_stage_leaves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^data/images/train.pt does not exist; allowed: what `dvc repro extract_f"):
        nearest.load(exported.CLASSES, exported.SIDE)
