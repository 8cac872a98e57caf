"""Small datasets for tests: images, folders, archives of every kind, official archives and a server for them."""

import gzip
import hashlib
import io
import lzma
import pickle
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image

from src.data.downloads import Archive
from src.interface.params import Dataset

Files = Mapping[str, bytes]


def dataset(name: str = "folder", **changes: object) -> Dataset:
    values = {"source": None, "image_size": 8, "bad_files": "stop", "test_fraction": 0.2, "val_fraction": 0.25}
    values |= {"train_limit": None, "split_seed": 0}
    return Dataset(name=name, **(values | changes))  # type: ignore[arg-type]


def pixels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(array: NDArray[np.uint8], kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def photos(
    *, train: int = 4, test: int = 2, val: int = 0, classes: tuple[str, ...] = ("cat", "dog"), side: int = 8
) -> dict[str, bytes]:
    """A folder dataset of different images, `train` of each class and so on, by path."""
    counts = {"train": train, "test": test, "val": val}
    names = [f"{s}/{c}/{i:02d}.png" for s, count in counts.items() for c in classes for i in range(count)]
    return {name: encoded(pixels(side, side, seed)) for seed, name in enumerate(names)}


def write_folder(files: Files, root: Path) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content)
    return root


def tar_bytes(files: Files, *members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.size, member.type = len(content), tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


def zip_bytes(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


PACKED: dict[str, Callable[[Files], bytes]] = {
    ".tar": tar_bytes,
    ".tar.gz": lambda files: gzip.compress(tar_bytes(files)),
    ".tgz": lambda files: gzip.compress(tar_bytes(files)),
    ".tar.xz": lambda files: lzma.compress(tar_bytes(files)),
    ".tar.zst": lambda files: zstandard.compress(tar_bytes(files)),
    ".zip": zip_bytes,
}


def write_archive(files: Files, path: Path) -> Path:
    kind = next(kind for kind in sorted(PACKED, key=len, reverse=True) if path.name.endswith(kind))
    path.write_bytes(PACKED[kind](files))
    return path


def _pickled(values: object) -> bytes:
    """As Python 2 and an old NumPy wrote it: protocol 2, and the module that NumPy 2 renamed."""
    return pickle.dumps(values, protocol=2).replace(b"numpy._core", b"numpy.core")


def cifar10_bytes(
    images: NDArray[np.uint8], labels: list[int], test_images: NDArray[np.uint8], test_labels: list[int]
) -> bytes:
    """An archive in the layout of cifar-10-python.tar.gz: five training batches of images (N, 3, 32, 32)."""
    files = {"cifar-10-batches-py/batches.meta": _pickled({b"label_names": [f"class{i}".encode() for i in range(10)]})}
    for i, rows in enumerate(np.array_split(np.arange(len(images)), 5), start=1):
        batch = {b"data": images[rows].reshape(len(rows), -1), b"labels": [labels[row] for row in rows]}
        files[f"cifar-10-batches-py/data_batch_{i}"] = _pickled(batch)
    batch = {b"data": test_images.reshape(len(test_images), -1), b"labels": test_labels}
    files["cifar-10-batches-py/test_batch"] = _pickled(batch)
    return gzip.compress(tar_bytes(files), mtime=0)


def cifar100_bytes(labels: list[int]) -> bytes:
    """An archive in the layout of cifar-100-python.tar.gz: the same random images and fine labels in train and test."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    batch = {b"data": images, b"fine_labels": labels, b"coarse_labels": [0] * len(labels)}
    names = {b"fine_label_names": [f"fine{i}".encode() for i in range(20)], b"coarse_label_names": [b"coarse"]}
    files = {"meta": _pickled(names), "train": _pickled(batch), "test": _pickled(batch), "file.txt~": b"no pickle"}
    return gzip.compress(tar_bytes({f"cifar-100-python/{name}": content for name, content in files.items()}))


def small_cifar10(train: int = 200, test: int = 50) -> tuple[bytes, NDArray[np.uint8], NDArray[np.uint8]]:
    """The archive, its training and its test images; image i has label i % 10."""
    images, rest = (
        np.random.default_rng(s).integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for s, n in ((0, train), (1, test))
    )
    return cifar10_bytes(images, [i % 10 for i in range(train)], rest, [i % 10 for i in range(test)]), images, rest


def archive(content: bytes, *urls: str, name: str = "cifar-10-python.tar.gz") -> Archive:
    return Archive(name=name, urls=urls, md5=hashlib.md5(content).hexdigest(), size=len(content))


@dataclass
class Mirror:
    """What one path of the test's server does, and what was asked of it."""

    content: bytes
    knows_ranges: bool = True
    cut_after: int | None = None  # bytes per answer, after which the connection closes
    stall_after: int | None = None  # bytes per answer, after which nothing comes until `released`
    status: int = 200
    announced: int | None = None  # a Content-Length that is not the truth
    released: threading.Event = field(default_factory=threading.Event)
    ranges: list[str | None] = field(default_factory=list)
    served: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.knows_ranges else 0
        size = len(self.content)
        handler.send_response(206 if start else self.status)
        handler.send_header("Content-Length", str(self.announced or size - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        handler.end_headers()
        end = size if self.cut_after is None else min(size, start + self.cut_after)
        for offset in range(start, end, 4096):
            if self.stall_after is not None and offset - start >= self.stall_after:
                self.released.wait(60)
            piece = self.content[offset : min(offset + 4096, end)]
            handler.wfile.write(piece)
            self.served += len(piece)


@contextmanager
def serving(**mirrors: Mirror) -> Iterator[str]:
    """A server on 127.0.0.1 with one path per mirror; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # the client may be killed
                mirrors[self.path.strip("/")].answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        for mirror in mirrors.values():
            mirror.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the process ended before"
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
