"""How alike two images are, pixel by pixel, whatever their brightness, contrast, mirroring and a small shift.

Compared are details: what differs from the neighbourhood's mean. Seas under skies are alike without being copies.

No training stage imports this module: editing it retrains nothing.
N images, C channels, H x W pixels, S x S at most SIDE, P pairs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # pixels at which two images are compared
SHIFT = 2  # of these, each way, by which one may be moved
COARSE = 8  # pixels per side at which most pairs are seen to differ
PART = 256  # pairs at a time: all shifts of them take 20 MB
_GREY = torch.tensor([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)


def grey(images: Tensor) -> Tensor:
    """float32 (N, S, S): images as grey ones of SIDE pixels per side, smaller ones as they are.

    Args:
        images: uint8 (N, 3, H, W).
    """
    parts = []
    for some in images.split(4 * PART):
        shades = torch.einsum("nchw,c->nhw", some.float(), _GREY.to(some.device))
        parts.append(F.adaptive_avg_pool2d(shades, min(SIDE, images.shape[-1])))
    return torch.cat(parts)


def coarse(shades: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of each pair at COARSE pixels per side, (P,), and whether of the second one mirrored, bool (P,)."""
    side = min(COARSE, shades.shape[-1])
    small = F.adaptive_avg_pool2d(shades, side)
    plain, mirrored = _standard(small.flatten(1)), _standard(small.flip(2).flatten(1))
    pairs = list(zip(first.split(16 * PART), second.split(16 * PART), strict=True))
    straight, turned = (torch.cat([(plain[a] * other[b]).sum(1) for a, b in pairs]) for other in (plain, mirrored))
    return torch.maximum(straight, turned), turned > straight


def details(shades: Tensor) -> Tensor:
    """`shades` less their mean over about a quarter of a side around each pixel, (N, S, S)."""
    width = 1 + 2 * (shades.shape[-1] // 8)
    blurred = [F.avg_pool2d(some, width, 1, width // 2, count_include_pad=False) for some in shades.split(4 * PART)]
    return shades - torch.cat(blurred)


def likeness(found: Tensor, first: Tensor, second: Tensor, mirrored: Tensor) -> Tensor:
    """The largest correlation of the middle of `first` with `second`, moved by SHIFT at most, (P,).

    1 for the same, but for brightness and contrast; about 0 for what has nothing in common.

    Args:
        found: float32 (N, S, S), `details`.
        mirrored: bool (P,): whether `second` is to be mirrored.
    """
    parts = zip(*(each.split(PART) for each in (first, second, mirrored)), strict=True)
    return torch.cat(
        [_shifted(found[a], torch.where(turned.view(-1, 1, 1), found[b].flip(2), found[b])) for a, b, turned in parts]
    )


def _shifted(ones: Tensor, others: Tensor) -> Tensor:
    shift = min(SHIFT, (ones.shape[-1] - 1) // 4)
    side = ones.shape[-1] - 2 * shift
    middle = _standard(ones[:, shift : shift + side, shift : shift + side].flatten(1))  # (P, side^2)
    moved = others.unfold(1, side, 1).unfold(2, side, 1)  # (P, moves, moves, side, side)
    moved = _standard(moved.flatten(3).flatten(1, 2))  # (P, moves^2, side^2)
    return torch.einsum("pmk,pk->pm", moved, middle).amax(1)


def _standard(values: Tensor) -> Tensor:
    """Along the last axis mean 0 and length 1; all 0 where every value is the same."""
    values = values - values.mean(-1, keepdim=True)
    return F.normalize(values, dim=-1, eps=1e-3)
