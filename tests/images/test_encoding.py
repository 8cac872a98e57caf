"""A PNG of stored pixels is read as the same pixels, by Pillow and by the one decoder."""

import io

import numpy as np
import pytest
from PIL import Image

from src.images.decoding import decode_image
from src.images.encoding import png
from tests.builders.data import pixels


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 7), (5, 31), (64, 64)])
def test_pillow_reads_what_was_written(height: int, width: int) -> None:
    meant = pixels(height, width, seed=height)
    content = png(meant.transpose(2, 0, 1))
    with Image.open(io.BytesIO(content)) as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), meant)
    if height == width:
        np.testing.assert_array_equal(decode_image(content, height), meant.transpose(2, 0, 1))
