"""What EfficientNet costs and which resolutions suit it, computed without building a network.

R pixels per side, S the total stride of the network. Costs are multiply-adds of convolutions and linear layers, as the
paper (arXiv:1905.11946) counts them.
"""

import math

from src.models.efficientnet import B0_TABLE, Stage, layout

IMAGE_CHANNELS = 3
STEM_KERNEL = 3
SQUEEZE = 4  # squeeze-and-excitation has a fourth of a block's input channels


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
