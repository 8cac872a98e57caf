"""Which images show the same scene: copies, exact and near ones, by a hash of what they look like.

Own code, because the libraries for this hash one Pillow image after the other; here it is a product of matrices.
N images, S x S pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from src.interface import console

# Bits of 63 in which copies may differ. Of pairs of CIFAR-10's photographs, 4 in ten million differ in so few. Of the
# same photographs with noise of 5 levels, a fifth brighter, 3 % nearer or shifted by 2 %, 100, 99, 95 and 91 % do.
NEAR = 8
FREQUENCIES = 8  # of each axis
PIXELS_AT_ONCE, PAIRS_AT_ONCE = 2**23, 2**18  # pairs: what a core's cache holds
_GREY = torch.tensor([299, 587, 114], dtype=torch.float64)  # thousandths of red, green and blue (ITU-R BT.601)


def scenes(images: Tensor) -> Tensor:
    """For each image the index of the first that shows the same scene, int64 of shape (N,).

    Images are of one scene where their hashes differ in at most NEAR bits, or where a row of others leads from one to
    the other. Every pair is compared: 60 000 images take 20 s, ten times as many a hundred times that; memory stays
    bounded.

    Args:
        images: uint8 of shape (N, 3, S, S).
    """
    hashes, first, of_image = np.unique(perceptual_hashes(images), return_index=True, return_inverse=True)
    order = first.argsort()  # so that an earlier image has a lower number
    scene = _linked(hashes[order])
    number = order.argsort()[of_image]
    firsts = np.full(len(first), len(images))
    np.minimum.at(firsts, scene, first[order])
    return torch.from_numpy(firsts[scene[number]])


def perceptual_hashes(images: Tensor) -> NDArray[np.uint64]:
    """63 bits of each image: which of its lowest cosine coefficients, but the mean, are above their median.

    The images are taken as functions on the unit square, constant on each pixel, whatever their number of pixels.
    Coefficients are rounded, so that machines which add in another order agree.

    Source: pHash (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010, section 3.2.1).
    """
    size = images.shape[-1]
    waves = _integrated_cosines(size)
    hashes = []
    for some in images.split(max(1, PIXELS_AT_ONCE // size**2)):
        grey = torch.einsum("nchw,c->nhw", some.double(), _GREY)
        coefficients = (waves @ grey @ waves.T).round(decimals=6).flatten(1)[:, 1:]
        bits = coefficients > coefficients.median(dim=1, keepdim=True).values
        hashes.append(np.packbits(np.pad(bits.numpy(), ((0, 0), (1, 0))), axis=1).view(np.uint64)[:, 0])
    return np.concatenate(hashes)


def _integrated_cosines(size: int) -> Tensor:
    """The integral of cos(pi k u) over each of `size` pixels of [0, 1], for each frequency k: (FREQUENCIES, size)."""
    edges = torch.arange(size + 1, dtype=torch.float64) / size
    frequencies = torch.pi * torch.arange(1, FREQUENCIES, dtype=torch.float64)[:, None]
    waves = (frequencies * edges).sin().diff(dim=1) / frequencies
    return torch.cat([edges.diff()[None], waves])


def _linked(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """A number for each hash, the same for those that near ones link."""
    count = len(hashes)
    numbers = np.arange(count)
    rows = max(1, PAIRS_AT_ONCE // max(1, count))
    with console.progress(count, "images", "find copies") as bar:
        for start in range(0, count, rows):
            some = hashes[start : start + rows]
            near = np.bitwise_count(some[:, None] ^ hashes[None, start:]) <= NEAR
            if np.count_nonzero(near) > len(some):  # more than each with itself
                one, other = np.divmod(np.flatnonzero(near), near.shape[1])
                links = (np.ones(len(one), bool), (numbers[start + one], numbers[start + other]))
                numbers = connected_components(coo_array(links, shape=(count, count)), directed=False)[1][numbers]
            bar.advance(len(some))
    return numbers
