"""How long answers take, several engines side by side in one run. N images, S x S stored pixels."""

import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median, quantiles

import numpy as np
from numpy.typing import NDArray

ROUNDS, BATCH, BATCHES = 100, 64, 5  # at most
FEWEST, SECONDS = 11, 5.0  # rounds, however long they take; after which no further one begins
Answer = Callable[[NDArray[np.uint8]], object]


def measure(engines: Mapping[str, Answer], images: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    """Of each engine, on real images, turn by turn, so that whatever else the machine does meets all alike.

    Returns:
        By engine, latency_ms and latency_p95_ms: median and 95th percentile for a single image, after a tenth of the
        rounds left out; images_per_second: the median of batches.
    """
    singles: dict[str, list[float]] = {name: [] for name in engines}
    batches: dict[str, list[float]] = {name: [] for name in engines}
    for index in _rounds(ROUNDS):
        one = images[index % len(images)][None]
        for name, answer in engines.items():
            singles[name].append(_seconds(answer, one))
    many = np.resize(images[:BATCH], (BATCH, *images.shape[1:]))
    for _ in range(BATCHES):
        for name, answer in engines.items():
            batches[name].append(_seconds(answer, many))
    found = {}
    for name in engines:
        settled = singles[name][len(singles[name]) // 10 :]
        found[name] = {
            "latency_ms": round(1000 * median(settled), 3),
            "latency_p95_ms": round(1000 * quantiles(settled, n=20)[-1], 3),
            "images_per_second": round(BATCH / median(batches[name][1:]), 1),
        }
    return found


def _rounds(most: int) -> Iterator[int]:
    """0, 1, ...: so many, or fewer where they take long."""
    began = time.perf_counter()
    for index in range(most):
        if index >= FEWEST and time.perf_counter() - began > SECONDS:
            return
        yield index


def _seconds(answer: Answer, images: NDArray[np.uint8]) -> float:
    began = time.perf_counter()
    answer(images)
    return time.perf_counter() - began
