"""A network's inputs as images that a person can look at. N images, R x R pixels."""

import torch
from torch import Tensor

from src.images.augmentation import View


def shown(inputs: Tensor, view: View) -> Tensor:
    """Inputs float32 (N, 3, R, R), as `augmentation.render` makes them for `view`, as images again: uint8, alike."""
    mean, std = (inputs.new_tensor(values).view(1, 3, 1, 1) for values in (view.mean, view.std))
    return (inputs * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
