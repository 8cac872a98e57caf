"""Frozen features: one clean view and the augmented ones, from a backbone that stays as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src.base import artifacts
from src.transfer import features
from tests.builders.small import EVERYTHING, SHIPPED, augment, images, load, same_state

PHOTOS = images(7, augment=augment(**EVERYTHING), resolution=32)


def extract(network: nn.Module, path: Path, *, views: int = 2, batch_size: int = 3) -> dict[str, Any]:
    seen: list[int] = []
    features.extract(network, PHOTOS, path, views=views, width=640, batch_size=batch_size, advance=seen.append)
    assert sum(seen) == (1 + views) * 7
    return artifacts.load(path)


def test_a_frozen_backbone_is_bit_equal_before_and_after_its_features_are_read(tmp_path: Path) -> None:
    network = features.freeze(load(weights=SHIPPED).network)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    extract(network, tmp_path / "features.pt")
    assert any(key.endswith("running_mean") for key in before)
    assert same_state(network.state_dict(), before)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


def test_features_are_one_clean_view_and_the_augmented_ones_in_stored_order(tmp_path: Path) -> None:
    network = features.freeze(load(weights=SHIPPED).network)
    stored = extract(network, tmp_path / "features.pt")
    assert (stored["features"].dtype, stored["features"].shape) == (torch.float16, (3, 7, 640))
    assert torch.equal(stored["labels"], PHOTOS.labels)
    assert stored["classes"] == PHOTOS.classes
    inputs = [next(PHOTOS.clean(7)), next(PHOTOS.augmented(1, 7)), next(PHOTOS.augmented(2, 7))]
    expected = torch.stack([network(view) for view in inputs])
    torch.testing.assert_close(stored["features"].float(), expected, atol=2e-3, rtol=2e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["features.pt"]


def test_features_that_overflow_float16_are_an_error_and_leave_no_file(tmp_path: Path) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 640))
    nn.init.constant_(network[2].weight, 1e6)
    with pytest.raises(FloatingPointError, match=r"view 0 .*not finite in float16: check backbone\.weights"):
        extract(features.freeze(network), tmp_path / "features.pt")
    assert not list(tmp_path.iterdir())
