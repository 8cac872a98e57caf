"""Pixels come out of files as Pillow and torchvision see them, whatever stands in the metadata."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize

from src.images import decoding
from src.images.decoding import BadImageError, decode_image
from tests.builders.damage import resized_header
from tests.builders.data import encoded, pixels

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, 3) as EXIF's orientation turns it."""
    turns = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    turns |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 1)}
    return np.ascontiguousarray(turns.get(orientation, lambda a: a)(array))


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (32, 64), (16, 40), (8, 24)])
def test_another_size_is_resized_and_cropped_as_torchvision_does(height: int, width: int) -> None:
    image = Image.fromarray(pixels(height, width))
    reference = Compose([Resize(16, InterpolationMode.BICUBIC, antialias=True), CenterCrop(16)])
    found = decode_image(encoded(np.asarray(image)), 16).transpose(1, 2, 0).astype(int)
    assert np.abs(found - np.asarray(reference(image))).max() <= 1  # Pillow picks which axis it rounds first


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("BMP", {})]
)
def test_an_image_of_the_right_size_keeps_the_pixels_that_pillow_decodes(kind: str, options: dict[str, bool]) -> None:
    content = encoded(pixels(8, 8), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(content, 8).transpose(1, 2, 0), expected)


def test_a_large_photo_that_is_decoded_at_an_eighth_looks_like_the_whole_one() -> None:
    smooth = np.asarray(Image.fromarray(pixels(12, 16)).resize((1600, 1200), Image.Resampling.BICUBIC))
    content = encoded(smooth, "JPEG", quality=95)
    found = decode_image(content, 64).astype(int).transpose(1, 2, 0)
    whole = ImageOps.fit(Image.open(io.BytesIO(content)), (64, 64), Image.Resampling.BICUBIC)
    assert np.abs(found - np.asarray(whole).astype(int)).max() <= 6


@pytest.mark.parametrize("shape", [(48, 96), (301, 200), (7, 5), (8, 8)])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB"), ("BMP", "RGB")],
)
def test_stored_pixels_are_those_of_pillows_own_steps_bit_for_bit(kind: str, mode: str, shape: tuple[int, int]) -> None:
    """Open, draft, turn, convert, resize, as from the beginning: other bits would change studies."""
    tags = Image.Exif()
    tags[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(pixels(*shape)).convert(mode).save(buffer, kind, **({} if kind == "BMP" else {"exif": tags}))
    image = Image.open(io.BytesIO(buffer.getvalue()))
    if image.size != (8, 8):
        image.draft(None, (16, 16))
    turned = ImageOps.exif_transpose(image).convert("RGB")
    expected = turned if turned.size == (8, 8) else ImageOps.fit(turned, (8, 8), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decode_image(buffer.getvalue(), 8).transpose(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation: int, side: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    array = pixels(side, side)
    found = decode_image(encoded(array, "PNG", exif=tags), 8)
    np.testing.assert_array_equal(found, decode_image(encoded(upright(array, orientation)), 8))


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize(
    ("mode", "options"), [("RGBA", {}), ("LA", {}), ("P", {"transparency": 0}), ("RGB", {"transparency": (0, 0, 0)})]
)
def test_a_drawing_on_nothing_is_seen_on_white(mode: str, options: dict[str, Any], size: int) -> None:
    """Dark ink, where what is transparent is black: without its transparency all would be black."""
    ink = np.zeros((32, 32), bool)
    ink[8:24, 8:24] = True
    values = {"RGBA": (1, 1, 1, 255), "LA": (1, 255), "P": 1, "RGB": (1, 1, 1)}[mode]
    array = np.where(ink[..., None], np.array(values, np.uint8), np.uint8(0)).squeeze()
    image = Image.fromarray(array, mode) if mode != "P" else Image.fromarray(array, "L").convert("P")
    if mode == "P":
        image.putpalette([0, 0, 0, 1, 1, 1])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    found = decode_image(buffer.getvalue(), size)
    seen = ink[:: 32 // size, :: 32 // size]
    assert (found[:, ~seen] > 200).all()
    assert (found[:, seen] < 50).all()


@pytest.mark.parametrize(
    ("array", "mode", "expected"),
    [
        (np.full((8, 8), 200, np.uint8), None, (200, 200, 200)),
        (np.full((8, 8), 200 * 256 + 7, np.uint16), None, (200, 200, 200)),  # 16 bits a pixel
        (np.full((8, 8), True), None, (255, 255, 255)),
        (np.full((8, 8, 4), (10, 20, 30, 255), np.uint8), None, (10, 20, 30)),
        (np.full((8, 8, 4), (10, 20, 30, 128), np.uint8), None, (132, 137, 142)),  # on white
        (np.full((8, 8, 3), (10, 20, 30), np.uint8), "P", (10, 20, 30)),
        (np.full((8, 8, 2), (90, 0), np.uint8), None, (255, 255, 255)),
    ],
)
def test_every_mode_of_png_becomes_rgb(array: np.ndarray, mode: str | None, expected: tuple[int, int, int]) -> None:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode else image).save(buffer, "PNG")
    found = decode_image(buffer.getvalue(), 8)
    assert [np.unique(channel).tolist() for channel in found] == [[value] for value in expected]


def exif(*entries: tuple[int, int, int, bytes], rest: bytes = b"") -> bytes:
    """EXIF with these entries: tag, type, count, and four bytes that are the value or say where it stands."""
    packed = b"".join(struct.pack("<HHL4s", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + packed + bytes(4) + rest


SHORT, TEXT = 3, 2
TURNED = (0x0112, SHORT, 1, b"\6\0\0\0")  # orientation 6
KINDS = ("JPEG", "PNG", "WEBP")
PIXELS = pixels(8, 8)


def with_exif(kind: str, content: bytes) -> bytes:
    return encoded(PIXELS, kind, exif=content if kind == "PNG" else b"Exif\0\0" + content)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, TEXT, 10, b"\x2a\0\0\0"),  # the resolution as a text, `72/1 dpi`
        (0x011A, 1, 1, b"\x48\0\0\0"),  # or as a byte
        (0x011A, 5, 0, b"\0\0\0\0"),  # or as no number at all
        (0x8769, SHORT, 1, b"\xff\xff\0\0"),  # a directory that is not there
        (0x9286, 7, 2**31, b"\xff\xff\xff\xff"),  # a comment longer than the file
        (0x0131, 999, 1, b"\0\0\0\0"),  # a type that nobody knows
    ],
)
def test_an_odd_tag_beside_the_orientation_does_not_keep_a_photo_from_being_turned(
    kind: str, odd: tuple[int, int, int, bytes]
) -> None:
    dpi = (0x0128, SHORT, 1, b"\2\0\0\0")
    found = decode_image(with_exif(kind, exif(TURNED, odd, dpi, rest=b"72/1 dpi\0")), 8)
    plain = decode_image(encoded(PIXELS, kind), 8).transpose(1, 2, 0)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), upright(plain, 6))


@given(
    kind=st.sampled_from(KINDS),
    entries=st.lists(
        st.tuples(
            st.sampled_from([0x0112, 0x011A, 0x011B, 0x0128, 0x8769, 0x8825, 0xB001]),
            st.integers(0, 20),
            st.sampled_from([0, 1, 2, 5, 2**31]),
            st.binary(min_size=4, max_size=4),
        ),
        max_size=5,
    ),
    rest=st.binary(max_size=40),
    cut=st.integers(0, 100),
)
def test_whatever_stands_in_the_exif_the_pixels_are_those_of_one_of_its_eight_orientations(
    kind: str, entries: list[tuple[int, int, int, bytes]], rest: bytes, cut: int
) -> None:
    found = decode_image(with_exif(kind, exif(*entries, rest=rest)[: 100 - cut]), 8).transpose(1, 2, 0)
    plain = decode_image(encoded(PIXELS, kind), 8).transpose(1, 2, 0)
    assert any(np.array_equal(found, upright(plain, orientation)) for orientation in range(1, 9))


def with_chunk(name: bytes, content: bytes, *, checksum: int | None = None, behind: str = "IHDR") -> bytes:
    """A PNG with one more chunk before or behind its pixels."""
    png = encoded(PIXELS)
    place = 33 if behind == "IHDR" else len(png) - 12
    crc = zlib.crc32(name + content) if checksum is None else checksum
    return png[:place] + struct.pack(">L4s", len(content), name) + content + struct.pack(">L", crc) + png[place:]


@pytest.mark.parametrize("behind", ["IHDR", "IDAT"])
@pytest.mark.parametrize(
    ("name", "beginning"), [(b"iCCP", b"profile\0\0"), (b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\1\0\0\0")]
)
def test_large_metadata_are_no_damage(name: bytes, beginning: bytes, behind: str) -> None:
    """2 MB of colour profile or text, compressed, which Pillow refuses; and the photo is turned all the same."""
    large = with_chunk(name, beginning + zlib.compress(bytes(2 * 10**6)), behind=behind)
    np.testing.assert_array_equal(decode_image(large, 8).transpose(1, 2, 0), PIXELS)
    turned = exif(TURNED)
    chunk = struct.pack(">L4s", len(turned), b"eXIf") + turned + struct.pack(">L", zlib.crc32(b"eXIf" + turned))
    found = decode_image(large[:-12] + chunk + large[-12:], 8).transpose(1, 2, 0)
    np.testing.assert_array_equal(found, upright(PIXELS, 6))


@given(
    name=st.sampled_from(
        [b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf", b"cHRM", b"gAMA", b"pHYs", b"tIME", b"acTL", b"abCd"]
    ),
    content=st.binary(max_size=60),
    checksum=st.none() | st.just(0),
    behind=st.sampled_from(["IHDR", "IDAT"]),
)
@example(name=b"cHRM", content=b"\0", checksum=None, behind="IHDR")
def test_whatever_stands_in_a_pngs_metadata_the_pixels_stay(
    name: bytes, content: bytes, checksum: int | None, behind: str
) -> None:
    found = decode_image(with_chunk(name, content, checksum=checksum, behind=behind), 8)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), PIXELS)


@given(
    kind=st.sampled_from([*KINDS, "BMP"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=5),
    kept=st.floats(0, 1),
)
def test_a_damaged_file_is_pixels_or_an_error_in_a_few_words(
    kind: str, changes: list[tuple[float, int]], kept: float
) -> None:
    content = bytearray(encoded(PIXELS, kind))
    for place, value in changes:
        content[int(place * len(content))] = value
    try:
        found = str(decode_image(bytes(content[: round(kept * len(content))]), 8).shape)
    except BadImageError as error:
        found = str(error)
    assert found.startswith(("(3, 8, 8)", "no JPEG, PNG, WEBP, BMP", "damaged: ", "more pixels than"))


@pytest.mark.parametrize(
    ("content", "side"),
    [
        (encoded(PIXELS), 40_000),  # which Pillow itself refuses
        (encoded(PIXELS), 11_000),  # in 1.1 GiB
        (encoded(PIXELS, "JPEG", subsampling=0), 13_100),  # of coefficients
        (encoded(PIXELS, "JPEG", progressive=True, subsampling=0), 13_100),
    ],
)
def test_more_pixels_than_memory_should_hold_are_refused_before_any_is_decoded(content: bytes, side: int) -> None:
    with pytest.raises(BadImageError, match=r"^more pixels than are decoded safely$"):
        decode_image(resized_header(content, side, side), 8)


def test_a_file_of_too_many_bytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(PIXELS)
    monkeypatch.setattr(decoding, "MAX_BYTES", 2**20)
    assert decode_image(content + bytes(2**20 - len(content)), 8).shape == (3, 8, 8)
    with pytest.raises(BadImageError, match=r"^more than 1 MiB$"):
        decode_image(content + bytes(2**20), 8)


def test_decoding_needs_nothing_but_numpy_and_pillow() -> None:
    code = "import sys, src.images.decoding; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"numpy", "PIL"} <= loaded
    assert not loaded & {"torch", "torchvision", "pandas", "scipy", "onnxruntime", "psutil", "tqdm", "yaml"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others count memory in other units")
def test_ten_thousand_damaged_files_are_images_or_errors_and_take_neither_a_gibibyte_nor_thirty_seconds() -> None:
    code = "from tests.builders.damage import fuzz; print(*fuzz(10_000))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=1800)
    images, slowest, memory = map(float, done.stdout.split())
    assert 1000 < images < 9000
    assert slowest < 30
    assert memory < 1024
