"""TrivialAugment and AutoAugment's CIFAR-10 policy: random operations on each image, as tables over batched operations.

Sources: TrivialAugment (wide), Müller and Hutter, arXiv:2103.10158; AutoAugment, Cubuk et al., arXiv:1805.09501, with
the magnitudes that torchvision gives them. Colour operations have Pillow's arithmetic: whole levels after each of them.
Departures: the geometric operations do not resample, but become part of the one bilinear resampling that all geometry
shares, so that the colour operations of a sub-policy always come before its geometric ones; and beyond the border the
edge goes on, where the papers' code fills with black or grey.

Each image gets its own draw. Every operation is computed for the whole batch in such a way that it changes only the
images whose operation it is: nothing waits for the device, and no step depends on what was drawn.

N images, H x H stored pixels, P sub-policies of S operations, one after the other.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

# The columns of the uniform draws: which sub-policy, and for each of its operations whether it happens and its sign.
COLUMNS = ("policy", "policy_first", "policy_second")
COLOURS = ("Brightness", "Color", "Contrast", "Sharpness")
# Each operation's range, whose ends are the first and the last of so many evenly spaced magnitudes. Units: Shear*, the
# tangent; Translate*, pixels; Rotate, degrees; colours, change of the factor; Posterize, bits that stay; Solarize, the
# level from which on it inverts, 1 being white.
WIDE_BINS = 31
WIDE: dict[str, tuple[float, float] | None] = {
    "Identity": None,
    "ShearX": (0.0, 0.99),
    "ShearY": (0.0, 0.99),
    "TranslateX": (0.0, 32.0),
    "TranslateY": (0.0, 32.0),
    "Rotate": (0.0, 135.0),
    "Brightness": (0.0, 0.99),
    "Color": (0.0, 0.99),
    "Contrast": (0.0, 0.99),
    "Sharpness": (0.0, 0.99),
    "Posterize": (8.0, 2.0),
    "Solarize": (1.0, 0.0),
    "AutoContrast": None,
    "Equalize": None,
}
AUTO_BINS = 10
AUTO: dict[str, tuple[float, float] | None] = {
    "ShearX": (0.0, 0.3),
    "ShearY": (0.0, 0.3),
    "TranslateX": (0.0, 150 / 331),  # of the side
    "TranslateY": (0.0, 150 / 331),
    "Rotate": (0.0, 30.0),
    "Brightness": (0.0, 0.9),
    "Color": (0.0, 0.9),
    "Contrast": (0.0, 0.9),
    "Sharpness": (0.0, 0.9),
    "Posterize": (8.0, 4.0),
    "Solarize": (1.0, 0.0),
    "AutoContrast": None,
    "Equalize": None,
    "Invert": None,
}
OPERATIONS = (*WIDE, "Invert")
# Added before a level is rounded down: less than the tables' finest steps, and more than rounding errors, which would
# decide, differently on each device, where the exact result is a whole level.
MARGIN = 2**-11
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", *COLOURS)

Step = tuple[str, float, int | None]  # operation, probability, which of its magnitudes
# The paper's Table 7, a sub-policy a line; both its operations are applied in turn, each with its probability.
CIFAR10: tuple[tuple[Step, ...], ...] = (
    (("Invert", 0.1, None), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, None), ("Equalize", 0.9, None)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, None), ("Equalize", 0.5, None)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, None), ("AutoContrast", 0.4, None)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, None)),
    (("Equalize", 0.2, None), ("AutoContrast", 0.6, None)),
    (("Equalize", 0.2, None), ("Equalize", 0.6, None)),
    (("Color", 0.9, 9), ("Equalize", 0.6, None)),
    (("AutoContrast", 0.8, None), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, None)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, None), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, None), ("Invert", 0.1, None)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, None)),
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation for each image: its index in OPERATIONS, int64 (N,), and its signed magnitude, float32 (N,)."""

    index: Tensor
    magnitude: Tensor

    def chosen(self, *names: str) -> Tensor:
        """Whether it is one of `names`, (N,)."""
        return torch.stack([self.index == OPERATIONS.index(name) for name in names]).any(0)

    def magnitude_of(self, *names: str, otherwise: float = 0.0) -> Tensor:
        """The magnitude where the operation is one of `names`, (N,)."""
        return torch.where(self.chosen(*names), self.magnitude, otherwise)


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A policy: one row for each equally likely sub-policy, one column for each of its operations; all (P, S)."""

    index: Tensor
    probability: Tensor
    magnitude: Tensor
    other_sign: Tensor  # what half of the draws multiply the magnitude with: -1, or 1 where it has no sign


def magnitudes(policy: str, side: int) -> dict[str, Tensor]:
    """The magnitudes that each operation of `policy` can have, in the units above; [0] where it has none."""
    ranges, bins = (WIDE, WIDE_BINS) if policy == "trivialaugment" else (AUTO, AUTO_BINS)
    found = {}
    for name, bounds in ranges.items():
        low, high = bounds or (0.0, 0.0)
        scale = side if policy == "autoaugment" and name.startswith("Translate") else 1
        found[name] = torch.linspace(low * scale, high * scale, bins if bounds else 1)
    return found | {"Posterize": found["Posterize"].round()}


def sub_policies(policy: str) -> tuple[tuple[Step, ...], ...]:
    """The equally likely sub-policies of `policy`; TrivialAugment's are each operation with each magnitude."""
    if policy == "autoaugment":
        return CIFAR10
    return tuple(((name, 1.0, which if WIDE[name] else None),) for name in WIDE for which in range(WIDE_BINS))


@functools.cache  # a copy from the host would wait for the device at every batch
def _table(policy: str, side: int, device: torch.device) -> _Table:
    known, rows = magnitudes(policy, side), sub_policies(policy)
    column = functools.partial(torch.tensor, device=device)
    return _Table(
        index=column([[OPERATIONS.index(name) for name, _, _ in row] for row in rows]),
        probability=column([[probability for _, probability, _ in row] for row in rows]),
        magnitude=column([[known[name][which or 0].item() for name, _, which in row] for row in rows]),
        other_sign=column([[-1.0 if name in SIGNED else 1.0 for name, _, _ in row] for row in rows]),
    )


def operations(policy: str, uniform: dict[str, Tensor], side: int) -> list[Operation]:
    """What `policy` does to each image, operation by operation.

    Args:
        uniform: numbers in [0, 1) of shape (N,) by the names of COLUMNS.
    """
    table = _table(policy, side, uniform["policy"].device)
    row = (uniform["policy"] * len(table.index)).long()  # (N,)
    found = []
    for step, column in zip(range(table.index.shape[1]), COLUMNS[1:], strict=False):
        number, probability = uniform[column], table.probability[row, step]
        index = torch.where(number < probability, table.index[row, step], OPERATIONS.index("Identity"))
        sign = torch.where(2 * number < probability, table.other_sign[row, step], 1.0)  # of those that happen, half
        found.append(Operation(index=index, magnitude=sign * table.magnitude[row, step]))
    return found


def apply(images: Tensor, policy: str, uniform: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Images with `policy`'s colour operations, and where its geometric ones take each pixel from.

    Args:
        images: uint8 (N, 3, H, H).
        policy: trivialaugment or autoaugment.
        uniform: numbers in [0, 1) of shape (N,) by the names of COLUMNS.

    Returns:
        uint8 (N, 3, H, H), and affine maps from output to input coordinates in [-1, 1], (N, 2, 3).
    """
    side = images.shape[-1]
    affine = torch.eye(2, 3, device=images.device)
    for operation in operations(policy, uniform, side):
        images = recolour(images, operation)
        affine = compose(affine, sampling_matrices(operation, side))
    return images, affine


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The affine map `outer(inner(.))`, (N, 2, 3), without a matrix product: a GPU may round its factors to TF32."""
    product = (outer[..., :2].unsqueeze(-1) * inner.unsqueeze(-3)).sum(-2)
    return torch.cat([product[..., :2], product[..., 2:] + outer[..., 2:]], dim=-1)


def sampling_matrices(operation: Operation, side: int) -> Tensor:
    """Affine maps from output to input coordinates in [-1, 1], (N, 2, 3); the identity for operations on colour.

    As torchvision has them: shears leave the top row or the left column where it is, rotation is about the centre and
    counter-clockwise, and translation is by whole pixels, rounded towards 0.
    """
    shear_x, shear_y = operation.magnitude_of("ShearX"), operation.magnitude_of("ShearY")
    move_x, move_y = (operation.magnitude_of(f"Translate{axis}").trunc() * (2 / side) for axis in "XY")
    angle = operation.magnitude_of("Rotate") * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    entries = [cos, shear_x - sin, shear_x - move_x, shear_y + sin, cos, shear_y - move_y]
    return torch.stack(entries, dim=1).view(-1, 2, 3)


def recolour(images: Tensor, operation: Operation) -> Tensor:
    """`images` (uint8, N, 3, H, H) after `operation`; those whose operation is geometric are bit-equal.

    Most operations send equal levels to equal levels: they are one look-up. Color and Sharpness follow, as a blend.
    All are computed on whole numbers below 2**24, which float32 holds exactly, and vectorises best.
    """
    pixels = images.float()
    grey = _grey(pixels)  # (N, 1, H, H)
    sharpness = operation.chosen("Sharpness").view(-1, 1, 1, 1)
    dull = torch.where(sharpness, _blurred(pixels), grey)  # (N, 3, H, H)
    levels = images.flatten(2).long()
    looked_up = _tables(images, levels, grey, operation).gather(2, levels).view_as(pixels)
    factor = 1 + operation.magnitude_of("Color", "Sharpness").view(-1, 1, 1, 1)
    return dull.lerp_(looked_up, factor).add_(MARGIN).clamp_(0, 255).to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    """Luma in whole levels, as Pillow computes it, (N, 1, H, H)."""
    red, green, blue = pixels.unbind(1)
    scaled = red.mul(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(2**15)
    return scaled.mul_(2**-16).floor_().unsqueeze(1)


def _blurred(pixels: Tensor) -> Tensor:
    """Pillow's SMOOTH filter: a mean of 3 x 3 pixels where the middle counts 5 times; the border stays."""
    rows = (pixels[..., :-2, :] + pixels[..., 1:-1, :]).add_(pixels[..., 2:, :])
    around = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    blurred = pixels.clone()
    inner = blurred[..., 1:-1, 1:-1]
    inner.mul_(4).add_(around).mul_(1 / 13).round_()
    return blurred


def _tables(images: Tensor, levels: Tensor, grey: Tensor, operation: Operation) -> Tensor:
    """What `operation` makes of each level in each channel, whole (N, 3, 256); itself where that is no look-up."""
    every = torch.arange(256, dtype=torch.float32, device=images.device)
    step = 1 << (8 - operation.magnitude_of("Posterize", otherwise=8.0)).int().unsqueeze(1)  # (N, 1)
    inverts_from = torch.where(operation.chosen("Invert"), 0, 255 * operation.magnitude_of("Solarize", otherwise=2.0))
    table = (every / step).floor_().mul_(step)
    table = torch.where(table >= inverts_from.unsqueeze(1), 255 - table, table)  # (N, 256)
    mean = (grey.mean((1, 2, 3)) + 0.5).floor_()
    centre = torch.where(operation.chosen("Contrast"), mean, 0).unsqueeze(1)
    factor = 1 + operation.magnitude_of("Brightness", "Contrast").unsqueeze(1)
    table = torch.lerp(centre, table, factor).unsqueeze(1)  # (N, 1, 256)
    low, high = (extreme.unsqueeze(2) for extreme in (images.amin((2, 3)), images.amax((2, 3))))  # (N, 3, 1)
    stretched = torch.where(high > low, 255 * (every - low) / (high - low), every)
    table = torch.where(operation.chosen("AutoContrast").view(-1, 1, 1), stretched, table)
    table = torch.where(operation.chosen("Equalize").view(-1, 1, 1), _equalizing(levels, high.long()), table)
    return table.add_(MARGIN).clamp_(0, 255).floor_()


def _equalizing(levels: Tensor, highest: Tensor) -> Tensor:
    """Tables (N, 3, 256) that spread `levels` (N, 3, pixels) evenly, as Pillow does; `highest` is (N, 3, 1)."""
    ones = torch.ones(1, dtype=torch.int32, device=levels.device).expand_as(levels)
    counts = ones.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, ones)
    step = ((levels.shape[2] - counts.gather(2, highest)) // 255).float()  # (N, 3, 1)
    below = (counts.cumsum(2, dtype=torch.int32) - counts).float()
    every = torch.arange(256, dtype=torch.float32, device=levels.device)
    return torch.where(step > 0, (below + (step / 2).floor_()).div_(step).floor_(), every)
