"""What the network sees, made visible again, is what was stored."""

import torch

from src.images.augmentation import View, render
from src.images.showing import shown


def test_clean_images_at_their_own_size_come_back_as_they_were():
    images = torch.randint(0, 256, (5, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    view = View(resolution=9, mean=(0.4, 0.5, 0.3), std=(0.2, 0.3, 0.25))
    assert torch.equal(shown(render(images, view), view), images)


def test_what_a_network_sees_beyond_black_and_white_is_black_and_white():
    view = View(resolution=2, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    inputs = torch.full((1, 3, 2, 2), 1.5)
    inputs[..., 0] = -1.5
    assert shown(inputs, view)[0, 0].tolist() == [[0, 255], [0, 255]]
