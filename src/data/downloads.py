"""Official archives: downloaded with mirrors, resume and checksum.

The only module beside artifacts.py that writes: parts of archives, into the download cache. A part gets the archive's
name once its checksum is right, so a kill at any moment leaves nothing that could be taken for the whole.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from src.interface import console

TIMEOUT = 15.0  # seconds without a byte, after which a mirror is given up
ATTEMPTS = 5  # per mirror, as long as each brings more bytes
_PIECE = 2**20  # bytes, at most, between two writes


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An official archive.

    Attributes:
        urls: mirrors of the same bytes, tried in this order.
        md5: of the whole file, in hexadecimal.
        size: in bytes.
    """

    name: str
    urls: tuple[str, ...]
    md5: str
    size: int


class _MirrorError(Exception):
    """Why a mirror stopped before the end."""


def fetch(archive: Archive, cache: Path) -> Path:
    """The archive's file in `cache`, checksum verified; downloaded unless it is there, from where a part stopped.

    Raises:
        ValueError: no mirror gave the right bytes; what each did, and the ways out.
    """
    target, part = cache / archive.name, cache / f"{archive.name}.part"
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        if target.exists() and _md5(target) == archive.md5:
            return target
        if failures := _download(archive, part):
            kept = f"; {_size(part)} of {archive.size} bytes are kept, and the next try goes on from there"
            raise ValueError(
                f"{archive.name} is not in {cache} and could not be downloaded: {'; '.join(failures)}"
                f"{kept if _size(part) else ''}. Ways out: dataset.source=<path of a local copy of {archive.name}>, "
                "another dataset such as dataset.name=digits, or `make run`; these need no network"
            )
        os.replace(part, target)
    return target


def verify(archive: Archive, path: Path) -> None:
    """Raise a ValueError unless the local file `path` is the official archive, byte for byte."""
    size = path.stat().st_size
    if size < archive.size:
        raise ValueError(f"dataset.source: {path} is truncated: {size} bytes of the {archive.size} of {archive.name}")
    if (found := _md5(path)) != archive.md5:
        raise ValueError(
            f"dataset.source: {path} has the wrong checksum: MD5 {found}; {archive.name} has {archive.md5}"
        )


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One download into `cache` at a time: a queued experiment may run beside this one."""
    with open(cache / ".lock", "w") as file:  # the system unlocks it when the process ends, however it ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"waiting for another process that downloads into {cache}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(archive: Archive, part: Path) -> list[str]:
    """Fill `part` from the mirrors in turn; nothing when it is whole and right, otherwise what each mirror did."""
    failures = []
    for url in archive.urls:
        for _ in range(ATTEMPTS):
            start = _size(part)
            reason = _continue(url, archive, part)
            again = _size(part) > start
            if reason is None:
                found = _md5(part)
                if found == archive.md5:
                    return []
                part.unlink()
                reason, again = f"wrong checksum: MD5 {found} instead of {archive.md5}", start > 0  # the part's fault?
            if not again:
                break
        failures.append(f"{url}: {reason}")
    return failures


def _continue(url: str, archive: Archive, part: Path) -> str | None:
    """Add to `part` what `url` has beyond it; why that stopped before the end, or None.

    Any mirror may go on from another's part, because all of them serve the same bytes.
    """
    start = _size(part)
    if start == archive.size:
        return None
    try:
        with (
            _answer(url, archive, start) as (offset, response),
            console.progress(archive.size, "B", f"download {archive.name}", start=offset) as bar,
            open(part, "ab") as file,
        ):
            file.truncate(offset)
            for piece in _pieces(response, offset, archive.size):
                file.write(piece)
                file.flush()  # what came survives a kill
                bar.advance(len(piece))
            os.fsync(file.fileno())
    except _MirrorError as error:
        return str(error)
    return None


@contextmanager
def _answer(url: str, archive: Archive, start: int) -> Iterator[tuple[int, HTTPResponse]]:
    """The server's answer, and the byte of the archive that it begins with: 0 where the server knows no ranges."""
    headers = {"Range": f"bytes={start}-"} if 0 < start < archive.size else {}
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)  # noqa: S310 - our own table of http(s) URLs
    except (OSError, HTTPException) as error:
        raise _MirrorError(_reason(error)) from None
    with response:
        offset = start if response.status == 206 else 0
        span = response.headers.get("Content-Range", f"bytes {offset}-")
        length = response.headers.get("Content-Length")
        if not span.startswith(f"bytes {offset}-") or length not in (None, str(archive.size - offset)):
            raise _MirrorError(f"offers {length} bytes from {span}, not the {archive.size - offset} from byte {offset}")
        yield offset, response


def _pieces(response: HTTPResponse, offset: int, size: int) -> Iterator[bytes]:
    try:
        while offset < size:
            piece = response.read1(min(_PIECE, size - offset))
            if not piece:
                raise _MirrorError(f"closed the connection at {offset} of {size} bytes")
            offset += len(piece)
            yield piece
    except (OSError, HTTPException) as error:  # of the network alone: what the caller writes fails in the caller
        raise _MirrorError(f"{_reason(error)} at {offset} of {size} bytes") from None


def _reason(error: OSError | HTTPException) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = error.reason if isinstance(error, URLError) else error
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
