"""EfficientNet at any depth and width: the paper's table (Tan & Le, arXiv:1905.11946), its rounding, and B0 to B7.

d and w are the multipliers of depth and width relative to EfficientNet-B0.
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
B0_LAST_CHANNELS = 1280
CHANNEL_MULTIPLE = 8
BASES = {"efficientnet_b0": (1.0, 1.0), "efficientnet_pico": (0.5, 0.5)}  # depth and width relative to B0
DIGITS = 9  # of a product that is rounded up: 1.1 * 10 is 11.000000000000002 in floats, but 11 layers


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
