"""Augmentation: off means off to the bit, geometry equals its references, and every image has its own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from src.images import augmentation
from src.images.augmentation import COLUMNS, View
from tests.builders.small import EVERYTHING, augment, changed, draws, noise, photo, random_draws, raw

LARGEST = 1 - 2**-24  # what torch.rand can give at most
IMAGENET = View(resolution=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (32, 64), (28, 45), (8, 224), (48, 32), (45, 28)])
def test_with_everything_off_the_augmented_image_is_bit_equal_to_the_clean_one(side: int, resolution: int) -> None:
    view = View(resolution=resolution, mean=IMAGENET.mean, std=IMAGENET.std)
    images = noise(5, side)
    assert torch.equal(augmentation.render(images, view, augment(), random_draws(5)), augmentation.render(images, view))


@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (32, 64), (28, 45), (8, 224)])
def test_the_clean_image_is_bilinear_interpolation_and_normalisation(side: int, resolution: int) -> None:
    view = View(resolution=resolution, mean=IMAGENET.mean, std=IMAGENET.std)
    images = noise(3, side)
    resized = F.interpolate(images / 255, size=resolution, mode="bilinear", align_corners=False)
    expected = reference.normalize(resized, list(view.mean), list(view.std))
    torch.testing.assert_close(augmentation.render(images, view), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "resolution"), [(96, 32), (45, 28)])
def test_a_shrunk_image_is_what_pil_makes_of_it(side: int, resolution: int) -> None:
    images = noise(2, side)
    resized = [
        np.asarray(
            Image.fromarray(image.permute(1, 2, 0).numpy()).resize((resolution, resolution), Image.Resampling.BILINEAR)
        )
        for image in images
    ]
    expected = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255
    rendered = augmentation.render(images, raw(resolution))
    torch.testing.assert_close(rendered, expected, atol=1.01 / 255, rtol=0)  # PIL rounds twice, to whole levels


def test_a_fine_pattern_shrinks_to_grey_and_does_not_alias() -> None:
    """512 to 224 pixels: sampling alone would leave a deviation of 0.16."""
    stripes = torch.zeros(1, 3, 512, 512, dtype=torch.uint8)
    stripes[..., ::2] = 255
    inner = augmentation.render(stripes, raw(224))[..., 4:-4, 4:-4]
    assert inner.std() < 0.02
    assert inner.mean() == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("resolution", [16, 40])
def test_a_flip_alone_mirrors_the_clean_image_left_to_right(resolution: int) -> None:
    images, view = noise(2, 16), raw(resolution)
    mirrored = augmentation.render(images, view, augment(flip=True), draws(2, flip=0.49))
    torch.testing.assert_close(mirrored, torch.flip(augmentation.render(images, view), [3]), atol=1e-5, rtol=0)
    kept = augmentation.render(images, view, augment(flip=True), draws(2, flip=0.5))
    assert torch.equal(kept, augmentation.render(images, view))


def test_half_of_the_images_are_flipped() -> None:
    image = noise(1, 4)
    flipped = augmentation.render(image.expand(4000, -1, -1, -1), raw(4), augment(flip=True), random_draws(4000))
    count = int((flipped[:, 0, 0, 0] - image[0, 0, 0, 0] / 255).abs().gt(1e-3).sum())
    assert abs(count - 2000) < 4 * math.sqrt(1000)


@pytest.mark.parametrize(("x", "y"), [(0, 0), (0, 4), (3, 1), (4, 2), (2, 2)])
def test_a_crop_alone_is_an_edge_padded_integer_crop(x: int, y: int) -> None:
    images, padding = noise(2, 12), 2
    steps = 2 * padding + 1
    cropped = changed(images, augment(crop_padding=padding), crop_x=(x + 0.5) / steps, crop_y=(y + 0.5) / steps)
    padded = reference.pad(images / 255, [padding], padding_mode="edge")
    torch.testing.assert_close(cropped, reference.crop(padded, y, x, 12, 12), atol=1e-5, rtol=0)


@pytest.mark.parametrize("padding", [1, 4, 8, 40])
def test_the_extreme_draws_of_a_crop_shift_by_the_padding_and_no_further(padding: int) -> None:
    columns = torch.arange(200, dtype=torch.uint8).expand(1, 3, 200, 200)
    for uniform, shift in ((0.0, -padding), (LARGEST, padding)):
        cropped = changed(columns.contiguous(), augment(crop_padding=padding), crop_x=uniform)
        assert cropped[0, 0, 0, 100].item() * 255 == pytest.approx(100 + shift, abs=1e-2)


def inside(side: int, **affine: object) -> Tensor:
    """Pixels that the reference takes wholly from within the image: beyond the edge it fills, we repeat the edge."""
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | affine
    ones = reference.affine(torch.ones(1, 3, side, side), interpolation=InterpolationMode.BILINEAR, **options)
    return ones > 0.9999


@pytest.mark.parametrize("uniform", [0.0, 0.25, LARGEST])
@pytest.mark.parametrize(
    ("name", "column", "strength", "option"),
    [
        ("rotation", "rotation", 15.0, lambda amount: {"angle": amount}),
        ("rotation", "rotation", 180.0, lambda amount: {"angle": amount}),
        ("translate", "translate_x", 0.2, lambda amount: {"translate": [round(amount * 40), 0]}),
        ("translate", "translate_y", 0.2, lambda amount: {"translate": [0, round(amount * 40)]}),
        ("scale", "scale", 0.25, lambda amount: {"scale": 1 + amount}),
        ("shear", "shear", 20.0, lambda amount: {"shear": [-amount, 0.0]}),
    ],
)
def test_a_single_affine_change_is_torchvisions(
    name: str, column: str, strength: float, option, uniform: float
) -> None:
    """Both ends of the draw are the strength in either direction, and a quarter is half of it."""
    images, amount = photo(2, 40), strength * (2 * uniform - 1)
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | option(amount)
    expected = reference.affine(images / 255, interpolation=InterpolationMode.BILINEAR, **options)
    mask = inside(40, **options).expand_as(expected)
    ours = changed(images, augment(**{name: strength}), **{column: uniform})
    assert mask.float().mean() > 0.3
    torch.testing.assert_close(ours[mask], expected[mask], atol=2e-4, rtol=0)


def affine(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor([*rows, (0.0, 0.0, 1.0)], dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("resolution", [24, 50])
def test_all_geometry_together_is_the_product_of_its_matrices(resolution: int, seed: int) -> None:
    """Crop first, then flip, zoom, shear and rotation about the centre, and translation: torch's own sampler agrees."""
    on = {"flip": True, "crop_padding": 4, "rotation": 40.0, "translate": 0.2, "scale": 0.3, "shear": 20.0}
    images, uniform = photo(1, 24), random_draws(1, seed)
    drawn = dict(zip(COLUMNS, uniform[0].double().tolist(), strict=True))
    either_way = {name: 2 * value - 1 for name, value in drawn.items()}
    crop_x, crop_y = (math.floor(drawn[f"crop_{axis}"] * 9) - 4 for axis in "xy")
    angle, zoom = math.radians(40 * either_way["rotation"]), 1 + 0.3 * either_way["scale"]
    shear = math.tan(math.radians(20 * either_way["shear"]))
    product = (
        affine((1, 0, 0.4 * either_way["translate_x"]), (0, 1, 0.4 * either_way["translate_y"]))  # the image is 2 wide
        @ affine((math.cos(angle), -math.sin(angle), 0), (math.sin(angle), math.cos(angle), 0))
        @ affine((1, shear, 0), (0, 1, 0))
        @ affine((zoom, 0, 0), (0, zoom, 0))
        @ affine((-1.0 if drawn["flip"] < 0.5 else 1.0, 0, 0), (0, 1, 0))
        @ affine((1, 0, -crop_x * 2 / 24), (0, 1, -crop_y * 2 / 24))
    )
    theta = product.inverse()[:2].unsqueeze(0).float()
    grid = F.affine_grid(theta, [1, 3, resolution, resolution], align_corners=False)
    expected = F.grid_sample(images / 255, grid, padding_mode="border", align_corners=False)
    rendered = augmentation.render(images, raw(resolution), augment(**on), uniform)
    torch.testing.assert_close(rendered, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("policy", ["none", "trivialaugment", "autoaugment"])
@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (32, 64), (48, 32)])
def test_an_image_does_not_depend_on_the_batch_it_is_in(side: int, resolution: int, policy: str) -> None:
    view = View(resolution=resolution, mean=IMAGENET.mean, std=IMAGENET.std)
    settings = augment(**EVERYTHING, policy=policy)
    images, uniform = noise(33, side), random_draws(33)
    whole = augmentation.render(images, view, settings, uniform)
    for rows in (torch.tensor([0]), torch.tensor([32, 7, 8]), torch.arange(17)):
        assert torch.equal(augmentation.render(images[rows], view, settings, uniform[rows]), whole[rows])
        assert torch.equal(augmentation.render(images[rows], view), augmentation.render(images, view)[rows])


@pytest.mark.parametrize("policy", ["none", "trivialaugment", "autoaugment"])
@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (8, 40), (64, 32)])
def test_the_result_is_float32_of_the_resolution_and_the_stored_images_stay(
    side: int, resolution: int, policy: str
) -> None:
    images = noise(2, side)
    before, state = images.clone(), torch.get_rng_state()
    rendered = augmentation.render(images, raw(resolution), augment(**EVERYTHING, policy=policy), random_draws(2))
    assert (rendered.dtype, rendered.shape) == (torch.float32, (2, 3, resolution, resolution))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state), "augmentation drew from the global generator"


def test_every_column_of_the_draws_is_used_by_some_change() -> None:
    """The policy's draws: Color, then Brightness, of which the first happens always and the second never."""
    images, settings = photo(1, 16), augment(**EVERYTHING, policy="autoaugment")
    uniform = draws(1, flip=0.7, erase=0.1, policy=6.5 / 25, policy_first=0.1, policy_second=0.95)
    rendered = augmentation.render(images, raw(16), settings, uniform)
    for i, name in enumerate(COLUMNS):
        other = uniform.clone()
        other[0, i] = {"flip": 0.4, "policy_second": 0.1}.get(name, 0.9)
        assert not torch.equal(augmentation.render(images, raw(16), settings, other), rendered), name


def test_draws_are_a_function_of_the_generator_in_which_the_policies_come_last() -> None:
    """What they draw moves no other draw: with a policy or without one, an image is cropped and turned alike."""
    first = random_draws(50, seed=3)
    assert torch.equal(random_draws(50, seed=3), first)
    assert not torch.equal(random_draws(50, seed=4), first)
    assert torch.equal(first[:, :17], torch.rand(50, 17, generator=torch.Generator().manual_seed(3)))
    assert first[:, 17:].flatten().unique().numel() == 150
