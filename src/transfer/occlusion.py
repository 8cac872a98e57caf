"""What a network's answer rests on: how much less sure of it the network is when a part of the image is hidden.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), 4.2. Unlike maps of
gradients or activations it is as fine at 32 pixels as at 224, where the last maps of a network are a few cells wide.
N images, K classes, H x H stored pixels, P x P places of the patch.
"""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH, STEP = 4, 8  # the patch is a fourth of the side wide, and moves by an eighth


def occlusion_maps(predict: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor) -> Tensor:
    """By how many nats the log-probability of a class falls with the patch at each place, float32 (N, P, P).

    The patch has the image's mean colour. Above 0, what it hides speaks for the class; below 0, against it.

    Args:
        predict: logits (N, K) of images uint8 (N, 3, H, H).
        images: uint8 (N, 3, H, H).
        classes: int64 (N,), the class in question of each image.
    """
    side = images.shape[-1]
    width, starts = max(1, side // PATCH), places(side)
    grey = images.float().mean(dim=(2, 3), keepdim=True).round().to(torch.uint8)  # (N, 3, 1, 1)
    whole = _sure(predict(images), classes)
    falls = []
    for top, left in product(starts, starts):
        hidden = images.clone()
        hidden[..., top : top + width, left : left + width] = grey
        falls.append(whole - _sure(predict(hidden), classes))
    return torch.stack(falls, dim=1).view(len(images), len(starts), len(starts))


def places(side: int) -> list[int]:
    """Where the patch begins, along either side of an image."""
    return list(range(0, side - max(1, side // PATCH) + 1, max(1, side // STEP)))


def _sure(logits: Tensor, classes: Tensor) -> Tensor:
    """Log-probability of each image's class, (N,)."""
    return F.log_softmax(logits.float(), dim=1).gather(1, classes[:, None]).squeeze(1)
