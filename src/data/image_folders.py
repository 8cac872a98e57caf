"""Images in folders, `train/<class>/*`, in a directory or an archive: checked by name, then decoded on all cores.

N images, H x W pixels, K classes.
"""

import os
import struct
import warnings
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from src.base.splits import SPLITS, Split
from src.data import archives
from src.data.splitting import Chosen
from src.interface import console

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LAYOUT = "allowed: train/<class>/*, test/<class>/* and perhaps val/<class>/*"
CHUNK_IMAGES, CHUNK_BYTES = 64, 2**24  # given to a thread at once, at most
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, IndexError, struct.error, zlib.error)

Tree = dict[str, dict[str, list[str]]]  # split -> class -> files


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What lies in a folder or an archive of images.

    Attributes:
        files: for each split, its N members in the order of their names within that of their classes.
        labels: for each split, int64 of shape (N,).
    """

    path: Path
    classes: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, Tensor]


def scan(path: Path) -> Folder:
    """List the images of `path`, decoding none.

    Raises:
        ValueError: another layout; a class that is missing or empty; fewer than 2 classes; a file that is no image.
    """
    tree = _tree(path, [name for name, _ in archives.entries(path, ())])
    _require_the_same_classes(path, tree)
    classes = tuple(sorted(tree["train"]))
    if len(classes) < 2:
        raise ValueError(f"{path}: fewer than 2 classes in train/: {', '.join(classes) or 'none'}; allowed: 2 or more")
    files, labels = {}, {}
    for split, members in tree.items():
        files[split] = tuple(file for name in classes for file in sorted(members[name]))
        counts = torch.tensor([len(members[name]) for name in classes])
        labels[split] = torch.arange(len(classes)).repeat_interleave(counts)
    _require_images(path, tree)
    return Folder(path=path, classes=classes, files=files, labels=labels)


def _tree(path: Path, names: list[str]) -> Tree:
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
        files = classes.setdefault(rest[0], [])
        if rest[-1]:
            files.append(name)
    return tree


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


def _require_the_same_classes(path: Path, tree: Tree) -> None:
    for split in ("train", "test"):
        if split not in tree:
            raise ValueError(f"{path}: no {split}/ in it; {LAYOUT}")
    for split, classes in tree.items():
        for name in sorted(classes.keys() ^ tree["train"].keys()):
            there, missing = (split, "train") if name in classes else ("train", split)
            raise ValueError(
                f"{path}: class {name!r} is in {there}/ but missing from {missing}/; allowed: every class in each"
            )


def _require_images(path: Path, tree: Tree) -> None:
    for split, classes in tree.items():
        for name, files in classes.items():
            if not name.isprintable():
                raise ValueError(f"{path}: {split}/{name!r} is no name for a class; allowed: printable text")
            if not files:
                raise ValueError(f"{path}: {split}/{name} is empty; allowed: one image or more in each class")
            for previous, file in pairwise(sorted(files)):
                if file == previous:
                    raise ValueError(f"{path}: holds {file} twice; allowed: each name once")
            for file in files:
                if not file.lower().endswith(SUFFIXES):
                    raise ValueError(f"{path}/{file} is no image; allowed in a class: {', '.join(SUFFIXES)}")


def decode(folder: Folder, chosen: Chosen, size: int) -> dict[str, Split]:
    """The chosen images, each resized and cropped to `size` by `size` pixels.

    Raises:
        ValueError: a file is no image, or damaged; the folder changed since it was scanned.
    """
    images = {split: torch.empty((len(rows), 3, size, size), dtype=torch.uint8) for split, (_, rows) in chosen.items()}
    arrays = {split: tensor.numpy() for split, tensor in images.items()}
    slots = {
        folder.files[given][index]: arrays[split][row]
        for split, (given, rows) in chosen.items()
        for row, index in enumerate(rows.tolist())
    }
    wanted = ((name, content) for name, content in archives.entries(folder.path, slots) if name in slots)
    with console.progress(len(slots), "images", "decode") as bar:
        done = 0
        for count in _in_threads(folder.path, wanted, slots, size):
            bar.advance(count)
            done += count
    if done != len(slots):
        raise ValueError(f"{folder.path} changed while it was read: {done} of {len(slots)} images are left")
    return {
        split: Split(images=images[split], labels=folder.labels[given][rows], classes=folder.classes)
        for split, (given, rows) in chosen.items()
    }


Named = tuple[str, bytes]
Slots = Mapping[str, NDArray[np.uint8]]


def _in_threads(path: Path, named: Iterable[Named], slots: Slots, size: int) -> Iterator[int]:
    """Decode chunk after chunk into `slots`, a few chunks ahead of what is done; yields how many images each held.

    Threads use every core, because Pillow decodes and resizes outside the interpreter's lock.
    """
    threads = os.cpu_count() or 1
    pending: deque[Future[int]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # twice as many pixels are an error
        for chunk in _chunks(named):
            pending.append(pool.submit(_decode_chunk, path, chunk, slots, size))
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


def _decode_chunk(path: Path, chunk: list[Named], slots: Slots, size: int) -> int:
    for name, content in chunk:
        try:
            slots[name][:] = decode_image(content, size)
        except UnidentifiedImageError:
            raise ValueError(f"{path}/{name} is no image; allowed: {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path}/{name} has more pixels than are decoded safely: {error}") from None
        except _DAMAGE as error:
            raise ValueError(f"{path}/{name} is a damaged image: {error}") from None
    return len(chunk)


def decode_image(content: bytes, size: int) -> NDArray[np.uint8]:
    """A JPEG, PNG, WebP or BMP file as uint8 of shape (3, size, size).

    Turned as its EXIF says; its shorter side is resized to `size` (bicubic, antialiased) and the centre cropped, both
    at once. Grey becomes RGB, transparency is dropped. An image that has the size keeps its pixels.
    """
    with Image.open(BytesIO(content), formats=FORMATS) as opened:
        if opened.size != (size, size):
            opened.draft(None, (2 * size, 2 * size))  # a JPEG may be decoded at a half, a quarter or an eighth
        image = _rgb(ImageOps.exif_transpose(opened))
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).transpose(2, 0, 1)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
