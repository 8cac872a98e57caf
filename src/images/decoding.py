"""A JPEG, PNG, WebP or BMP file -> pixels, whatever its metadata are. The only place where images are decoded.

Training images, a person's photo on the command line and one that comes over a network all pass here, so that the same
bytes are the same picture everywhere. Needs NumPy and Pillow alone. H x W pixels.
"""

import struct
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MAX_BYTES = 2**28  # of a file
MAX_MEMORY = 960 * 2**20  # bytes that its pixels may take while they are decoded: all in all less than 1 GiB
# Bytes a pixel, as measured: Pillow has 4, twice where an image is turned or becomes RGB; libwebp adds 8. Of a JPEG in
# several scans, libjpeg keeps all coefficients, at the size that the file has.
_PER_PIXEL, _PER_PIXEL_OF_WEBP, _PER_COEFFICIENT = 9, 17, 2
_MORE_WHERE_TRANSPARENT = 4  # for a copy with alpha, of what has a transparent colour
# What Pillow raises about bytes that are no image.
_DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError),
    *(struct.error, zlib.error),
)
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TOO_MANY = "more pixels than are decoded safely"
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"


class BadImageError(Exception):
    """A file is no image, or a damaged one; says what is wrong in a few words."""


def decode_image(content: bytes, size: int) -> NDArray[np.uint8]:
    """A JPEG, PNG, WebP or BMP file as uint8 of shape (3, size, size).

    Turned as its EXIF says; its shorter side is resized to `size` (bicubic, antialiased) and the centre cropped, both
    at once. Grey becomes RGB, and what is transparent white, as on a page. An image that has the size keeps its pixels.
    Metadata that Pillow cannot read, or finds too large, are left out: they are no damage to the pixels.

    Raises:
        BadImageError: the file is no image, damaged, or larger than is decoded safely.
    """
    if len(content) > MAX_BYTES:
        raise BadImageError(f"more than {MAX_BYTES >> 20} MiB")
    try:
        return _decoded(content, size)
    except Image.DecompressionBombError:
        raise BadImageError(TOO_MANY) from None
    except _DAMAGE:
        bare, exif = _without_metadata(content)
    try:
        return _decoded(bare, size, exif)
    except Image.DecompressionBombError:
        raise BadImageError(TOO_MANY) from None
    except UnidentifiedImageError:
        raise BadImageError(f"no {', '.join(FORMATS)}") from None
    except _DAMAGE as error:
        raise BadImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from None


def _decoded(content: bytes, size: int, exif: bytes = b"") -> NDArray[np.uint8]:
    """The pixels, turned as `exif` says, or the file's own where that is empty."""
    opened = Image.open(BytesIO(content), formats=FORMATS)
    coefficients = opened.width * opened.height * len(opened.getbands()) if opened.format == "JPEG" else 0
    if opened.size != (size, size):
        opened.draft(None, (2 * size, 2 * size))  # a JPEG may be decoded at a half, a quarter or an eighth
    per_pixel = _PER_PIXEL_OF_WEBP if opened.format == "WEBP" else _PER_PIXEL
    per_pixel += _MORE_WHERE_TRANSPARENT * opened.has_transparency_data
    if _PER_COEFFICIENT * coefficients + per_pixel * opened.width * opened.height > MAX_MEMORY:
        raise BadImageError(TOO_MANY)
    opened.load()
    turn = _turn(opened, exif)
    image = opened if turn is None else opened.transpose(turn)
    del opened  # its pixels, before there are more copies of them
    image = _rgb(image)
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(image).transpose(2, 0, 1)


def _turn(image: Image.Image, exif: bytes) -> Image.Transpose | None:
    """What sets the image upright, by the orientation alone: Pillow's `exif_transpose` reads all tags and fails on odd
    ones. What cannot be read turns nothing.
    """
    try:
        tags = image.getexif()
        if exif:
            tags.load(exif)
        return _TURNS.get(tags.get(_ORIENTATION, 1))
    except _DAMAGE:
        return None


def _without_metadata(content: bytes) -> tuple[bytes, bytes]:
    """A PNG or a JPEG without what its pixels do not need, and its EXIF; another file as it is."""
    if content.startswith(_PNG):
        return _bare_png(content)
    return _bare_jpeg(content) if content.startswith(_JPEG) else (content, b"")


def _bare_png(content: bytes) -> tuple[bytes, bytes]:
    """Critical chunks alone, whose names begin with a capital (PNG specification, section 5.4)."""
    kept, exif, start = [_PNG], b"", len(_PNG)
    while start + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        end = start + 12 + length
        if name[0] & 0x20 == 0:
            kept.append(content[start:end])
        elif name == b"eXIf":
            exif = content[start + 8 : end - 4]
        start = end
    return b"".join(kept), exif


def _bare_jpeg(content: bytes) -> tuple[bytes, bytes]:
    """No application segments but JFIF's and Adobe's (APP0, APP14), which say what colours mean, and no comments."""
    kept, exif, start = [_JPEG], b"", len(_JPEG)
    while start + 4 <= len(content) and content[start] == 0xFF and content[start + 1] != 0xDA:  # the scan begins
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4])
        end = start + 2 + length
        if marker == 0xE1 and content[start + 4 :].startswith(b"Exif\0\0"):
            exif = exif or content[start + 4 : end]
        elif marker not in (*range(0xE1, 0xEE), 0xEF, 0xFE):
            kept.append(content[start:end])
        start = end
    return b"".join([*kept, content[start:]]), exif


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:  # what lies under it is whatever the program left there, black most often
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")
