"""The images that a command line names: files, folders, patterns, a list on standard input."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from src.images.decoding import SUFFIXES

ALSO = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")  # images that are not read: better said than missed
STDIN = "-"


def images(asked: Sequence[str], stdin: TextIO) -> tuple[list[str], int]:
    """Paths in the order asked for, a folder's and a pattern's by name, each once; and how many files of folders were
    left out, as their names are no image's. A file that is named itself is taken whatever it is called.

    Raises:
        ValueError: nothing is asked for; a pattern or a folder without an image.
    """
    if not asked and stdin.isatty():
        raise ValueError("no image named; allowed: files, folders, patterns, or - for a list on standard input")
    found, left_out = list[str](), 0
    for name in asked or [STDIN]:
        some, more = _of(name, stdin)
        found += some
        left_out += more
    if not found:
        raise ValueError("the list on standard input names no image; allowed: a path a line")
    return list(dict.fromkeys(found)), left_out


def _of(name: str, stdin: TextIO) -> tuple[list[str], int]:
    if name == STDIN:
        return list(_listed(stdin)), 0
    if os.path.isdir(name):
        return _inside(name)
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name], 0
    matches = sorted(glob.glob(name, recursive=True))
    files = [path for path in matches if not os.path.isdir(path)]
    if not files:
        raise ValueError(f"no file matches {name!r}; allowed: a pattern of files that exist")
    return files, 0


def _listed(stdin: TextIO) -> Iterator[str]:
    content = getattr(stdin, "buffer", None)
    text = os.fsdecode(content.read()) if content else stdin.read()
    separator = "\0" if "\0" in text else "\n"
    return (line.removesuffix("\r") for line in text.split(separator) if line.strip())


def _inside(folder: str) -> tuple[list[str], int]:
    """Images of a folder and of those below it, by name; hidden files and folders are left out, uncounted.

    Links to folders are followed, each folder once. One that cannot be read stands among the images, which cannot be
    read either.
    """
    found, others, visited = list[str](), 0, set[str]()
    for place, folders, files in os.walk(folder, onerror=lambda error: found.append(error.filename), followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in files if not name.startswith("."))
        taken = [name for name in shown if name.lower().endswith(SUFFIXES + ALSO)]
        found.extend(str(Path(place, name)) for name in taken)
        others += len(shown) - len(taken)
    if not found:
        raise ValueError(f"{folder} holds no image; allowed: files with the suffixes {', '.join(SUFFIXES)}")
    return found, others
