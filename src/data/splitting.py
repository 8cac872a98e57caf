"""Which images become training, validation and test, and which of them occur twice.

N images, K classes.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from src.base.splits import SPLITS, Split
from src.interface.params import Dataset

Chosen = Mapping[str, tuple[str, Tensor]]


def choose(labels: Mapping[str, Tensor], classes: Sequence[str], dataset: Dataset) -> Chosen:
    """Which images each split keeps.

    Validation is held out of train unless it is given. `dataset.split_seed` and `dataset.val_fraction` alone decide
    which images that are: a larger fraction adds to them. A larger `dataset.train_limit` adds to a smaller one's.

    Args:
        labels: of shape (N,), for the given splits: train, test and perhaps val.

    Returns:
        For train, val and test: the given split they come from, and sorted indices into it.

    Raises:
        ValueError: too few images for a validation split or for `dataset.train_limit`.
    """
    given = {name: torch.arange(len(of_split)) for name, of_split in labels.items()}
    train, val = given["train"], given.get("val")
    if val is None:
        _require_two_of_each(labels["train"], classes)
        order = stratified_order(labels["train"], dataset.split_seed)
        count = round(dataset.val_fraction * len(order))
        count = min(max(count, len(classes)), len(order) - len(classes))
        val, train = order[:count].sort().values, order[count:].sort().values
    if dataset.train_limit is not None:
        _require_limit(dataset.train_limit, len(train), len(classes))
        order = stratified_order(labels["train"][train], dataset.split_seed)
        train = train[order[: dataset.train_limit]].sort().values
    return {
        "train": ("train", train),
        "val": ("val" if "val" in given else "train", val),
        "test": ("test", given["test"]),
    }


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A random order of which every beginning holds the classes in proportion: (N,) indices.

    It begins with one image of each class, and ends with one of each that has several.
    The image in place r of a class with n images goes to (r + 1/2) / n, as Sainte-Laguë apportions seats.
    """
    generator = torch.Generator().manual_seed(seed)
    places = torch.empty(len(labels), dtype=torch.float64)
    for members in torch.split(labels.argsort(stable=True), torch.bincount(labels).tolist()):
        members = members[torch.randperm(len(members), generator=generator)]
        places[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
        places[members[-1:]] += 1
        places[members[:1]] = places[members[:1]].remainder(1) - 1
    return places.argsort(stable=True)


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
    return {**sizes, "across": across, "classes": len(splits["train"].classes)}
