"""Files that stages leave for each other: tensors, JSON and CSV. The only module that writes files.

Every file appears whole or not at all: it is written beside its target under a temporary name, synced and renamed.
N images, C channels, H x W pixels.
"""

import errno
import fcntl
import hashlib
import json
import os
import pickle
import re
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psutil
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pandas import DataFrame


# What torch.load raises about a file that is not what it reads, whatever its bytes are.
_NO_TENSORS = (
    *(pickle.UnpicklingError, EOFError, LookupError, RuntimeError, ValueError, AssertionError, AttributeError),
    *(TypeError, struct.error, OSError),
)
_waiting: ContextVar[dict[Path, Path] | None] = ContextVar("waiting", default=None)  # target -> written file


def main_checkout() -> Path:
    """The repository that git-ignored state belongs to, also when an experiment runs in a copy of it (DVC_ROOT)."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that becomes `path` when the block ends well, and vanishes when it does not."""
    path, waiting = Path(path), _waiting.get()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _naming(path), open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if waiting is not None:
            waiting[path] = temporary
            return
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def together(confirm: Callable[[], None]) -> Iterator[None]:
    """All files that are written in the block appear at its end, or, where it or `confirm` raises, none does.

    `confirm` is asked at the beginning, too, before anybody is told what was found.
    """
    confirm()
    waiting = dict[Path, Path]()
    before = _waiting.set(waiting)
    try:
        yield
        confirm()
        for path, temporary in waiting.items():
            os.replace(temporary, path)
    finally:
        _waiting.reset(before)
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Give an error of the system `path` where it names no file, as that of a full disk does not.

    torch's writer hides such an error behind one of its own.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        cause.filename = cause.filename or str(path)
        raise cause from None


@contextmanager
def locked(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, which a process loses by ending in whatever way.

    Raises:
        ValueError: another process holds it, and `wait` is not set.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            holder = f"process {file.read().strip() or 'unknown'}"
            raise ValueError(f"{Path(path).parent} is in use by {holder}: wait until it ends, or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def save(tensors: Mapping[str, Any], path: str | Path) -> None:
    """Write a mapping of tensors and plain values; equal content gives equal bytes.

    The file object matters: given a path, torch.save writes the file's name into the archive.
    """
    with replacing(path) as file:
        torch.save(dict(tensors), file)


def load(path: str | Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read what `save` or another program's torch.save wrote, onto the CPU; with `mmap`, tensors stay on disk until
    they are touched.

    Raises:
        ValueError: the file is none of torch's, is damaged, or holds what is neither a tensor nor a plain value: such a
            pickle may run code, and is not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about what is refused anyway
            loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            return loaded
    except _NO_TENSORS as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # torch's, where a file is cut off
            raise
        raise ValueError(f"{path} {_refusal(error)}") from None


def _refusal(error: Exception) -> str:
    """What is wrong with a file, without torch's advice to read it all the same."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+)", text) or re.search(r"got (<class .*?>)", text)
    thing = found.group(1) if found else "a TorchScript program" if "TorchScript archive" in text else None
    if thing:
        return (
            f"holds {thing}, which is no tensor, and reading it could run code; allowed: names and tensors, as "
            "torch.save(model.state_dict(), ...) writes them"
        )
    reason = f" ({text.partition('. ')[0].strip()})" if isinstance(error, RuntimeError) else ""
    return f"is no file that torch.save wrote, or a damaged one{reason}"


def load_input(path: str | Path) -> dict[str, Any]:
    """Read what `save` wrote into memory, where an edit of the file no longer reaches it.

    A file that would take more than half of the free memory stays on disk, mapped: written into while it is used, as
    nothing here does, it would change under its reader.
    """
    return load(path, mmap=os.stat(path).st_size > psutil.virtual_memory().available / 2)


@contextmanager
def scratch_tensor(shape: Sequence[int], dtype: torch.dtype, *, beside: str | Path) -> Iterator[Tensor]:
    """A zeroed tensor in a preallocated file, memory-mapped, so that it may outgrow memory; gone after the block."""
    folder = Path(beside).parent
    folder.mkdir(parents=True, exist_ok=True)
    count = torch.Size(shape).numel()
    reserve = getattr(os, "posix_fallocate", lambda file, start, size: os.truncate(file, size))  # macOS has none
    handle, name = tempfile.mkstemp(prefix=".scratch.", suffix=".tmp", dir=folder)
    try:
        with _naming(beside):
            # A full disk is an error now, not a signal when a page is touched.
            reserve(handle, 0, count * dtype.itemsize)
        mapped = torch.from_file(name, shared=True, size=count, dtype=dtype)
    finally:
        os.close(handle)
        os.unlink(name)  # the mapping keeps the data until it goes, even after a kill
    yield mapped.view(*shape)


def write_json(values: Mapping[str, Any], path: str | Path) -> None:
    """Write `values` as JSON that git can diff; a number that is not finite is an error."""
    write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(path).read_text())
    return loaded


def write_csv(rows: "Sequence[Mapping[str, Any]] | DataFrame", path: str | Path) -> None:
    """Write one line per row under a header; floats in the shortest form that reads back equal."""
    import pandas as pd  # late, as a stage needs it at its end if at all

    with replacing(path) as file:
        pd.DataFrame(rows).to_csv(file, index=False, lineterminator="\n")


def write_text(text: str, path: str | Path) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def append_line(value: Mapping[str, Any], path: str | Path) -> None:
    """Add one JSON value to a journal, on disk before this returns."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path), open(path, "ab") as file:
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The journal's values; an absent file is empty, and a last line that a kill cut short is cut off."""
    path = Path(path)
    if not path.exists():
        return []
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        with replacing(path) as file:
            file.write(whole + newline)
    return [json.loads(line) for line in whole.splitlines()]


def sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a nested mapping, by their dotted names."""
    for key, value in values.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]


def linked_folder(path: str | Path, below: str | Path) -> Path | None:
    """The first link to a folder on the way down to `path` from `below`, which may itself be one.

    DVC records such a link by its name, and does not see what changes behind it.
    """
    path, below = Path(os.path.abspath(path)), Path(os.path.abspath(below))
    steps = (step for step in (*reversed(path.parents), path) if below in step.parents)
    return next((Path(os.path.relpath(step)) for step in steps if step.is_symlink() and step.is_dir()), None)
