"""Compound scaling (Tan & Le, arXiv:1905.11946): the equations, and EfficientNet at any depth, width and resolution.

d and w are the multipliers of depth and width relative to EfficientNet-B0, R the pixels per side of its input, S the
total stride of the network. Costs are multiply-adds of convolutions and linear layers, as the paper counts them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import nn
from torchvision.models.efficientnet import EfficientNet, MBConvConfig


class Stage(NamedTuple):
    """A row of the paper's Table 1: `layers` inverted residual blocks, the first with `stride` and `input_channels`."""

    expansion: int
    kernel: int
    stride: int
    input_channels: int
    output_channels: int
    layers: int


B0_TABLE = (
    Stage(1, 3, 1, 32, 16, 1),
    Stage(6, 3, 2, 16, 24, 2),
    Stage(6, 5, 2, 24, 40, 2),
    Stage(6, 3, 2, 40, 80, 3),
    Stage(6, 5, 1, 80, 112, 3),
    Stage(6, 5, 2, 112, 192, 4),
    Stage(6, 3, 1, 192, 320, 1),
)
IMAGE_CHANNELS = 3
B0_LAST_CHANNELS = 1280
CHANNEL_MULTIPLE = 8
STEM_KERNEL = 3
SQUEEZE = 4  # squeeze-and-excitation has a fourth of a block's input channels
BASES = {"efficientnet_b0": (1.0, 1.0), "efficientnet_pico": (0.5, 0.5)}  # depth and width relative to B0
DIGITS = 9  # of a product that is rounded up: 1.1 * 10 is 11.000000000000002 in floats, but 11 layers


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """The paper's equation 3: the bases of depth alpha**phi, width beta**phi and resolution gamma**phi."""

    alpha: float
    beta: float
    gamma: float

    @property
    def growth(self) -> float:
        """What one step of phi multiplies the cost by, roundings aside; the paper wants about 2."""
        return self.alpha * self.beta**2 * self.gamma**2


PAPER = Coefficients(alpha=1.2, beta=1.1, gamma=1.15)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One of B0...B7: multipliers and dropout, and the resolution of the authors' code (torchvision: 288 for B2)."""

    depth: float
    width: float
    resolution: int
    dropout: float


PUBLISHED = {
    "efficientnet_b0": Published(depth=1.0, width=1.0, resolution=224, dropout=0.2),
    "efficientnet_b1": Published(depth=1.1, width=1.0, resolution=240, dropout=0.2),
    "efficientnet_b2": Published(depth=1.2, width=1.1, resolution=260, dropout=0.3),
    "efficientnet_b3": Published(depth=1.4, width=1.2, resolution=300, dropout=0.3),
    "efficientnet_b4": Published(depth=1.8, width=1.4, resolution=380, dropout=0.4),
    "efficientnet_b5": Published(depth=2.2, width=1.6, resolution=456, dropout=0.4),
    "efficientnet_b6": Published(depth=2.6, width=1.8, resolution=528, dropout=0.5),
    "efficientnet_b7": Published(depth=3.1, width=2.0, resolution=600, dropout=0.5),
}
# torchvision's B5, B6 and B7, whose weights come from the authors' TensorFlow, have its epsilon and momentum.
TENSORFLOW_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
TENSORFLOW_NORMED = ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")


class Layout(NamedTuple):
    """A network after rounding: two multipliers with equal layouts give the same network."""

    stages: tuple[Stage, ...]
    last_channels: int


def factors(coefficients: Coefficients, phi: float) -> tuple[float, float, float]:
    """Depth, width and resolution relative to the base (equation 3)."""
    return coefficients.alpha**phi, coefficients.beta**phi, coefficients.gamma**phi


def layout(depth: float, width: float) -> Layout:
    """B0's table at multipliers `depth` and `width`, rounded as the authors' code does; the stem has the first input.

    Layers are rounded up; channels to the nearest multiple of 8 that keeps 90 % of them. torchvision makes the last
    channels four times the last stage's instead, which is the same for B0...B7.
    """
    stages = tuple(
        stage._replace(
            input_channels=_channels(stage.input_channels, width),
            output_channels=_channels(stage.output_channels, width),
            layers=math.ceil(round(depth * stage.layers, DIGITS)),
        )
        for stage in B0_TABLE
    )
    return Layout(stages=stages, last_channels=_channels(B0_LAST_CHANNELS, width))


def _channels(channels: int, width: float) -> int:
    wanted = round(channels * width, DIGITS)
    rounded = max(CHANNEL_MULTIPLE, int(wanted + CHANNEL_MULTIPLE / 2) // CHANNEL_MULTIPLE * CHANNEL_MULTIPLE)
    return rounded if rounded >= 0.9 * wanted else rounded + CHANNEL_MULTIPLE


def build(
    *,
    depth: float,
    width: float,
    classes: int,
    dropout: float,
    stochastic_depth: float = 0.2,
    stem_stride: int = 2,
    norm_layer: Callable[..., nn.Module] | None = None,
) -> EfficientNet:
    """EfficientNet with random weights: images float32 (N, 3, R, R) -> logits float32 (N, classes).

    `stochastic_depth` is the probability that the last block is left out; it falls linearly to 0 at the first.
    A `stem_stride` of 1 (small images) makes every map twice as large; parameters and state-dict keys stay the same.
    """
    rounded = layout(depth, width)
    network = EfficientNet(
        [MBConvConfig(*stage) for stage in rounded.stages],  # whose multipliers of 1 leave multiples of 8 alone
        dropout=dropout,
        stochastic_depth_prob=stochastic_depth,
        num_classes=classes,
        norm_layer=norm_layer,
        last_channel=rounded.last_channels,
    )
    network.features[0][0].stride = (stem_stride, stem_stride)
    return network


def build_published(name: str, *, classes: int = 1000) -> EfficientNet:
    """B0...B7 as torchvision builds them: its weights load strictly, and outputs are bit-equal."""
    published = PUBLISHED[name]
    return build(
        depth=published.depth,
        width=published.width,
        classes=classes,
        dropout=published.dropout,
        norm_layer=TENSORFLOW_NORM if name in TENSORFLOW_NORMED else None,
    )


def multiply_adds(*, depth: float, width: float, resolution: int, stem_stride: int = 2, classes: int) -> int:
    """Of one image's forward pass, convolutions and linear layers alone, without building the network."""
    stages, last_channels = layout(depth, width)
    side = _halved(resolution, stem_stride)
    total = side**2 * STEM_KERNEL**2 * IMAGE_CHANNELS * stages[0].input_channels
    for stage in stages:
        reduced = _halved(side, stage.stride)
        total += _block(stage, stage.input_channels, side, reduced)
        total += (stage.layers - 1) * _block(stage, stage.output_channels, reduced, reduced)
        side = reduced
    return total + side**2 * stages[-1].output_channels * last_channels + last_channels * classes


def _block(stage: Stage, channels: int, side: int, reduced: int) -> int:
    """An inverted residual block: expansion of `channels`, depthwise kernel, squeeze-and-excitation, projection."""
    expanded = channels * stage.expansion
    expansion = side**2 * channels * expanded if stage.expansion > 1 else 0
    depthwise = reduced**2 * stage.kernel**2 * expanded
    squeeze = 2 * expanded * max(1, channels // SQUEEZE)
    return expansion + depthwise + squeeze + reduced**2 * expanded * stage.output_channels


def _halved(side: int, stride: int) -> int:
    """The side of the map that a padded convolution of odd kernel makes."""
    return -(-side // stride)


def total_stride(stem_stride: int) -> int:
    """S: the pixels per side of the image behind one pixel of the last map."""
    return stem_stride * math.prod(stage.stride for stage in B0_TABLE)


def suitable(resolution: float, *, base: int, stem_stride: int) -> int:
    """The suitable resolution nearest to `resolution`, of two equally near the larger.

    Suitable are the multiples of S / 2 from S on (the last map alone is rounded up), and `base` itself from S on.
    """
    stride = total_stride(stem_stride)
    half = stride // 2
    below = max(stride, math.floor(resolution / half) * half)
    choices = {below, below + half} | ({base} if base >= stride else set())
    return min(choices, key=lambda choice: (abs(choice - resolution), -choice))


def check_resolution(resolution: int, *, stem_stride: int, name: str) -> None:
    """Refuse a resolution at which the last map is no whole pixel.

    Raises:
        ValueError: `resolution`, the value of the key `name`, is below S.
    """
    stride = total_stride(stem_stride)
    if resolution < stride:
        raise ValueError(
            f"{name}: {resolution} is too small; allowed: {stride} or more, "
            f"since the network's strides, the stem's of {stem_stride} among them, make one pixel out of {stride}"
        )
