"""Whether an exported model answers as the network that it was made from: on real images, one at a time and in batches.

N images, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.use.answering import Model

BATCHES = (1, 64)
Images = NDArray[np.uint8]  # (N, 3, S, S)
Logits = NDArray[np.float32]  # (N, K)
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How two agree: the share of images of one class in both (fraction), and the largest difference of a logit."""

    agreement: float
    difference: float


def logits(model: Model, images: Images, batch_size: int = BATCHES[-1]) -> Iterator[Logits]:
    """What `model` makes of images, so many at a time."""
    for start in range(0, len(images), batch_size):
        yield model.logits(images[start : start + batch_size])


def compare(
    model: Model, images: Mapping[str, Images], expected: Mapping[str, Logits], *, tolerance: float, advance: Advance
) -> Parity:
    """Hold the answers of `model` on the images of each split against the logits `expected`.

    Raises:
        ValueError: an image is of another class, or a logit differs by `tolerance` or more; names the first such image.
    """
    same, total, largest = 0, 0, 0.0
    for split, stored in images.items():
        for size in BATCHES:
            start = 0
            for found in logits(model, stored, size):
                meant = expected[split][start : start + len(found)]
                gaps = np.abs(found - meant).max(axis=1)  # (N,)
                alike = found.argmax(axis=1) == meant.argmax(axis=1)
                good = alike & (gaps < tolerance)  # nan is not
                if not good.all():
                    row = int(good.argmin())
                    place = f"image {start + row} of {split} ({size} at a time)"
                    raise ValueError(_complaint(place, model.classes, found[row], meant[row], tolerance))
                same, total, largest = same + int(alike.sum()), total + len(found), max(largest, float(gaps.max()))
                start += len(found)
                advance(len(found))
    return Parity(agreement=same / total, difference=largest)


def _complaint(place: str, classes: tuple[str, ...], found: Logits, meant: Logits, tolerance: float) -> str:
    named, right = classes[int(found.argmax())], classes[int(meant.argmax())]
    if named != right:
        return f"the exported model takes {place} for {named!r} and torch for {right!r}, so nothing was written"
    return (
        f"the exported model differs from torch by {np.abs(found - meant).max():.2g} in a logit of {place}, so nothing "
        f"was written; allowed: less than export.tolerance ({tolerance:g})"
    )
