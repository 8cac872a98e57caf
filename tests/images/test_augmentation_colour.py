"""Colour and erasing: each change equals its reference, and rectangles keep to the published bounds."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as reference

from src.images import augmentation
from src.images.augmentation import View
from tests.builders.small import augment, changed, noise, random_draws, raw

LARGEST = 1 - 2**-24  # what torch.rand can give at most
IMAGENET = View(resolution=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)  # published: Zhong et al., arXiv:1708.04896


@pytest.mark.parametrize("uniform", [0.0, 0.3, LARGEST])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_single_colour_change_is_torchvisions(name: str, uniform: float) -> None:
    """On mid-range images, where nothing clamps; the ends of the draw are 1 minus and 1 plus the strength."""
    images = noise(3, 16, low=80, high=150)
    adjust = getattr(reference, f"adjust_{name}")
    expected = adjust(images / 255, 1 + 0.4 * (2 * uniform - 1))
    ours = changed(images, augment(**{name: 0.4}), **{name: uniform})
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)  # torchvision's luma weights sum to 0.9999


def test_all_colour_together_is_brightness_then_contrast_then_saturation_then_hue() -> None:
    images = noise(3, 16, low=110, high=140)
    ours = changed(
        images,
        augment(brightness=0.3, contrast=0.4, saturation=0.5, hue=0.5),
        **{"brightness": 0.9, "contrast": 0.2, "saturation": 0.8, "hue": 5 / 6},
    )
    expected = reference.adjust_contrast(reference.adjust_brightness(images / 255, 1.24), 0.76)
    expected = reference.adjust_saturation(expected, 1.3).roll(1, dims=1)  # a third of a turn takes red to green
    torch.testing.assert_close(ours, expected, atol=3e-4, rtol=0)


@pytest.mark.parametrize(("uniform", "shift"), [(5 / 6, 1), (1 / 6, -1)])
def test_hue_of_a_third_of_a_turn_permutes_the_channels(uniform: float, shift: int) -> None:
    images = noise(3, 16)
    ours = changed(images, augment(hue=0.5), hue=uniform)
    torch.testing.assert_close(ours, (images / 255).roll(shift, dims=1), atol=1e-5, rtol=0)


def test_hue_is_a_rotation_about_the_grey_axis() -> None:
    """Greys stay, every pixel keeps its length and its sum, and the angle is the drawn part of a turn."""
    images = noise(3, 16, low=110, high=140)
    ours, pixels = changed(images, augment(hue=0.2), hue=LARGEST), images / 255
    torch.testing.assert_close(ours.norm(dim=1), pixels.norm(dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.sum(1), pixels.sum(1), atol=1e-5, rtol=0)
    across, before = (image - image.mean(1, keepdim=True) for image in (ours, pixels))
    coloured = before.norm(dim=1) > 0.01
    angles = F.cosine_similarity(across.double(), before.double(), dim=1)[coloured].acos() / (2 * math.pi)
    torch.testing.assert_close(angles, torch.full_like(angles, 0.2), atol=1e-4, rtol=0)
    grey = noise(2, 16)[:, :1].expand(-1, 3, -1, -1).contiguous()
    torch.testing.assert_close(changed(grey, augment(hue=0.2), hue=LARGEST), grey / 255, atol=1e-5, rtol=0)


def test_colours_stay_in_range_however_strong_the_change() -> None:
    images = noise(64, 8)
    strong = augment(brightness=0.99, contrast=0.99, saturation=0.99, hue=0.5)
    ours = augmentation.render(images, raw(8), strong, random_draws(64))
    assert ours.min() == 0
    assert ours.max() == pytest.approx(1, abs=1e-6)


def erased(count: int, probability: float, resolution: int = 48) -> Tensor:
    """Which pixels (N, R, R) of white images are erased."""
    white = torch.full((count, 3, 8, 8), 255, dtype=torch.uint8)
    rendered = augmentation.render(white, raw(resolution), augment(erase_probability=probability), random_draws(count))
    assert torch.equal(rendered.amax(1), rendered.amin(1))  # all channels alike
    return rendered[:, 0] == 0


def test_an_erased_area_is_one_rectangle_within_the_published_bounds_and_lies_anywhere() -> None:
    masks = erased(600, 1.0)
    rows, columns = masks.any(2), masks.any(1)
    height, width = rows.sum(1), columns.sum(1)
    assert torch.equal(masks, rows.unsqueeze(2) & columns.unsqueeze(1))
    assert bool(((rows.int().diff(dim=1) == 1).sum(1) <= 1).all())
    assert bool(((columns.int().diff(dim=1) == 1).sum(1) <= 1).all())
    side, half = 48, 0.5  # lengths are rounded to whole pixels, and end at the image's side
    assert bool((((height - half) * (width - half)) / side**2 <= ERASED_AREA[1]).all())
    whole = (height < side) & (width < side)
    assert bool((((height + half) * (width + half)) / side**2 >= ERASED_AREA[0])[whole].all())
    assert bool(((height + half) / (width - half) >= ERASED_RATIO[0])[whole].all())
    assert bool(((height - half) / (width + half) <= ERASED_RATIO[1])[whole].all())
    assert whole.float().mean() > 0.95
    assert bool((rows.any(0) & columns.any(0)).all())


def test_erased_areas_are_uniform_between_their_bounds() -> None:
    areas = erased(2000, 1.0).float().mean((1, 2))
    middle = sum(ERASED_AREA) / 2
    assert areas.mean().item() == pytest.approx(middle, abs=4 * 0.31 / math.sqrt(12 * 2000) + 0.002)
    assert areas.min() < 0.03
    assert areas.max() > 0.32


@pytest.mark.parametrize("probability", [0.25, 0.6])
def test_images_are_erased_as_often_as_asked(probability: float) -> None:
    count = int(erased(3000, probability, resolution=16).any((1, 2)).sum())
    assert abs(count - 3000 * probability) < 4 * math.sqrt(3000 * probability * (1 - probability))


def test_what_is_erased_becomes_the_mean_colour() -> None:
    images = noise(40, 16)
    clean = augmentation.render(images, IMAGENET)
    rendered = augmentation.render(images, IMAGENET, augment(erase_probability=1.0), random_draws(40))
    gone = (rendered != clean).any(1, keepdim=True).expand_as(clean)
    assert gone.any(3).any(2).any(1).all()
    assert bool((rendered[gone] == 0).all())
