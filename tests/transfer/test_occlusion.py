"""Occlusion marks what an answer rests on, and nothing else."""

import pytest
import torch

from src.transfer.occlusion import occlusion_maps, places

SIDE = 32


def of_one_corner(images: torch.Tensor) -> torch.Tensor:
    """Logits (N, 2) of a network that looks at the brightness of the upper left 8 x 8 pixels alone."""
    bright = images[:, :, :8, :8].float().mean(dim=(1, 2, 3)) / 255
    return torch.stack([bright, -bright], dim=1)


@pytest.fixture
def bright_corner() -> torch.Tensor:
    images = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    images[:, :, :8, :8] = 255
    return images


def test_what_an_answer_rests_on_is_where_hiding_it_costs_most(bright_corner: torch.Tensor) -> None:
    maps = occlusion_maps(of_one_corner, bright_corner, torch.tensor([0, 1]))
    assert maps.shape == (2, 7, 7)
    assert maps[0].argmax() == 0
    assert maps[1].argmin() == 0, "what speaks for one class speaks against the other"
    beside = maps[:, 2:, :]
    assert torch.equal(beside, torch.zeros_like(beside)), "from the eighth row on, the patch hides none of the corner"


def test_a_fall_is_the_difference_of_log_probabilities(bright_corner: torch.Tensor) -> None:
    """Of the whole corner hidden by the image's mean, (8 / 32)^2 of 255, rounded to a pixel's value."""
    maps = occlusion_maps(of_one_corner, bright_corner[:1], torch.tensor([0]))
    grey = round(255 / 16) / 255
    before, after = (torch.tensor([value, -value]).log_softmax(0)[0] for value in (1.0, grey))
    assert maps[0, 0, 0] == pytest.approx(float(before - after), abs=1e-6)


@pytest.mark.parametrize(("side", "count"), [(1, 1), (4, 4), (8, 7), (32, 7), (33, 7), (224, 7)])
def test_the_patch_stays_within_images_of_any_size(side: int, count: int) -> None:
    starts = places(side)
    assert len(starts) == count
    assert starts[-1] + max(1, side // 4) <= side


def test_images_are_left_as_they_were(bright_corner: torch.Tensor) -> None:
    before = bright_corner.clone()
    occlusion_maps(of_one_corner, bright_corner, torch.tensor([0, 0]))
    assert torch.equal(before, bright_corner)
