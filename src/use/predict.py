"""What an exported model takes images for.  `python -m src.use.predict photo.jpg folder/ 'more/*.png'`

Needs ONNX Runtime, NumPy and Pillow alone, and starts in under a second. What an image is answered does not depend on
those beside it: they go through the model one by one. Exit status: 0; 1 where an image could not be read; 2 where
nothing could begin; 130 after Ctrl-C.
"""

import argparse
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.images.decoding import FORMATS, MAX_BYTES, BadImageError, decode_image
from src.use import answering, finding, showing
from src.use.answering import Model
from src.use.answers import Answer, answer

MODEL = "models/finetuned.onnx"
TOP = 5
AHEAD = 16  # images that are decoded while another is answered


def answers(model: Model, paths: Iterable[str], *, top: int, threshold: float | None) -> Iterator[Answer]:
    """What `model` takes each image for, in their order; one that cannot be read is answered by what is wrong with it.

    Args:
        top: how many classes an answer names, the likeliest first.
        threshold: probability below which an answer is not sure; None: no answer is sure.
    """
    for path, pixels in _decoded(paths, model.size):
        if isinstance(pixels, str):
            yield Answer(image=path, error=pixels)
            continue
        yield answer(model, path, pixels, top=top, threshold=threshold)


def _decoded(paths: Iterable[str], size: int) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Each path with its pixels (3, S, S), or with what is wrong; threads decode a few ahead."""
    pending: deque[tuple[str, Future[NDArray[np.uint8] | str]]] = deque()
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for path in paths:
            pending.append((path, pool.submit(_read, path, size)))
            if len(pending) > AHEAD:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()


def _read(path: str, size: int) -> NDArray[np.uint8] | str:
    try:
        if Path(path).is_dir():
            os.scandir(path).close()  # or the system says why it cannot be read
        if not Path(path).is_file():
            return "is a folder or no plain file" if Path(path).exists() else "does not exist"
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        return decode_image(content, size) if content else "is empty"
    except BadImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    except MemoryError:
        return "more memory than there is"


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.use.predict",
        description="What an exported model takes images for: probabilities, and 'not sure' below its threshold.",
        epilog=f"Images are {', '.join(FORMATS)}, whatever their names. Exit status 1: some could not be read.",
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="a file, a folder (all images in it and below), a pattern in quotes ('photos/**/*.jpg'), or - for a list "
        "on standard input, a path a line, or with NUL between them",
    )
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}; models/int8/finetuned.onnx is smaller")
    parser.add_argument("--top", type=_positive, default=TOP, help=f"classes to name; default: {TOP}")
    parser.add_argument("--threshold", type=_share, help="in [0, 1]; default: the model's, as validation chose it")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="one JSON array")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="a row per image, with a header")
    return parser.parse_args(given)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of classes; allowed: 1 or more")
    return int(text)


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no probability; allowed: 0 to 1")
    return found


def main(given: list[str] | None = None) -> int:
    """Answer as the command line asks; the exit status."""
    asked = _arguments(given)
    warnings.filterwarnings("ignore", module="PIL")  # odd metadata; many pixels: too many are an error
    paths, left_out = finding.images(asked.images, sys.stdin)
    model = answering.load(asked.model)
    threshold = model.threshold if asked.threshold is None else asked.threshold
    if threshold is None:
        showing.say("this model is nowhere sure enough for its target: every answer is 'not sure' (or --threshold)")
    if left_out:
        showing.say(f"left out, as their names are no image's: {left_out} file{'s' if left_out > 1 else ''}")
    shown: Callable[..., Any] = {"json": showing.json_array, "csv": showing.csv_rows}.get(asked.form, showing.lines)
    found = answers(model, paths, top=min(asked.top, len(model.classes)), threshold=threshold)
    bad = 0
    for each in shown(showing.with_progress(found, len(paths)), sys.stdout):
        bad += each.error is not None
    if bad:
        showing.say(f"{bad} of {len(paths)} could not be read")
    return int(bad > 0)


def run() -> int:
    """`main`, whose errors are one line."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names that are no Unicode
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        showing.say("interrupted")
        return 130
    except BrokenPipeError:  # `| head`; or the interpreter fails once more when it flushes stdout at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        showing.say(str(error))
        return 2
    return status


if __name__ == "__main__":
    sys.exit(run())
