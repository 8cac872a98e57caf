"""Sheets of small images: every image and word is in the drawing, which asks for nothing."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from src.figures import thumbnails


def images(groups: int, beside: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.random.default_rng(0).integers(0, 256, (groups, beside, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(("groups", "beside"), [(1, 1), (5, 2), (9, 1)])
def test_every_image_is_in_the_drawing_pixel_for_pixel_and_every_word_below(groups: int, beside: int) -> None:
    given = images(groups, beside)
    words = [[f"first {number}", f"second {number}"] for number in range(groups)]
    text = thumbnails.sheet(given, words, 4)
    found = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data in re.findall(r'href="data:image/png;base64,\s*([^"]*)"', text)
    ]
    assert len(found) == groups * beside
    for drawn, image in zip(found, given.reshape(-1, 8, 8, 3), strict=True):
        assert np.array_equal(drawn, image) or np.array_equal(drawn[::-1], image)
    assert all(word in text for line in words for word in line)


def test_equal_images_give_equal_bytes_and_odd_names_stay_text() -> None:
    words = [["<b> & $x$", "a\x07b", "very " * 40]]
    one, two = (thumbnails.sheet(images(1, 2), words, 4) for _ in range(2))
    assert one == two
    assert "&lt;b&gt; &amp; $x$" in one
    assert "…" in one
