"""Images of the dataset as small pictures of the page. C channels, H x W pixels, P x P places."""

from io import BytesIO
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

SIDE = 96  # pixels, at most, of an image as it is shown
SMALL = 64  # up to so many pixels a side it is kept without loss
MARK = (213, 94, 0)  # what speaks for an answer, in the palette's vermilion
OPAQUE = 0.7  # of the mark, where most speaks for it


def thumbnail(image: Tensor) -> bytes:
    """An image, uint8 (C, H, W), as PNG; a large one shrunk to SIDE, as JPEG."""
    pixels: Any = image.permute(1, 2, 0).contiguous().numpy()
    drawn = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    drawn.thumbnail((SIDE, SIDE))
    with BytesIO() as file:
        if max(drawn.size) <= SMALL:
            drawn.save(file, format="PNG", optimize=True)
        else:
            drawn.save(file, format="JPEG", quality=85)
        return file.getvalue()


def strip(images: Tensor) -> bytes:
    """Images, uint8 (N, C, H, W), side by side as one picture."""
    side = min(images.shape[-1], SMALL)
    shrunk = F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True).round().to(torch.uint8)
    row = torch.cat(shrunk.unbind(), dim=2)
    pixels: Any = row.permute(1, 2, 0).contiguous().numpy()
    with BytesIO() as file:
        Image.fromarray(pixels).save(file, format="JPEG", quality=88)
        return file.getvalue()


def marked(image: Tensor, fall: Tensor) -> Tensor:
    """An image, uint8 (3, H, W), at SIDE pixels or more, with the places whose hiding costs most laid over it.

    Args:
        fall: float32 (P, P), as of `occlusion.occlusion_maps`; what is not above 0 marks nothing.
    """
    large = F.interpolate(image[None].float(), scale_factor=max(1, round(SIDE / image.shape[-1])), mode="nearest")
    share = fall.clamp(min=0) / fall.max().clamp(min=1e-6)
    opacity = OPAQUE * F.interpolate(share[None, None], size=large.shape[-2:], mode="bilinear", align_corners=True)
    mark = large.new_tensor(MARK).view(1, 3, 1, 1)
    return ((1 - opacity) * large + opacity * mark).round().to(torch.uint8)[0]
