"""Averaging over mirrored images: the mean by hand, and the network that the stage loads."""

from dataclasses import replace

import pytest
import torch

from src.training import fitting
from src.transfer import finetuning, flips
from tests.builders.small import CHOSEN, convolutional, finetune_settings, images, load, same_state


def test_the_softmax_is_the_mean_of_both_views() -> None:
    network, plain = convolutional(), images(20)
    found = flips.averaged(network, plain, finetune_settings())
    mirrored = replace(plain, images=plain.images.flip(3))
    views = [fitting.predict(network, each, 8).softmax(1) for each in (plain, mirrored)]
    assert not torch.allclose(*views)
    torch.testing.assert_close(found.softmax(1), (views[0] + views[1]) / 2)


def test_mirrored_images_have_the_same_mean() -> None:
    network, plain = convolutional(), images(20)
    mirrored = replace(plain, images=plain.images.flip(3))
    both = [flips.averaged(network, each, finetune_settings()) for each in (plain, mirrored)]
    torch.testing.assert_close(*both)


def test_the_network_that_is_restored_is_the_one_that_was_kept() -> None:
    head = finetuning.build_head("deep", width=640, classes=4, dropout=0.3, seed=9).state_dict()
    whole = finetuning.assemble(load(seed=1), CHOSEN, head, finetune_settings(), classes=4, seed=0)
    again = flips.restored(load(seed=2), CHOSEN, fitting.weights(whole), classes=4)
    assert same_state(again.state_dict(), whole.state_dict())
    first, second = (fitting.predict(each, images(6, resolution=64), 6) for each in (whole, again))
    assert torch.equal(first, second)


def test_the_state_of_another_network_is_refused() -> None:
    with pytest.raises(RuntimeError, match="head"):
        flips.restored(load(), CHOSEN, {}, classes=4)
