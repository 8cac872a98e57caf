"""Images that show the same picture as another: neighbours by their features, then compared pixel by pixel.

No training stage imports this module: editing it retrains nothing.
N images, D feature width, P pairs, k neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from src.evidence.likeness import coarse, details, grey, likeness

NEAREST = 8  # neighbours of an image that are compared with it
COMPONENTS = 256  # principal ones, in which neighbours are sought
CHUNK = 1024  # images at a time: their similarities to 60 000 others take 250 MB
ROUGHLY = 0.7  # correlation of coarse pixels below which two images are not compared further
ALIKE, MOST = 0.75, 0.995  # likeness from which on two images are near copies: between these, by `threshold`
RARE = 6.0  # how far above the median, in steps from there to the upper quartile; for a normal variable 4 deviations
SAMPLE = 4000  # pairs of neighbours by which `threshold` knows how alike these usually are


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """Pairs of near copies, the most alike first.

    Attributes:
        first, second: int64 (P,), first < second.
        cosine: float32 (P,), of their features less the mean of all images.
        likeness: float32 (P,), of their details, pixel by pixel, from `threshold` to 1.
    """

    first: Tensor
    second: Tensor
    cosine: Tensor
    likeness: Tensor
    threshold: float

    def scenes(self, images: int) -> Tensor:
        """For each image the first one to which a row of pairs leads, int64 (N,)."""
        links = (torch.ones(len(self.first)).numpy(), (self.first.numpy(), self.second.numpy()))
        numbers = connected_components(coo_array(links, shape=(images, images)), directed=False)[1]
        of_image = torch.from_numpy(numbers).long()
        firsts = torch.full((images,), images).scatter_reduce_(0, of_image, torch.arange(images), "amin")
        return firsts[of_image]


def find(features: Tensor, images: Tensor, *, advance: Callable[[int], None]) -> NearCopies:
    """Every pair of neighbours whose pixels are far more alike than those of neighbours usually are, or the same.

    On CIFAR-10, 386 test images have such a copy in train; ciFAIR (Barz and Denzler, J. Imaging 6, 2020), by eye, has
    286. Of 50 pairs alike by 0.8 or more (310 test images) all were near copies by eye; of 50 from 0.7 to 0.8, 38.

    Args:
        features: float16 (N, D), on any device.
        images: uint8 (N, 3, H, W).
        advance: told the number of images after each part of the search.
    """
    first, second = unordered(neighbours(features, advance=advance).cpu())
    same, shades = _equal(images, first, second), grey(images)
    rough, mirrored = coarse(shades, first, second)
    inner = details(shades)
    some = torch.arange(0, len(first), max(1, len(first) // SAMPLE))
    least = threshold(likeness(inner, first[some], second[some], mirrored[some]))
    near = (same | (rough >= ROUGHLY)).nonzero().flatten()
    alike = torch.where(same[near], 1.0, likeness(inner, first[near], second[near], mirrored[near]))
    order = alike.argsort(descending=True, stable=True)
    order = order[alike[order] >= least]
    first, second, alike = first[near[order]], second[near[order]], alike[order]
    cosines = _cosines(features, first, second)
    return NearCopies(first=first, second=second, cosine=cosines, likeness=alike, threshold=least)


def threshold(likenesses: Tensor) -> float:
    """The likeness from which on two neighbours are near copies, by how alike neighbours are, (P,).

    Photographs are not: their threshold is ALIKE. Handwritten digits of 8 x 8 pixels are, and theirs is far above it.
    Up to a quarter of the pairs may be copies without moving it. Fisher's z makes the spread of correlations even.
    """
    if not len(likenesses):
        return ALIKE
    middle, quartile = torch.atanh(likenesses.clamp(-MOST, MOST)).quantile(torch.tensor([0.5, 0.75])).tolist()
    return min(MOST, max(ALIKE, math.tanh(middle + RARE * (quartile - middle))))


def neighbours(features: Tensor, *, advance: Callable[[int], None]) -> Tensor:
    """The NEAREST images to each by the cosine of features less their mean, int64 (N, at most NEAREST).

    Sought in the first COMPONENTS principal components, which are all where features are no wider.

    Args:
        features: float16 (N, D).
        advance: told the number of images after each part.
    """
    known, count, found = _projected(features), min(NEAREST, len(features) - 1), []
    for start in range(0, len(known), CHUNK):
        similarity = known[start : start + CHUNK] @ known.T
        similarity.diagonal(start).fill_(-torch.inf)
        found.append(similarity.topk(count, dim=1).indices)
        advance(len(similarity))
    return torch.cat(found)


def unordered(nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair of an image and one of its neighbours once, the lower index first: (P,) and (P,)."""
    images = torch.arange(len(nearest)).unsqueeze(1).expand_as(nearest)
    low, high = torch.minimum(images, nearest).flatten(), torch.maximum(images, nearest).flatten()
    both = (low * len(nearest) + high).unique()
    return both // max(1, len(nearest)), both % max(1, len(nearest))


def _projected(features: Tensor) -> Tensor:
    """float32 (N, at most COMPONENTS), of length 1."""
    mean, width = features.mean(dim=0, dtype=torch.float32), features.shape[1]
    spread = torch.zeros(width, width, device=features.device)
    for part in features.split(CHUNK):
        centred = F.normalize(part.float() - mean)
        spread += centred.T @ centred
    axes = torch.linalg.eigh(spread).eigenvectors[:, -COMPONENTS:]  # the largest come last
    return torch.cat([F.normalize((part.float() - mean) @ axes) for part in features.split(CHUNK)])


def _cosines(features: Tensor, first: Tensor, second: Tensor) -> Tensor:
    mean = features.mean(dim=0, dtype=torch.float32)
    parts = [
        F.cosine_similarity(features[a].float() - mean, features[b].float() - mean)
        for a, b in zip(first.split(CHUNK), second.split(CHUNK), strict=True)
    ]
    return torch.cat(parts).cpu()


def _equal(images: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whether both show the same pixels, bool (P,)."""
    parts = [
        (images[a] == images[b]).flatten(1).all(1) for a, b in zip(first.split(CHUNK), second.split(CHUNK), strict=True)
    ]
    return torch.cat(parts)
