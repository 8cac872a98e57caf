"""Damaged and lying image files for tests; imports little, so that a process can measure what decoding alone takes."""

import io
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from src.images.decoding import BadImageError, decode_image

SAID = r"|no JPEG, PNG, WEBP, BMP|damaged: .+|more pixels than are decoded safely"
KINDS: list[tuple[str, dict[str, bool]]] = [
    *((kind, {}) for kind in ("JPEG", "PNG", "WEBP", "BMP")),
    *(("JPEG", {"progressive": True}), ("WEBP", {"lossless": True})),
]


def resized_header(content: bytes, width: int, height: int) -> bytes:
    """A JPEG or a PNG that says that it has so many pixels."""
    changed = bytearray(content)
    if content.startswith(b"\xff\xd8"):
        start = next(place for place in (content.find(b"\xff\xc0"), content.find(b"\xff\xc2")) if place > 0)
        changed[start + 5 : start + 9] = struct.pack(">HH", height, width)
    else:
        changed[16:24] = struct.pack(">LL", width, height)
        changed[29:33] = struct.pack(">L", zlib.crc32(changed[12:29]))
    return bytes(changed)


def fuzz(count: int) -> tuple[int, float, float]:
    """Damage files, their headers most of all; how many were images, the longest CPU seconds, and the peak in MiB."""
    draws, whole = np.random.default_rng(0), []
    for shape in ((8, 8, 3), (120, 90, 3)):
        for kind, how in KINDS:
            buffer = io.BytesIO()
            Image.fromarray(draws.integers(256, size=shape, dtype=np.uint8)).save(buffer, kind, **how)
            whole.append(buffer.getvalue())
    images, slowest = 0, 0.0
    for number in range(count):
        content = whole[number % len(whole)]
        if draws.random() < 0.3 and content.startswith((b"\xff\xd8", b"\x89PNG")):
            content = resized_header(content, *(int(side) for side in 2 ** draws.uniform(0, 15.9, 2)))
        changed = bytearray(content)
        for _ in range(draws.integers(6)):
            place = draws.integers(len(changed) if draws.random() < 0.5 else 64)
            changed[place] = draws.integers(256)
        kept = len(changed) if draws.random() < 0.7 else draws.integers(len(changed) + 1)
        began = time.process_time()
        try:
            said = "" if decode_image(bytes(changed[:kept]), 8).shape == (3, 8, 8) else "another shape"
        except BadImageError as error:
            said = str(error)
        assert re.fullmatch(SAID, said)
        images += not said
        slowest = max(slowest, time.process_time() - began)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # ru_maxrss begins at the parent's
    assert peak
    return images, slowest, int(peak[1]) / 2**10
