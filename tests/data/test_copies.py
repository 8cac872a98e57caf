"""Copies are found by what they show: against a plain loop over pairs, and by how often photographs are mistaken."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn
from sklearn.datasets import load_sample_images
from torch import Tensor

from src.data import copies
from tests.builders.small import noise, photo


def plain_scenes(hashes: list[int]) -> list[int]:
    """The first image of each one's scene, by loops."""
    scene = list(range(len(hashes)))
    for i, one in enumerate(hashes):
        for j, other in enumerate(hashes):
            if (one ^ other).bit_count() <= copies.NEAR:
                first, second = sorted((scene[i], scene[j]))
                scene = [first if each == second else each for each in scene]
    return scene


@given(
    bases=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 62), max_size=12)), min_size=1, max_size=25),
    at_once=st.sampled_from([1, 7, 2**18]),
)
def test_scenes_are_those_of_a_loop_over_all_pairs_however_many_are_compared_at_once(
    bases: list[int], flips: list[tuple[int, set[int]]], at_once: int
) -> None:
    hashes = [bases[base % len(bases)] ^ sum(1 << bit for bit in bits) for base, bits in flips]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "PAIRS_AT_ONCE", at_once)
        patch.setattr(copies, "perceptual_hashes", lambda images: np.array(hashes, np.uint64))
        assert copies.scenes(torch.zeros(len(hashes), 3, 4, 4)).tolist() == plain_scenes(hashes)


def test_the_hash_is_that_of_the_cosine_coefficients_of_scipy() -> None:
    """Of an image of many pixels, for which the integral over a pixel and the value at its centre are all but one."""
    images = photo(20, 128)
    weights = torch.tensor([299.0, 587, 114], dtype=torch.float64).view(1, 3, 1, 1)
    grey = (images.double() * weights).sum(1).numpy()
    coefficients = dctn(grey, axes=(1, 2))[:, :8, :8].reshape(20, -1)[:, 1:]
    bits = coefficients > np.median(coefficients, axis=1, keepdims=True)
    found = np.unpackbits(copies.perceptual_hashes(images)[:, None].view(np.uint8), axis=1)[:, 1:]
    assert (found != bits).mean() < 0.001


def photographs() -> Tensor:
    """56 parts of the two photographs that scikit-learn ships, of which neighbours share half: (56, 3, 64, 64)."""
    whole = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images]
    parts = [image.unfold(1, 160, 80).unfold(2, 160, 80).flatten(1, 2).transpose(0, 1) for image in whole]
    return F.interpolate(torch.cat(parts).float(), 64, mode="bilinear", antialias=True).round().to(torch.uint8)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "smaller": lambda images: F.interpolate(images, 32, mode="bilinear", antialias=True),
    "a fifth brighter": lambda images: images * 1.2,
    "noisy": lambda images: images + 5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
    "nearer": lambda images: images[:, :, 1:-1, 1:-1],
    "in fewer levels": lambda images: (images / 10).round() * 10,
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_photograph_is_a_copy_and_its_neighbour_is_none(how: str) -> None:
    originals = photographs()
    changed = CHANGES[how](originals.float()).round().clamp(0, 255).to(torch.uint8)
    one, other = copies.perceptual_hashes(originals), copies.perceptual_hashes(changed)
    apart = np.bitwise_count(one[:, None] ^ other[None])
    assert (apart.diagonal() <= copies.NEAR).mean() >= 0.95
    assert (apart[~np.eye(len(apart), dtype=bool)] > copies.NEAR).all()


@pytest.mark.parametrize("size", [4, 5, 8, 33])
def test_images_of_any_size_are_compared_and_plain_ones_are_copies_of_each_other(size: int) -> None:
    plain = torch.full((2, 3, size, size), 7, dtype=torch.uint8)
    plain[1] += 90
    images = torch.cat([noise(5, size), plain, noise(5, size)[:2]])
    assert copies.scenes(images).tolist() == [0, 1, 2, 3, 4, 5, 5, 0, 1]
