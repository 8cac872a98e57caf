"""Which images become training, validation and test, and which of them occur twice.

N images, K classes.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.base.splits import SPLITS, Split
from src.interface.params import Dataset

Chosen = Mapping[str, tuple[str, Tensor]]
UNSPLIT = "all"  # the given split of a dataset that has none


def choose(
    labels: Mapping[str, Tensor], classes: Sequence[str], dataset: Dataset, scenes: Tensor | None = None
) -> Chosen:
    """Which images each split keeps.

    Test is held out of a dataset that has no splits, and validation out of train unless it is given.
    `dataset.split_seed`, `dataset.test_fraction` and `dataset.val_fraction` alone decide which images those are: a
    larger fraction adds to them. A larger `dataset.train_limit` adds to a smaller one's.

    Args:
        labels: of shape (N,), for the given splits: train, test and perhaps val; or for UNSPLIT alone.
        scenes: for UNSPLIT, a number for each image, (N,): those of one scene stay on one side.

    Returns:
        For train, val and test: the given split they come from, and sorted indices into it.

    Raises:
        ValueError: too few images for test, for validation or for `dataset.train_limit`.
    """
    given = {name: torch.arange(len(of_split)) for name, of_split in labels.items()}
    train_from = UNSPLIT if UNSPLIT in given else "train"
    of_train = labels[train_from]
    scenes = given[train_from] if scenes is None else scenes
    train, val, test = given[train_from], given.get("val"), given.get("test")
    if test is None:
        _require_scenes(of_train, scenes, classes)
        test, train = held_out(of_train, scenes, dataset.test_fraction, dataset.split_seed, left=2)
    if val is None:
        _require_two_of_each(of_train[train], classes)
        some, rest = held_out(of_train[train], scenes[train], dataset.val_fraction, dataset.split_seed, left=1)
        val, train = train[some], train[rest]
    if dataset.train_limit is not None:
        _require_limit(dataset.train_limit, len(train), len(classes))
        order = stratified_order(of_train[train], dataset.split_seed)
        train = train[order[: dataset.train_limit]].sort().values
    return {
        "train": (train_from, train),
        "val": ("val" if "val" in given else train_from, val),
        "test": ("test" if "test" in given else train_from, test),
    }


def held_out(labels: Tensor, scenes: Tensor, fraction: float, seed: int, *, left: int) -> tuple[Tensor, Tensor]:
    """Sorted indices of about `fraction` of the images, stratified, no scene divided, and those of the others.

    Every class is held out in part, and `left` of its scenes stay. A scene counts for the class of most of its images,
    or there would be too many in test of a class whose image happens to come first.
    """
    _, scene, sizes = np.unique(scenes, return_inverse=True, return_counts=True)
    weights, of_scene = torch.from_numpy(sizes), _classes_of(scene, labels)
    order = stratified_order(of_scene, seed, weights, share=fraction, last=left)
    classes = len(of_scene.unique())
    nearest = int((weights[order].cumsum(0) - round(fraction * len(labels))).abs().argmin()) + 1
    count = min(max(nearest, classes), len(order) - left * classes)
    held = torch.isin(torch.from_numpy(scene), order[:count])
    return held.nonzero().flatten(), (~held).nonzero().flatten()


def _classes_of(scene: NDArray[np.int64], labels: Tensor) -> Tensor:
    """The class of most images of each scene, of equally many the first: (number of scenes,).

    Args:
        scene: the number of each image's scene, from 0, (N,).
    """
    classes = int(labels.max()) + 1
    pairs, counts = np.unique(scene * classes + labels.numpy(), return_counts=True)
    order = np.lexsort((-pairs, counts))  # of what is assigned twice below, the last stays
    found = np.empty(scene.max() + 1, np.int64)
    found[pairs[order] // classes] = pairs[order] % classes
    return torch.from_numpy(found)


def stratified_order(
    labels: Tensor, seed: int, weights: Tensor | None = None, *, share: float = 1.0, last: int = 1
) -> Tensor:
    """A random order of which every beginning holds the classes in proportion: (N,) indices.

    It begins with one image of each class, and ends with `last` of each that has more.
    The image in place r of a class with n images goes to (r + 1/2) / n, as Sainte-Laguë apportions seats.

    Args:
        weights: of images that stand for several, int64 of shape (N,): they count so often.
        share: of its class that one of them may be to stand among the first.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.ones_like(labels) if weights is None else weights
    places = torch.empty(len(labels), dtype=torch.float64)
    for members in torch.split(labels.argsort(stable=True), torch.bincount(labels).tolist()):
        members = members[torch.randperm(len(members), generator=generator)]
        large = weights[members] > max(1.0, share * weights[members].sum().item())
        members = members[large.long().argsort(stable=True)]
        ends = weights[members].cumsum(0).double()
        places[members] = (ends - weights[members] / 2) / weights[members].sum()
        places[members[-last:]] += 1
        places[members[:1]] = places[members[:1]].remainder(1) - 1
    return places.argsort(stable=True)


def _require_scenes(labels: Tensor, scenes: Tensor, classes: Sequence[str]) -> None:
    of_scene = _classes_of(np.unique(scenes, return_inverse=True)[1], labels)
    images, own = (torch.bincount(each, minlength=len(classes)).tolist() for each in (labels, of_scene))
    for name, count, number in zip(classes, images, own, strict=True):
        if number < 3:
            raise ValueError(
                f"class {name!r} has too few images for train, val and test: {count}, and {number} without copies and "
                "near ones; allowed: 3 or more, or a train/ and a test/ of your own"
            )


def _require_two_of_each(labels: Tensor, classes: Sequence[str]) -> None:
    for name, count in zip(classes, torch.bincount(labels, minlength=len(classes)).tolist(), strict=True):
        if count < 2:
            raise ValueError(
                f"train: class {name!r} has {count} image, too few to hold one out for validation; "
                "allowed: 2 or more, or a val/ of its own"
            )


def _require_limit(limit: int, images: int, classes: int) -> None:
    if not classes <= limit <= images:
        raise ValueError(
            f"dataset.train_limit: {limit} is not allowed; allowed: {classes} (one image per class) to {images} "
            "(the training images, validation not counted), or null"
        )


def require_memory(chosen: Chosen, size: int, *, times: int = 1) -> None:
    """Whether the chosen images, of `size` by `size` pixels, fit so many times into the free memory.

    Raises:
        ValueError: they do not.
    """
    count = sum(len(rows) for _, rows in chosen.values())
    needed, available = times * count * 3 * size**2, psutil.virtual_memory().available
    if needed > available:
        raise ValueError(
            f"dataset.image_size: {count} images of {size} x {size} pixels need {needed / 2**30:.1f} GiB of memory, "
            f"and {available / 2**30:.1f} GiB are available; choose a smaller one, or fewer by dataset.train_limit"
        )


def describe(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Images per split, and exact duplicates by their pixels.

    Within a split, images that repeat an earlier one; across `a_b`, images of b that occur in a.
    """
    pixels = {name: [blake2b(image).digest() for image in splits[name].images.numpy()] for name in SPLITS}
    distinct = {name: set(digests) for name, digests in pixels.items()}
    sizes = {
        name: {"images": len(pixels[name]), "duplicates": len(pixels[name]) - len(distinct[name])} for name in SPLITS
    }
    pairs = (("train", "val"), ("train", "test"), ("val", "test"))
    across = {f"{a}_{b}": sum(digest in distinct[a] for digest in pixels[b]) for a, b in pairs}
    images = sum(map(len, pixels.values()))
    return {"images": images, **sizes, "across": across, "classes": len(splits["train"].classes)}
