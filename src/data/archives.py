"""Archives and directories, read member by member in memory.

Nothing is ever extracted to disk, so that no member can land anywhere.
"""

import gzip
import hashlib
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import zstandard

from src.base import artifacts
from src.images import decoding

KINDS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip")
MOST = decoding.MAX_BYTES + 1  # bytes of a member that are read: enough to see that it is too large
_PIECE = 2**20  # bytes read at a time
_ENCRYPTED, _UTF8 = 1, 1 << 11  # flags of a zip's member
_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, NotImplementedError, EOFError),  # zip: an unknown method of compression
    *(zlib.error, lzma.LZMAError, zstandard.ZstdError),
)


def sha256(path: Path) -> str:
    """Of a file; of a directory, the SHA-256 of what `sha256sum` prints for its files in sorted order.

    A directory's README.md and what operating systems drop into it do not count.
    """
    if not path.is_dir():
        return artifacts.sha256(path)
    names = sorted(name for name, _ in entries(path, ()) if not name.endswith("/") and name != "README.md")
    return sha256_of_files({name: path / name for name in names})


def sha256_of_files(files: Mapping[str, Path]) -> str:
    lines = "".join(f"{artifacts.sha256(path)}  {name}\n" for name, path in files.items())
    return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()


def entries(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Every member of an archive or a directory: its path inside, a directory's with a "/" at its end, and its content.

    Only members in `wanted` are read, each to one byte more than an image may have (decoding.MAX_BYTES); the content of
    others is empty. What operating systems add is left out.

    Raises:
        ValueError: the archive is of another kind or damaged; a member points outside it or is no file or directory.
    """
    try:
        for name, content in _members(path, wanted):
            if name.strip("/") and not _is_clutter(name):
                yield name, content
    except (*_DAMAGE, OSError) as error:
        if getattr(error, "filename", None):  # the system's, about a file; a reader of archives names none
            raise
        raise ValueError(
            f"{path} is no whole archive (truncated or damaged): {str(error) or type(error).__name__}"
        ) from None


def _members(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    name = path.name.lower()
    if path.is_dir():
        yield from _directory_members(path, wanted)
    elif name.endswith(".zip"):
        yield from _zip_members(path, wanted)
    elif name.endswith(KINDS):
        with _decompressed(path) as stream:
            yield from _tar_members(path, stream, wanted)
            while stream.read(_PIECE):  # the checksum of what is compressed comes last
                pass
    else:
        raise ValueError(f"{path} is no archive known here; allowed: a directory, {', '.join(KINDS)}")


def _directory_members(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    visited = set()
    for folder, folders, files in os.walk(path, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            raise ValueError(f"{folder} is reached twice, through a link")
        visited.add(real)
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        inside = Path(folder).relative_to(path)
        yield from (((inside / name).as_posix() + "/", b"") for name in folders)
        for file in sorted(files):
            name = (inside / file).as_posix()
            _require(path, name, plain=(path / name).is_file() or _is_clutter(name))
            yield name, _start_of(path / name) if name in wanted else b""


def _start_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MOST)


def first_link(path: Path) -> Path | None:
    """A link to a folder somewhere in the folder `path`, among what would be read."""
    for folder, folders, _ in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        if link := next((name for name in folders if os.path.islink(os.path.join(folder, name))), None):
            return Path(folder, link)
    return None


def _raise(error: OSError) -> None:
    raise error


def _zip_members(path: Path, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            written = _name_of(member)
            _require(path, written, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
            if member.flag_bits & _ENCRYPTED:
                raise ValueError(f"{path}: {written!r} is encrypted; allowed: an archive without a password")
            name = _inside(path, written.replace("\\", "/"))  # which Windows writes
            content = b""
            if name in wanted:
                with archive.open(member) as file:
                    content = file.read(MOST)
            yield name, content


def _name_of(member: zipfile.ZipInfo) -> str:
    """Many tools write UTF-8 without the flag that says so; zipfile takes these bytes for MS-DOS's code page."""
    if member.flag_bits & _UTF8:
        return member.filename
    try:
        return member.filename.encode("cp437").decode()
    except UnicodeError:
        return member.filename


def _tar_members(path: Path, stream: IO[bytes], wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictHeader) as archive:
        for member in archive:
            _require(path, member.name, plain=member.isreg() or member.isdir())
            name = _inside(path, member.name) + "/" * member.isdir()
            file = archive.extractfile(member) if name in wanted else None
            yield name, file.read(MOST) if file else b""


class _StrictHeader(tarfile.TarInfo):
    """tarfile takes a broken header, and a file cut off between two members, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictHeader":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the block of zeros that ends an archive
            raise tarfile.ReadError(str(error)) from None


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    suffix = path.suffix.lower()
    with open(path, "rb") as file:
        if suffix in (".gz", ".tgz"):
            yield gzip.GzipFile(fileobj=file)  # type: ignore[misc]
        elif suffix == ".xz":
            yield lzma.LZMAFile(file)  # noqa: SIM115 - `file` is what to close
        elif suffix == ".zst":
            yield zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        else:
            yield file


def _require(path: Path, member: str, *, plain: bool) -> None:
    if not plain:
        raise ValueError(
            f"{path}: {member!r} is a link, a device or nothing that can be read; allowed: plain files and directories"
        )


def _inside(path: Path, member: str) -> str:
    """The member's name without "./", or a ValueError where it leads out of the archive."""
    parts = member.split("/")
    if member.startswith("/") or ".." in parts or re.match("[A-Za-z]:/", member):
        raise ValueError(f"{path}: {member!r} points outside the archive, and nothing of it was read")
    return "/".join(part for part in parts if part not in ("", ".")) + "/" * member.endswith("/")


def _is_clutter(name: str) -> bool:
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or not {"__MACOSX", "Thumbs.db", "desktop.ini"}.isdisjoint(parts)
