"""Policies: tables and operations are torchvision's, each image gets one draw, and all geometry is one resampling."""

import math
from collections import Counter
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from src.images import augmentation, policies
from src.images.policies import AUTO_BINS, COLOURS, OPERATIONS, SIGNED, WIDE, WIDE_BINS, Operation
from tests.builders.small import EVERYTHING, augment, draws, noise, photo, random_draws, raw

LARGEST = 1 - 2**-24  # what torch.rand can give at most
REFERENCE = {"trivialaugment": v2.TrivialAugmentWide(), "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)}
BINS = {"trivialaugment": WIDE_BINS, "autoaugment": AUTO_BINS}
ON_COLOUR = [*COLOURS, "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"]
PICTURES = {
    "noise": noise(3, 32),
    "photo": photo(3, 32),
    "dark": noise(3, 32, 0, 40),
    "narrow": noise(3, 17, 100, 131),
    "two levels": noise(2, 9, 254, 256),
    "one level": torch.full((1, 3, 8, 8), 77, dtype=torch.uint8),
    "tiny": noise(2, 4),
}


def torchvisions(image: Any, name: str, magnitude: float) -> Any:
    """One operation on one image (Pillow's or a tensor), bilinear where it resamples."""
    apply = REFERENCE["autoaugment"]._apply_image_or_video_transform
    return apply(image, name, magnitude, interpolation=InterpolationMode.BILINEAR, fill={})


def pillows(images: Tensor, name: str, magnitude: float) -> Tensor:
    pictures = [torchvisions(to_pil_image(image), name, magnitude) for image in images]
    return torch.stack([pil_to_tensor(picture) for picture in pictures])


def everywhere(name: str, magnitude: float, count: int) -> Operation:
    return Operation(index=torch.full((count,), OPERATIONS.index(name)), magnitude=torch.full((count,), magnitude))


def signed(name: str, policy: str, side: int = 32) -> list[float]:
    """Every magnitude that an operation can have in a policy."""
    values: list[float] = policies.magnitudes(policy, side).get(name, torch.empty(0)).tolist()
    return values + [-value for value in values if value and name in SIGNED]


def every_magnitude(name: str) -> list[float]:
    return sorted({value for policy in REFERENCE for value in signed(name, policy)})


def wide_draw(name: str, which: int, *, negative: bool = False) -> dict[str, float]:
    """The draws with which TrivialAugment does `name` at its magnitude number `which`."""
    row = list(WIDE).index(name) * WIDE_BINS + which
    return {"policy": (row + 0.5) / (len(WIDE) * WIDE_BINS), "policy_first": 0.25 if negative else 0.75}


def auto_draw(row: int, first: float, second: float) -> dict[str, float]:
    return {"policy": (row + 0.5) / 25, "policy_first": first, "policy_second": second}


@pytest.mark.parametrize("side", [8, 32, 224])
@pytest.mark.parametrize("policy", REFERENCE)
def test_the_magnitudes_are_torchvisions(policy: str, side: int) -> None:
    """Of AutoAugment without Identity, of TrivialAugment without Invert: as published."""
    ours, space = policies.magnitudes(policy, side), REFERENCE[policy]._AUGMENTATION_SPACE
    assert set(ours) == set(space)
    for name, (function, has_sign) in space.items():
        published = function(BINS[policy], side, side)
        expected = torch.zeros(1) if published is None else published.float()
        torch.testing.assert_close(ours[name], expected, atol=1e-5, rtol=1e-6)
        assert has_sign == (name in SIGNED)


def test_the_sub_policies_are_the_published_ones() -> None:
    assert list(policies.sub_policies("autoaugment")) == REFERENCE["autoaugment"]._policies
    wide = policies.sub_policies("trivialaugment")
    assert Counter(name for ((name, probability, _),) in wide if probability == 1) == dict.fromkeys(WIDE, 31)
    assert len(set(wide)) == 11 * 31 + 3, "each magnitude once, and three operations have none"


FEW = ("noise", "one level")  # for operations of many magnitudes


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        pytest.param(
            name, pictures, marks=[pytest.mark.slow] * (pictures not in FEW and len(every_magnitude(name)) > 1)
        )
        for name, pictures in product(ON_COLOUR, PICTURES)
    ],
)
def test_an_operation_on_colour_is_torchvisions_and_pillows_at_every_magnitude(name: str, pictures: str) -> None:
    """Where the exact result is a whole level, their rounding errors decide whether it is one less."""
    images, level = PICTURES[pictures], 1 if name in (*COLOURS, "AutoContrast") else 0
    for magnitude in every_magnitude(name):
        ours = policies.recolour(images, everywhere(name, magnitude, len(images))).int()
        expected = torch.stack([torchvisions(image, name, magnitude) for image in images])
        assert int((ours - expected.int()).abs().max()) <= level, magnitude
        if name != "Solarize":  # torchvision gives Pillow thresholds such as 237.9999: one level is another one's
            assert int((ours - pillows(images, name, magnitude).int()).abs().max()) <= level, magnitude


@pytest.mark.parametrize("policy", REFERENCE)
@pytest.mark.parametrize("name", COLOURS)
def test_a_blend_with_pillows_dull_image_is_exact_and_rounded_down(name: str, policy: str) -> None:
    """Held against fractions: no rounding error decides on a level, so that every device gives the same."""
    images = noise(4, 24)
    dull = pillows(images, name, -1.0).long()  # a factor of 0 leaves it alone
    largest, bins = (Fraction(99, 100), WIDE_BINS) if policy == "trivialaugment" else (Fraction(9, 10), AUTO_BINS)
    for which, magnitude in enumerate(policies.magnitudes(policy, 24)[name].tolist()):
        for sign in (1, -1):
            factor = 1 + sign * largest * which / (bins - 1)
            scaled = factor.denominator * dull + factor.numerator * (images.long() - dull)
            expected = scaled.div(factor.denominator, rounding_mode="floor").clamp(0, 255)
            ours = policies.recolour(images, everywhere(name, sign * magnitude, 4))
            assert torch.equal(ours.long(), expected)


def test_each_image_of_a_batch_gets_its_own_operation_and_the_others_stay() -> None:
    cases = [(name, magnitude) for name in OPERATIONS for magnitude in (every_magnitude(name) or [0.0])[::7]]
    images = noise(len(cases), 24, 10, 240)
    operation = Operation(
        index=torch.tensor([OPERATIONS.index(name) for name, _ in cases]),
        magnitude=torch.tensor([magnitude for _, magnitude in cases]),
    )
    together = policies.recolour(images, operation)
    for image, ours, (name, magnitude) in zip(images, together, cases, strict=True):
        alone = policies.recolour(image.unsqueeze(0), everywhere(name, magnitude, 1))[0]
        assert torch.equal(ours, alone), name
        assert torch.equal(ours, image) == (name not in ON_COLOUR or (name, magnitude) == ("Posterize", 8)), name


def inside(side: int, steps: list[tuple[str, float]]) -> Tensor:
    """Pixels that the reference takes wholly from within the image: beyond the edge it fills, we repeat the edge."""
    ones = torch.ones(3, side, side)
    for name, magnitude in steps:
        ones = torchvisions(ones, name, magnitude)
    return ones > 0.9999


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("which", [0, 3, 10, 15, 30])
@pytest.mark.parametrize("name", ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
def test_an_operation_on_geometry_is_torchvisions_as_one_resampling(name: str, which: int, negative: bool) -> None:
    images, magnitude = photo(2, 40), policies.magnitudes("trivialaugment", 40)[name][which].item()
    magnitude = -magnitude if negative else magnitude
    ours = augmentation.render(
        images, raw(40), augment(policy="trivialaugment"), draws(2, **wide_draw(name, which, negative=negative))
    )
    mask = inside(40, [(name, magnitude)])
    expected = torch.stack([torchvisions(image / 255, name, magnitude) for image in images])
    assert mask.float().mean() > 0.15
    torch.testing.assert_close(ours[:, mask], expected[:, mask], atol=3e-4, rtol=0)


@pytest.mark.parametrize(
    ("row", "draw", "steps"),
    [
        (1, (0.69, 0.29), [("Rotate", 20 / 3), ("TranslateX", 18.0)]),
        (1, (0.34, 0.14), [("Rotate", -20 / 3), ("TranslateX", -18.0)]),
        (1, (0.71, 0.29), [("TranslateX", 18.0)]),
        (1, (0.69, 0.31), [("Rotate", 20 / 3)]),
        (3, (0.24, 0.69), [("ShearY", -0.3 * 8 / 9), ("TranslateY", 18.0)]),
        (21, (0.46, 0.34), [("TranslateY", 18.0), ("TranslateY", -18.0)]),
        (24, (0.69, 0.89), [("AutoContrast", 0.0), ("TranslateY", 18.0)]),
        (10, (0.34, 0.49), [("Color", -0.7), ("TranslateX", 16.0)]),
        (4, (0.49, 0.89), [("AutoContrast", 0.0), ("Equalize", 0.0)]),
        (7, (0.29, 0.69), [("Sharpness", 0.9), ("Brightness", 0.9)]),
        (13, (0.91, 0.21), []),
    ],
)
def test_a_sub_policy_is_its_operations_one_after_the_other(
    row: int, draw: tuple[float, float], steps: list[tuple[str, float]]
) -> None:
    """Those on colour first, and each only where its draw is below its probability: below half of it, negative."""
    images = photo(2, 40)
    ours = augmentation.render(images, raw(40), augment(policy="autoaugment"), draws(2, **auto_draw(row, *draw)))
    expected = images
    for name, magnitude in steps:
        if name in ON_COLOUR:
            expected = pillows(expected, name, magnitude)
    moves = [step for step in steps if step[0] not in ON_COLOUR]
    pictures = expected / 255
    for name, magnitude in moves:
        pictures = torch.stack([torchvisions(picture, name, magnitude) for picture in pictures])
    mask = inside(40, moves) if row != 21 else torch.ones(3, 40, 40, dtype=torch.bool)
    pictures = expected / 255 if row == 21 else pictures  # there and back: one resampling loses nothing
    torch.testing.assert_close(ours[:, mask], pictures[:, mask], atol=1.1 / 255, rtol=0)
    assert float((ours - pictures).abs()[:, mask].mean()) < 2e-4


def chosen(policy: str, count: int) -> tuple[dict[str, Tensor], list[Operation]]:
    uniform = dict(zip(augmentation.COLUMNS, random_draws(count).T, strict=True))
    return uniform, policies.operations(policy, uniform, 32)


def close(count: int, total: int, probability: float) -> bool:
    return abs(count - total * probability) <= 4 * math.sqrt(total * probability * (1 - probability)) + 1e-9


def test_trivialaugment_draws_one_operation_with_one_magnitude_all_equally_often() -> None:
    _, found = chosen("trivialaugment", 60000)
    assert len(found) == 1
    for name in WIDE:
        magnitudes = found[0].magnitude[found[0].index == OPERATIONS.index(name)]
        assert close(len(magnitudes), 60000, 1 / 14), name
        levels = policies.magnitudes("trivialaugment", 32)[name]
        drawn = Counter(magnitudes.abs().tolist())
        assert set(drawn) == set(levels.tolist())
        if name == "Posterize":
            assert all(close(drawn[bits], len(magnitudes), share / 31) for bits, share in ((8, 3), (5, 5), (2, 3)))
        elif len(levels) > 1:
            assert all(close(number, len(magnitudes), 1 / 31) for number in drawn.values())
            negative, moved = int((magnitudes < 0).sum()), int((magnitudes != 0).sum())
            assert close(negative, moved, 0.5) if name in SIGNED else negative == 0


def test_autoaugment_draws_sub_policies_and_their_operations_with_the_published_probabilities() -> None:
    count = 100_000
    uniform, found = chosen("autoaugment", count)
    rows = (uniform["policy"] * 25).long()
    identity = OPERATIONS.index("Identity")
    for row, sub_policy in enumerate(REFERENCE["autoaugment"]._policies):
        own = rows == row
        total = int(own.sum())
        assert close(total, count, 1 / 25)
        happened = [operation.index[own] != identity for operation in found]
        for operation, happens, (name, probability, which) in zip(found, happened, sub_policy, strict=True):
            assert set(operation.index[own][happens].tolist()) <= {OPERATIONS.index(name)}
            assert close(int(happens.sum()), total, probability), (row, name)
            size = policies.magnitudes("autoaugment", 32)[name][which or 0].item()
            magnitudes = operation.magnitude[own][happens]
            assert set(magnitudes.abs().tolist()) <= {size}
            if name in SIGNED and size:
                assert close(int((magnitudes < 0).sum()), len(magnitudes), 0.5)
            else:
                assert bool((magnitudes >= 0).all())
        both = sub_policy[0][1] * sub_policy[1][1]
        assert close(int((happened[0] & happened[1]).sum()), total, both), "they depend on each other"


def test_the_extreme_draws_stay_within_the_tables() -> None:
    for extreme in (0.0, LARGEST):
        uniform = {name: torch.tensor([extreme]) for name in policies.COLUMNS}
        wide, auto = (policies.operations(policy, uniform, 32) for policy in REFERENCE)
        assert OPERATIONS[wide[0].index] == ("Equalize" if extreme else "Identity")
        assert [OPERATIONS[step.index] for step in auto] == (["Identity"] * 2 if extreme else ["Invert", "Contrast"])
    never = {"policy": torch.tensor([14.5 / 25]), "policy_first": torch.zeros(1), "policy_second": torch.zeros(1)}
    assert OPERATIONS[policies.operations("autoaugment", never, 32)[1].index] == "Identity"  # Invert, probability 0


def test_without_a_policy_its_draws_change_nothing() -> None:
    images, uniform = noise(9, 16), random_draws(9)
    other = uniform.clone()
    other[:, -3:] = random_draws(9, seed=1)[:, -3:]
    first, second = (augmentation.render(images, raw(16), augment(**EVERYTHING), u) for u in (uniform, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("resolution", [16, 24, 40])
def test_a_policy_comes_before_everything_else_on_the_stored_pixels(resolution: int) -> None:
    """An image that it recolours is then cropped, turned, recoloured and erased as any other; also where it shrinks."""
    images, uniform = noise(40, 24), random_draws(40)
    uniform[:, -3] = torch.tensor([wide_draw(name, 20)["policy"] for name in (*COLOURS, "Equalize")]).repeat(8)
    columns = dict(zip(augmentation.COLUMNS, uniform.T, strict=True))
    recoloured = policies.recolour(images, policies.operations("trivialaugment", columns, 24)[0])
    assert bool((recoloured != images).flatten(1).any(1).all())
    ours = augmentation.render(images, raw(resolution), augment(**EVERYTHING, policy="trivialaugment"), uniform)
    assert torch.equal(ours, augmentation.render(recoloured, raw(resolution), augment(**EVERYTHING), uniform))


@pytest.mark.parametrize("resolution", [24, 50])
def test_the_geometry_of_a_policy_comes_before_all_other_geometry_in_the_same_resampling(resolution: int) -> None:
    """Moved by 7 whole pixels first, an image is then cropped, flipped, turned, sheared and zoomed as any other."""
    settings = {name: EVERYTHING[name] for name in ("flip", "crop_padding", "rotation", "translate", "scale", "shear")}
    images, uniform = photo(30, 24), random_draws(30)
    move = draws(30, **wide_draw("TranslateX", 7, negative=True))[:, -3:]  # 7.47 pixels to the left, rounded down
    uniform[:, -3:] = move
    ours = augmentation.render(images, raw(resolution), augment(**settings, policy="trivialaugment"), uniform)
    moved = torch.cat([images[..., 7:], images[..., -1:].expand(-1, -1, -1, 7)], dim=3)
    expected = augmentation.render(moved, raw(resolution), augment(**settings), uniform)
    ones = torch.full_like(images, 255)
    ones[..., :1] = 0  # what lies beyond the left edge repeats it, and the image that moved has other pixels there
    fair = augmentation.render(ones, raw(resolution), augment(**settings), uniform) > 0.9999
    assert fair.float().mean() > 0.7
    torch.testing.assert_close(ours[fair], expected[fair], atol=1e-4, rtol=0)
    assert (ours - augmentation.render(images, raw(resolution), augment(**settings), uniform)).abs().mean() > 0.02


def test_an_image_that_a_policy_leaves_alone_is_bit_equal_to_one_without_it() -> None:
    images, uniform = noise(20, 16), random_draws(20)
    uniform[:, -3:] = draws(20, **wide_draw("Identity", 4))[:, -3:]
    ours = augmentation.render(images, raw(24), augment(**EVERYTHING, policy="trivialaugment"), uniform)
    assert torch.equal(ours, augmentation.render(images, raw(24), augment(**EVERYTHING), uniform))
