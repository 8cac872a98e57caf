"""Images in folders, `train/<class>/*` or `<class>/*`, in a directory or an archive: checked by name, then decoded.

N images, H x W pixels, K classes.
"""

import os
import unicodedata
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.base.splits import SPLITS, Split
from src.data import archives
from src.data.splitting import UNSPLIT, Chosen
from src.images.decoding import SUFFIXES, BadImageError, decode_image
from src.interface import console

LAYOUT = "allowed: train/<class>/*, test/<class>/* and perhaps val/<class>/*; or <class>/* alone, to be split here"
NAMED = 10  # bad files that a message names
CHUNK_IMAGES, CHUNK_BYTES = 64, 2**24  # given to a thread at once, at most

Tree = dict[str, dict[str, list[str]]]  # split -> class -> files
Bad = dict[str, str]  # file -> what is wrong with it


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What lies in a folder or an archive of images.

    Attributes:
        files: for each given split, its N members in the order of their names within that of their classes; of a folder
            without splits, all of them under UNSPLIT.
        labels: for each given split, int64 of shape (N,).
        bad: what lies among the images and is none, by its name.
    """

    path: Path
    classes: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Tensor]
    bad: Bad


def scan(path: Path) -> Folder:
    """List the images of `path`, decoding none.

    Class names that differ in Unicode normalisation alone, as macOS writes them, read as the same word: one class.

    Raises:
        ValueError: another layout; a class that is missing or empty; fewer than 2 classes.
    """
    names = [name for name, _ in archives.entries(path, ())]
    _require_each_once(path, names)
    given = any(part in SPLITS for name in names for part in name.split("/")[:-1][:2])
    tree, bad = _given_tree(path, names) if given else _unsplit_tree(path, names)
    for members_of in tree.values():
        for members in members_of.values():
            bad |= {file: "no image by its name" for file in members if not _is_image(file)}
            members[:] = sorted(filter(_is_image, members))
    _require_classes(path, tree)
    classes = tuple(sorted(next(iter(tree.values()))))
    files, labels = {}, {}
    for split, members_of in tree.items():
        files[split] = tuple(file for name in classes for file in members_of[name])
        counts = torch.tensor([len(members_of[name]) for name in classes])
        labels[split] = torch.arange(len(classes)).repeat_interleave(counts)
    return Folder(path=path, classes=classes, files=files, labels=labels, bad=bad)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _may_be_in_a_name(character: str) -> bool:
    """What is printed, spaces of all kinds, and what joins or parts letters, as Persian and Sinhala do."""
    return character.isprintable() or character in "\u200c\u200d" or unicodedata.category(character) == "Zs"


def _class(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _given_tree(path: Path, names: list[str]) -> tuple[Tree, Bad]:
    """What lies in train/, test/ and val/."""
    root = _root(path, names)
    tree: Tree = {}
    for name in names:
        split, *rest = name.removeprefix(root).split("/")
        if not name.startswith(root) or not rest:
            continue  # beside the splits: a licence, a list of the classes
        if split not in SPLITS:
            raise ValueError(f"{path}: {root}{split}/ is no split; {LAYOUT}")
        classes = tree.setdefault(split, {})
        if rest == [""]:
            continue
        if len(rest) == 1:
            raise ValueError(f"{path}: {name} lies in no class; {LAYOUT}")
        files = classes.setdefault(_class(rest[0]), [])
        if rest[-1]:
            files.append(name)
    for split in ("train", "test"):
        if split not in tree:
            raise ValueError(f"{path}: no {split}/ in it; {LAYOUT}")
    return tree, {}


def _unsplit_tree(path: Path, names: list[str]) -> tuple[Tree, Bad]:
    """What lies in folders of classes."""
    if not any(map(_is_image, names)):
        raise ValueError(f"{path}: no images in it ({', '.join(SUFFIXES)}); {LAYOUT}")
    root = _common_folder(names)
    classes: dict[str, list[str]] = {}
    bad: Bad = {}
    for name in names:
        folder, *rest = name.removeprefix(root).split("/")
        if not name.startswith(root) or not rest:  # beside the classes: a licence, or an image whose class nobody knows
            bad |= {name: "in no class"} if _is_image(name) else {}
            continue
        if len(rest) > 1 and rest[-1]:
            raise ValueError(f"{path}: {name} lies deeper than in a class; {LAYOUT}")
        files = classes.setdefault(_class(folder), [])
        files += [name] if rest[-1] else []
    return {UNSPLIT: classes}, bad


def _common_folder(names: list[str]) -> str:
    """The folder that holds those of the classes: nothing, or the only folder, or the only one in that, and so on."""
    root = ""
    while True:
        inside = [name.removeprefix(root) for name in names if name.startswith(root)]
        folders = {name.partition("/")[0] for name in inside if "/" in name}
        below = {name.partition("/")[2] for name in inside}
        if len(folders) != 1 or not any("/" in name for name in below):
            return root
        root += f"{folders.pop()}/"


def _root(path: Path, names: list[str]) -> str:
    """What the splits lie in: nothing, or the one directory that many archives are wrapped in."""
    parts = [name.split("/") for name in names]
    roots = {
        "" if p[0] == "train" else f"{p[0]}/" for p in parts if "train" in (p[0], *p[1:2]) and p[-2:] != [p[0], "train"]
    }
    if "" in roots:
        return ""
    if len(roots) != 1:
        found = (
            f"several train/ in it: {', '.join(f'{root}train/' for root in sorted(roots))}"
            if roots
            else "no train/ in it"
        )
        raise ValueError(f"{path}: {found}; {LAYOUT}")
    return roots.pop()


def _require_each_once(path: Path, names: list[str]) -> None:
    for previous, name in pairwise(sorted(names)):
        if name == previous and not name.endswith("/"):
            raise ValueError(f"{path}: holds {name} twice; allowed: each name once")


def _require_classes(path: Path, tree: Tree) -> None:
    """Two or more, the same in each split, each with a name and an image."""
    first = UNSPLIT if UNSPLIT in tree else "train"
    for split in tree:
        for name in sorted(tree[split].keys() ^ tree[first].keys()):
            there, missing = (split, first) if name in tree[split] else (first, split)
            raise ValueError(
                f"{path}: class {name!r} is in {there}/ but missing from {missing}/; allowed: every class in each"
            )
    for split, classes in tree.items():
        for name, files in classes.items():
            if not all(map(_may_be_in_a_name, name)):
                raise ValueError(f"{path}: {name!r} is no name for a class; allowed: printable text")
            if not files:
                where = name if split == UNSPLIT else f"{split}/{name}"
                raise ValueError(f"{path}: {where}/ holds no image; allowed: one or more ({', '.join(SUFFIXES)})")
    if len(tree[first]) < 2:
        found = ", ".join(tree[first]) or "none"
        raise ValueError(f"{path}: fewer than 2 classes: {found}; allowed: 2 or more")


def decode(folder: Folder, chosen: Chosen, size: int) -> tuple[dict[str, Split], Bad]:
    """The chosen images, each resized and cropped to `size` by `size` pixels, but the bad ones, and what those are.

    Raises:
        ValueError: the folder changed since it was scanned.
    """
    images = {split: torch.empty((len(rows), 3, size, size), dtype=torch.uint8) for split, (_, rows) in chosen.items()}
    arrays = {split: tensor.numpy() for split, tensor in images.items()}
    names = {split: [folder.files[given][row] for row in rows.tolist()] for split, (given, rows) in chosen.items()}
    slots = {name: arrays[split][row] for split, some in names.items() for row, name in enumerate(some)}
    wanted = ((name, content) for name, content in archives.entries(folder.path, slots) if name in slots)
    bad: Bad = {}
    with console.progress(len(slots), "images", "decode") as bar:
        done = 0
        for count, found in _in_threads(wanted, slots, size):
            bar.advance(count)
            done += count
            bad |= found
    if done != len(slots):
        raise ValueError(f"{folder.path} changed while it was read: {done} of {len(slots)} images are left")
    splits = {}
    for split, (given, rows) in chosen.items():
        good = torch.tensor([name not in bad for name in names[split]])
        labels = folder.labels[given][rows]
        splits[split] = Split(
            images=images[split] if good.all() else images[split][good], labels=labels[good], classes=folder.classes
        )
    return splits, bad


def listed(bad: Mapping[str, str]) -> str:
    """The first NAMED of them, in the order of their names, and how many more there are."""
    shown = [f"{name} ({what})" for name, what in sorted(bad.items())[:NAMED]]
    return ", ".join(shown) + (f" and {len(bad) - NAMED} more" if len(bad) > NAMED else "")


Named = tuple[str, bytes]
Slots = Mapping[str, NDArray[np.uint8]]


def _in_threads(named: Iterable[Named], slots: Slots, size: int) -> Iterator[tuple[int, Bad]]:
    """Decode chunk after chunk into `slots`, a few ahead of what is done; yields how many files each held, and the bad.

    Threads use every core, because Pillow decodes and resizes outside the interpreter's lock.
    """
    threads = os.cpu_count() or 1
    pending: deque[Future[tuple[int, Bad]]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.filterwarnings("ignore", module="PIL")  # odd metadata; many pixels: twice as many are an error
        for chunk in _chunks(named):
            pending.append(pool.submit(_decode_chunk, chunk, slots, size))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _chunks(named: Iterable[Named]) -> Iterator[list[Named]]:
    chunk: list[Named] = []
    for name, content in named:
        chunk.append((name, content))
        if len(chunk) == CHUNK_IMAGES or sum(len(content) for _, content in chunk) > CHUNK_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _decode_chunk(chunk: list[Named], slots: Slots, size: int) -> tuple[int, Bad]:
    bad: Bad = {}
    for name, content in chunk:
        try:
            slots[name][:] = decode_image(content, size)
        except BadImageError as error:
            bad[name] = str(error)
    return len(chunk), bad
