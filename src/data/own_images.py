"""A person's images, in a folder or an archive -> train, val and test, without what is no image. N images."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from src.base.splits import Split
from src.data import copies, image_folders, splitting
from src.data.splitting import UNSPLIT
from src.images import decoding
from src.interface import console
from src.interface.params import Dataset


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """What a folder of images holds.

    Attributes:
        splits: train, val and test.
        skipped: files that were left out, by their names, and why.
        copies: of images that came without splits, how many are copies, exact or near, of an earlier one; else None.
    """

    splits: Mapping[str, Split]
    skipped: Mapping[str, str]
    copies: int | None


def load(path: Path, dataset: Dataset) -> OwnImages:
    """Read the folder or archive `path`, and split it where it is not.

    Raises:
        ValueError: another layout; too few images; bad files, where `dataset.bad_files` does not skip them.
    """
    folder = image_folders.scan(path)
    unsplit = UNSPLIT in folder.labels
    if unsplit:  # every image is looked at before any is chosen
        chosen: splitting.Chosen = {UNSPLIT: (UNSPLIT, torch.arange(len(folder.labels[UNSPLIT])))}
    else:
        chosen = splitting.choose(folder.labels, folder.classes, dataset)
    splitting.require_memory(chosen, dataset.image_size, times=2 if unsplit else 1)
    splits, bad = image_folders.decode(folder, chosen, dataset.image_size)
    skipped = _skipped(path, {**folder.bad, **bad}, dataset.bad_files)
    _require_every_class(path, splits)
    if not unsplit:
        return OwnImages(splits=splits, skipped=skipped, copies=None)
    given = splits[UNSPLIT]
    scenes = copies.scenes(given.images)
    chosen = splitting.choose({UNSPLIT: given.labels}, given.classes, dataset, scenes)
    splits = {
        name: Split(images=given.images[rows], labels=given.labels[rows], classes=given.classes)
        for name, (_, rows) in chosen.items()
    }
    return OwnImages(splits=splits, skipped=skipped, copies=len(scenes) - len(scenes.unique()))


def _skipped(path: Path, bad: Mapping[str, str], policy: str) -> Mapping[str, str]:
    """The `bad` files, sorted, with a warning, where the policy is to skip them."""
    if not bad:
        return {}
    bad = {_printable(name): what for name, what in bad.items()}
    files = f"{path}: {len(bad)} bad file{'s' if len(bad) > 1 else ''}"
    if policy == "stop":
        raise ValueError(
            f"{files}: {image_folders.listed(bad)}; allowed: images ({', '.join(decoding.SUFFIXES)}), or "
            "dataset.bad_files=skip, which leaves such files out"
        )
    console.warn(f"{files} left out: {image_folders.listed(bad)}")
    return dict(sorted(bad.items()))


def _printable(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes in it that are no UTF-8 stand as `\\xe9`."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _require_every_class(path: Path, splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        for label, count in enumerate(torch.bincount(split.labels, minlength=len(split.classes)).tolist()):
            if not count:
                where = "" if name == UNSPLIT else f" in {name}"
                raise ValueError(
                    f"{path}: without its bad files, class {split.classes[label]!r} has no image{where}; allowed: one "
                    "or more"
                )
