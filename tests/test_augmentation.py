"""Augmentation: off means off to the bit, each change equals its reference, and every image has its own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from src import augmentation
from src.augmentation import COLUMNS, ERASED_AREA, ERASED_RATIO, View
from src.params import Augment

NEUTRAL = 0.5  # the draw that changes nothing: the middle of every symmetric range
LARGEST = 1 - 2**-24  # what torch.rand can give at most
IMAGENET = View(resolution=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
EVERYTHING = {
    **{"flip": True, "crop_padding": 4, "rotation": 15.0, "translate": 0.1, "scale": 0.1, "shear": 10.0},
    **{"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05, "erase_probability": 0.25},
}


def augment(**on: float) -> Augment:
    """Everything off but what is named."""
    return Augment(**({name: type(value)(0) for name, value in EVERYTHING.items()} | on))


def draws(count: int = 1, **columns: float) -> Tensor:
    """Draws that change nothing but in the columns that are named."""
    return torch.tensor([[columns.get(name, NEUTRAL) for name in COLUMNS]]).repeat(count, 1)


def random_draws(count: int, seed: int = 0) -> Tensor:
    return augmentation.draw(count, torch.Generator().manual_seed(seed))


def noise(count: int, side: int, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(low, high, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def photo(count: int, side: int) -> Tensor:
    """Smooth images: bilinear samples of them hardly depend on the last digits of a coordinate."""
    coarse = noise(count, 5).float()
    return F.interpolate(coarse, size=side, mode="bicubic", align_corners=False).clamp(0, 255).round().to(torch.uint8)


def raw(resolution: int) -> View:
    """No normalisation: the rendered pixels are in [0, 1]."""
    return View(resolution=resolution, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def changed(images: Tensor, settings: Augment, **columns: float) -> Tensor:
    return augmentation.render(images, raw(images.shape[-1]), settings, draws(len(images), **columns))


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
    """Pixels that the reference takes wholly from within the image: beyond the edge it fills, and we repeat the edge."""
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


@pytest.mark.parametrize("uniform", [0.0, 0.3, LARGEST])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_single_colour_change_is_torchvisions(name: str, uniform: float) -> None:
    """On mid-range images, where nothing clamps; its factor is 1 minus the strength at one end of the draw, plus at the other."""
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


@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (32, 64), (48, 32)])
def test_an_image_does_not_depend_on_the_batch_it_is_in(side: int, resolution: int) -> None:
    view = View(resolution=resolution, mean=IMAGENET.mean, std=IMAGENET.std)
    images, uniform = noise(33, side), random_draws(33)
    whole = augmentation.render(images, view, augment(**EVERYTHING), uniform)
    for rows in (torch.tensor([0]), torch.tensor([32, 7, 8]), torch.arange(17)):
        assert torch.equal(augmentation.render(images[rows], view, augment(**EVERYTHING), uniform[rows]), whole[rows])
        assert torch.equal(augmentation.render(images[rows], view), augmentation.render(images, view)[rows])


@pytest.mark.parametrize(("side", "resolution"), [(32, 32), (8, 40), (64, 32)])
def test_the_result_is_float32_of_the_resolution_and_the_stored_images_stay_as_they_are(
    side: int, resolution: int
) -> None:
    images = noise(2, side)
    before, state = images.clone(), torch.get_rng_state()
    rendered = augmentation.render(images, raw(resolution), augment(**EVERYTHING), random_draws(2))
    assert (rendered.dtype, rendered.shape) == (torch.float32, (2, 3, resolution, resolution))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state), "augmentation drew from the global generator"


def test_every_column_of_the_draws_is_used_by_some_change() -> None:
    images, uniform = photo(1, 16), draws(1, flip=0.7, erase=0.1)
    rendered = augmentation.render(images, raw(16), augment(**EVERYTHING), uniform)
    for i, name in enumerate(COLUMNS):
        other = uniform.clone()
        other[0, i] = 0.4 if name == "flip" else 0.9
        assert not torch.equal(augmentation.render(images, raw(16), augment(**EVERYTHING), other), rendered), name
