"""What an image is taken for: the same words on the command line, over HTTP and on the page. S x S stored pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.use.answering import Model

COLUMN = "image"  # of a request to MLflow's server
NEVER = 2.0  # a threshold that no probability reaches, where a number is needed
DIGITS = 6  # of a probability; the last ones of a float32 say nothing


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an image was taken for.

    Attributes:
        image: its path, or another name.
        top: classes and their calibrated probabilities, the likeliest first; empty where it could not be read.
        sure: whether the first is above the threshold.
        error: why it could not be read; None where it could.
    """

    image: str
    top: tuple[tuple[str, float], ...] = ()
    sure: bool = False
    error: str | None = None


def answer(model: Model, image: str, pixels: NDArray[np.uint8], *, top: int, threshold: float | None) -> Answer:
    """What `model` takes stored pixels (3, S, S) for, by themselves: others beside them would change the last bits.

    Args:
        image: what the answer calls it.
        top: how many classes are named.
        threshold: probability below which it is not sure; None: it never is.
    """
    probabilities = model.probabilities(pixels[None])[0]
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    named = tuple((model.classes[index], float(probabilities[index])) for index in order)
    return Answer(image=image, top=named, sure=threshold is not None and named[0][1] >= threshold)


def values(found: Answer) -> dict[str, object]:
    """`found` for JSON, without its image: `answer` is null where it is not sure."""
    if found.error is not None:
        return {"error": found.error}
    named = [{"class": name, "probability": round(share, DIGITS)} for name, share in found.top]
    return {"answer": found.top[0][0] if found.sure else None, "top": named}
