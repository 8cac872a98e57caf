"""Timing candidates side by side, and the machine that the figures are of."""

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

REPEATS = 5
Candidate = Callable[[], object]


def interleaved(candidates: Mapping[str, Candidate], *, warm_up: bool = True) -> dict[str, list[float]]:
    """Seconds of each candidate in each repeat; they take turns (A B A B ...), so that noise hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for candidate in candidates.values() if warm_up else ():
        candidate()
    for _ in range(REPEATS):
        for name, candidate in candidates.items():
            seconds[name].append(timed(candidate))
    return seconds


def timed(candidate: Candidate) -> float:
    start = time.perf_counter()
    candidate()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait until the accelerator, if there is one, has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


class Windows:
    """Seconds of REPEATS windows of `window` steps each, the first `warm_up` steps left out.

    It is told of each step by a call, as training's `advance` is.
    """

    def __init__(self, *, warm_up: int, window: int) -> None:
        self.warm_up, self.window, self.step = warm_up, window, 0
        self.marks: list[float] = []

    def __call__(self, count: int) -> None:
        self.step += 1
        if self.step >= self.warm_up and (self.step - self.warm_up) % self.window == 0:
            synchronise()
            self.marks.append(time.perf_counter())

    @property
    def steps(self) -> int:
        """How many steps all of it takes."""
        return self.warm_up + REPEATS * self.window

    @property
    def seconds(self) -> list[float]:
        return [end - start for start, end in itertools.pairwise(self.marks)]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How many times as fast as theirs ours is, in each repeat."""
    return [their / our for our, their in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def verdict(values: Sequence[float], target: float | None) -> str:
    if target is None:
        return ""
    return f"  target {target:g}: {'met' if statistics.median(values) >= target else 'MISSED'}"


def report(
    title: str, seconds: Mapping[str, Sequence[float]], targets: Mapping[tuple[str, str], float | None], *, images: int
) -> None:
    """Print how the members of each pair compare, and the images/s of all.

    Args:
        seconds: as from `interleaved`, each over `images` images.
        targets: (ours, theirs) -> the least ratio of the speed of the first to that of the second, or None.
    """
    print(title)
    for (ours, theirs), target in targets.items():
        values = ratios(seconds[ours], seconds[theirs])
        print(f"  {ours} / {theirs}: {spread(values)}{verdict(values, target)}")
    rates = (f"{name} {images / statistics.median(times):,.0f}" for name, times in seconds.items())
    print(f"  images/s (median): {', '.join(rates)}", flush=True)


def report_rate(name: str, seconds: Sequence[float], target: float, *, images: int) -> None:
    """Print the images/s of a candidate, each of its `seconds` over `images` images, and whether the target is met."""
    rates = [images / second for second in seconds]
    shown = f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
    print(f"  {name}, images/s: {shown}{verdict(rates, target)}", flush=True)


def machine() -> str:
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads{load}; {versions}"


def _processor() -> str:
    """The processor's name, which `platform` does not know on Linux."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
