"""Frozen features: one clean view and the augmented ones, from a backbone that stays as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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


def test_where_memory_runs_out_half_as_many_images_at_a_time_give_the_same_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = features.freeze(load(weights=SHIPPED).network)
    sizes: list[int] = []

    def cramped(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
            )
        return network(inputs)

    stored = [tmp_path / "cramped.pt", tmp_path / "roomy.pt"]
    for run, path in zip((cramped, network), stored, strict=True):
        features.extract(run, PHOTOS, path, views=1, width=640, batch_size=7, advance=lambda count: None)
    cramped_features, roomy_features = (artifacts.load(path)["features"].float() for path in stored)
    torch.testing.assert_close(cramped_features, roomy_features, atol=1e-3, rtol=1e-3)
    assert sizes == [7, 4, 2, 2, 2, 1, 2, 2, 2, 1]
    assert "2 images at a time from here on" in capsys.readouterr().err


def test_an_image_that_does_not_fit_alone_is_one_line_with_a_way_out(tmp_path: Path) -> None:
    def full(inputs: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(MemoryError, match=r"not even one image .* try a lower backbone\.resolution"):
        features.extract(full, PHOTOS, tmp_path / "x.pt", views=0, width=640, batch_size=3, advance=lambda count: None)
    assert not list(tmp_path.iterdir())
