"""Images as the network sees them: batched augmentation, resizing and normalisation on the device, as pure functions.

All geometry (crop, flip, rotation, translation, zoom, shear, and scaling to the resolution) is one affine matrix per
image and one resampling, bilinear or as the view has it; all colour (brightness, contrast, saturation, hue) is one
affine matrix per image in RGB space, as in StyleGAN2-ADA (Karras et al., arXiv:2006.06676, appendix B). Colour and
normalisation run at the stored size, where images are small: they commute with resampling, whose weights sum to 1. The
random operations of a policy (src/images/policies.py) come before all of it, and their geometry is part of the same
matrix.

N images, H = W stored pixels per side, R resolution, C = 3 channels.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from src.images import policies
from src.interface.params import Augment

# The columns of the uniform draws that decide one image's augmentation.
OWN_COLUMNS = (
    *("flip", "crop_x", "crop_y", "rotation", "translate_x", "translate_y", "scale", "shear"),
    *("brightness", "contrast", "saturation", "hue"),
    *("erase", "erase_area", "erase_ratio", "erase_x", "erase_y"),
)
COLUMNS = OWN_COLUMNS + policies.COLUMNS
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
ERASED_AREA = (0.02, 0.33)  # fraction of the image and height / width, after Zhong et al., arXiv:1708.04896
ERASED_RATIO = (0.3, 3.3)
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class View:
    """What a network expects of its input: pixels per side, the mean and deviation of each channel in [0, 1], and how
    pixels are resampled. Of bicubic samples, which overshoot, none is clamped."""

    resolution: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bilinear"


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1) that decide the augmentation of `count` images, shape (N, len(COLUMNS)), on the CPU."""
    drawn = [torch.rand(count, len(names), generator=generator) for names in (OWN_COLUMNS, policies.COLUMNS)]
    return torch.cat(drawn, dim=1)  # one after the other, so that the policies' draws move none of the others


def render(images: Tensor, view: View, augment: Augment | None = None, draws: Tensor | None = None) -> Tensor:
    """Network input from stored images: augmented when `augment` and `draws` are given, otherwise clean.

    Both go through the same resampling: with every setting of `augment` off, the result is bit-equal to the clean one.

    Args:
        images: uint8 of shape (N, 3, H, H).
        view: resolution R and normalisation of the result.
        augment: how strong each random change is.
        draws: uniform numbers of shape (N, len(COLUMNS)), from `draw`.

    Returns:
        float32 of shape (N, 3, R, R), normalised.
    """
    side, device = images.shape[-1], images.device
    uniform = None if augment is None or draws is None else dict(zip(COLUMNS, draws.T, strict=True))
    before = None  # where a policy's geometry takes pixels from
    if augment and uniform and augment.policy != "none":
        images, before = policies.apply(images, augment.policy, uniform)
    pixels = images.float().div_(255)  # (N, 3, H, H)
    if side > view.resolution:  # the resampling below reads 2 x 2 neighbours: shrinking with it alone would alias
        shrunk, how = view.resolution, view.interpolation
        pixels = F.interpolate(pixels, size=shrunk, mode=how, antialias=True, align_corners=False)
    if augment and uniform and (augment.brightness or augment.contrast or augment.saturation or augment.hue):
        pixels = _recolour(pixels, *_colour_matrices(pixels.mean((2, 3)), augment, uniform))
    mean, std = (_constant(values, device).view(1, 3, 1, 1) for values in (view.mean, view.std))
    pixels = pixels.sub_(mean).div_(std)
    if augment and uniform:
        affine = _sampling_matrices(augment, uniform, side)
    else:
        affine = torch.eye(2, 3, device=device).unsqueeze(0)
    if before is not None:
        affine = policies.compose(before, affine)
    pixels = _resample(pixels, affine, view)
    if augment and uniform and augment.erase_probability:
        pixels = _erase(pixels, augment.erase_probability, uniform)
    return pixels


@functools.cache  # a copy from the host would wait for the device at every batch
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)


def _between(bounds: tuple[float, float], uniform: Tensor) -> Tensor:
    low, high = bounds
    return low + (high - low) * uniform


def _around(centre: float, strength: float, uniform: Tensor) -> Tensor:
    return centre + strength * (2 * uniform - 1)


def _resample(pixels: Tensor, affine: Tensor, view: View) -> Tensor:
    """Samples of (N, C, H, H) on the grid of `view`, moved by `affine` (N or 1, 2, 3); the edge goes on beyond."""
    resolution = view.resolution
    centres = (2 * torch.arange(resolution, device=pixels.device) + 1) / resolution - 1  # of output pixels, in [-1, 1]
    # As complex numbers x + iy, all coordinates come from one broadcast addition: 20 times as fast as stacking x and y.
    per_x, per_y, offset = torch.view_as_complex(affine.mT.contiguous()).unsqueeze(2).unbind(1)  # (N, 1) each
    across, down = per_x * centres, per_y * centres + offset  # (N, R)
    grid = torch.view_as_real(across.unsqueeze(1) + down.unsqueeze(2))  # (N or 1, R, R, 2)
    return F.grid_sample(
        pixels,
        grid.expand(len(pixels), -1, -1, -1),
        mode=view.interpolation,
        padding_mode="border",
        align_corners=False,
    )


def _sampling_matrices(augment: Augment, uniform: dict[str, Tensor], side: int) -> Tensor:
    """Affine maps from output to input coordinates in [-1, 1], shape (N, 2, 3).

    As random crop with padding, horizontal flip, then rotation, shear and zoom about the centre and translation, read
    backwards: a sampler asks where each output pixel comes from.
    """
    angle = torch.deg2rad(_around(0, augment.rotation, uniform["rotation"]))
    shear = torch.tan(torch.deg2rad(_around(0, augment.shear, uniform["shear"])))
    zoom = _around(1, augment.scale, uniform["scale"])
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # inverse of rotation @ shear @ zoom, where shear = [[1, tan], [0, 1]]
    linear = torch.stack([cos + shear * sin, sin - shear * cos, -sin, cos], dim=1).view(-1, 2, 2)
    moved = torch.stack([_around(0, 2 * augment.translate, uniform[f"translate_{axis}"]) for axis in "xy"], dim=1)
    offset = -(linear @ moved.unsqueeze(2))  # (N, 2, 1)
    if augment.flip:
        sign = torch.where(uniform["flip"] < 0.5, -1.0, 1.0)
        mirror = torch.stack([sign, torch.ones_like(sign)], dim=1).unsqueeze(2)  # (N, 2, 1)
        linear, offset = mirror * linear, mirror * offset
    steps = 2 * augment.crop_padding + 1
    crop = torch.stack([(uniform[f"crop_{axis}"] * steps).floor() - augment.crop_padding for axis in "xy"], dim=1)
    return torch.cat([linear, offset + (2 / side) * crop.unsqueeze(2)], dim=2)


def _colour_matrices(mean: Tensor, augment: Augment, uniform: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Colour maps `rgb -> matrix @ rgb + offset`, (N, 3, 3) and (N, 3, 1); `mean` is each image's colour (N, 3).

    Brightness, contrast and saturation are the blends that PIL and torchvision make, hue is a rotation about the grey
    axis (theirs shifts the hue of HSV); they apply in this order, and clamp once at the end instead of after each.
    """
    eye = torch.eye(3, device=mean.device)
    ones = torch.ones(3, 1, device=mean.device)
    to_grey = ones @ _constant(GREY, mean.device).unsqueeze(0)  # (3, 3): every channel becomes the luma
    brightness, contrast, saturation = (
        _around(1, getattr(augment, name), uniform[name]).view(-1, 1, 1)
        for name in ("brightness", "contrast", "saturation")
    )
    offset = (1 - contrast) * (to_grey @ (brightness * mean.unsqueeze(2)))  # (N, 3, 1): towards the mean grey
    angle = 2 * math.pi * _around(0, augment.hue, uniform["hue"]).view(-1, 1, 1)
    cross = _constant((0.0, -1, 1, 1, 0, -1, -1, 1, 0), mean.device).view(3, 3) / math.sqrt(3)
    turn = angle.cos() * eye + angle.sin() * cross + (1 - angle.cos()) / 3  # Rodrigues' rotation about (1, 1, 1)
    last = turn @ (saturation * eye + (1 - saturation) * to_grey)  # (N, 3, 3)
    return last * (contrast * brightness), last @ offset


def _recolour(pixels: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    flat = torch.baddbmm(offset, matrix, pixels.flatten(2))  # (N, 3, H * H)
    return flat.clamp_(0, 1).view_as(pixels)


def _erase(pixels: Tensor, probability: float, uniform: dict[str, Tensor]) -> Tensor:
    """Set a random rectangle of some images to the mean colour, 0 after normalisation (arXiv:1708.04896)."""
    resolution = pixels.shape[-1]
    area = _between(ERASED_AREA, uniform["erase_area"])
    ratio = _between((math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])), uniform["erase_ratio"]).exp()
    chosen = uniform["erase"] < probability
    masks = []
    for axis, extent in (("x", (area / ratio).sqrt()), ("y", (area * ratio).sqrt())):
        length = (extent * resolution).round().clamp(1, resolution)
        start = (uniform[f"erase_{axis}"] * (resolution - length + 1)).floor()
        position = torch.arange(resolution, device=pixels.device)
        masks.append((position >= start.unsqueeze(1)) & (position < (start + length).unsqueeze(1)))  # (N, R)
    across, down = masks
    erased = (chosen.view(-1, 1, 1) & down.unsqueeze(2)) & across.unsqueeze(1)  # (N, R, R)
    return pixels.mul_(~erased.unsqueeze(1))  # twice as fast as masked_fill_ on a CPU
