"""A small network as ONNX, exported once for all tests that look at it."""

from functools import cache

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from src.images.augmentation import View
from src.use import answering, exporting
from src.use.answering import Model
from src.use.exporting import Whole
from tests.builders.data import encoded, pixels
from tests.builders.small import convolutional

CLASSES = ("cat", "dog", "名前", "a, b")
SIDE, TEMPERATURE, THRESHOLD = 6, 0.25, 0.35
VIEW = View(resolution=8, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))
FACTS = {"classes": CLASSES, "image_size": SIDE, "threshold": THRESHOLD, "backbone": "efficientnet_b0"}


def images(count: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)


@cache
def network() -> nn.Module:
    return convolutional().eval().requires_grad_(False)


@cache
def whole() -> Whole:
    return Whole(network(), VIEW, side=SIDE, temperature=TEMPERATURE)


@cache
def _graph() -> bytes:
    return exporting.to_onnx(whole(), SIDE).SerializeToString()


def graph() -> onnx.ModelProto:
    """A copy of its own for each caller."""
    return onnx.load_from_string(_graph())


def content(**facts: object) -> bytes:
    return exporting.described(graph(), FACTS | facts)


@cache
def model() -> Model:
    return answering.load(content(), threads=1)


def expected(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits over the temperature by the study's own path."""
    logits = exporting.logits_of(network(), torch.from_numpy(stored), VIEW)
    return (logits / np.float32(TEMPERATURE)).astype(np.float32)


def turned_photos() -> dict[str, bytes]:
    """Photos of all sizes, formats and orientations, by path; 16, in two classes."""
    tags, files = Image.Exif(), dict[str, bytes]()
    for index, kind in enumerate(("JPEG", "PNG", "WEBP", "BMP") * 4):
        tags[0x0112] = 1 + index % 8
        options = {} if kind == "BMP" else {"exif": tags}
        content = encoded(pixels(6 + 7 * (index % 5), 20 + index, index), kind, **options)
        files[f"{'cat' if index % 2 else 'dog'}/{index:02d}.{kind.lower().replace('jpeg', 'jpg')}"] = content
    return files


def by_study(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities (N, K) by the study's own path."""
    shares = np.exp(expected(stored))
    found: NDArray[np.float32] = shares / shares.sum(axis=1, keepdims=True)
    return found
