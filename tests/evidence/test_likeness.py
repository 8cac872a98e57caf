"""How alike two images are: correlations computed shift by shift, and what must not matter."""

import numpy as np
import pytest
import torch
from torch import Tensor

from src.evidence import likeness
from src.evidence.likeness import SHIFT, coarse, details, grey


def photos(count: int, side: int = 32, seed: int = 0) -> Tensor:
    """Random images of which neighbouring pixels are alike, as those of photographs are."""
    rough = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 200 + 20
    return torch.nn.functional.interpolate(rough, size=(side, side), mode="bicubic").clamp(0, 255).round().byte()


def alike(images: Tensor, first: list[int], second: list[int]) -> Tensor:
    one, two = (torch.tensor(rows, dtype=torch.int64) for rows in (first, second))
    shades = grey(images)
    return likeness.likeness(details(shades), one, two, coarse(shades, one, two)[1])


@pytest.mark.parametrize("side", [8, 32])
def test_likeness_is_the_largest_of_numpys_correlations_over_all_shifts(side: int) -> None:
    images = photos(6, side)
    found = details(grey(images)).double().numpy()
    shift = min(SHIFT, (side - 1) // 4)
    size = side - 2 * shift
    for first, second in ((0, 1), (2, 3), (4, 5)):
        middle = found[first][shift : shift + size, shift : shift + size]
        best = max(
            np.corrcoef(middle.ravel(), found[second][down : down + size, right : right + size].ravel())[0, 1]
            for down in range(2 * shift + 1)
            for right in range(2 * shift + 1)
        )
        made = likeness.likeness(
            torch.from_numpy(found).float(), torch.tensor([first]), torch.tensor([second]), torch.tensor([False])
        )
        assert made.item() == pytest.approx(best, abs=1e-5)


def test_brightness_contrast_a_small_shift_and_mirroring_do_not_matter() -> None:
    image = photos(1)[0].float()
    same = {
        "darker": image * 0.6,
        "brighter": image * 0.8 + 40,
        "moved": image.roll((1, -2), dims=(1, 2)),
        "mirrored": image.flip(2),
    }
    images = torch.stack([image, *same.values()]).round().byte()
    found = alike(images, [0] * len(same), [1, 2, 3, 4])
    assert found.min() > 0.97
    assert alike(torch.cat([images[:1], photos(40, seed=1)]), [0] * 40, list(range(1, 41))).max() < 0.6


def test_images_of_any_size_are_compared_at_the_same_one() -> None:
    large = photos(3, 96)
    assert grey(large).shape == (3, 32, 32)
    small = torch.nn.functional.interpolate(large, size=(32, 32), mode="bilinear", antialias=True)
    one, two = (details(grey(images)) for images in (large, small))
    pairs = torch.arange(3)
    joined = torch.cat([one, two])
    assert likeness.likeness(joined, pairs, pairs + 3, torch.zeros(3, dtype=torch.bool)).min() > 0.99


def test_flat_images_are_like_nothing() -> None:
    images = torch.cat([torch.full((2, 3, 32, 32), 90, dtype=torch.uint8), photos(1)])
    assert alike(images, [0, 0], [1, 2]).tolist() == [0.0, 0.0]


def test_no_pairs_give_no_likeness() -> None:
    assert alike(photos(2), [], []).shape == (0,)
