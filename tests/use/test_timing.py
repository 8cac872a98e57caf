"""Engines are timed on the same images, turn by turn."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from src.use import timing
from tests.builders import exported


def test_medians_and_percentiles_are_those_of_what_each_engine_takes() -> None:
    turns = list[str]()

    def engine(name: str, seconds: float) -> timing.Answer:
        def answer(images: NDArray[np.uint8]) -> None:
            turns.append(name)
            assert len(images) in (1, timing.BATCH)
            time.sleep(seconds if len(images) == 1 else 2 * seconds)

        return answer

    found = timing.measure({"slow": engine("slow", 0.004), "fast": engine("fast", 0.001)}, exported.images(3))
    assert turns == ["slow", "fast"] * (len(turns) // 2)
    assert found["slow"]["latency_ms"] >= 4
    assert found["slow"]["latency_ms"] <= found["slow"]["latency_p95_ms"]
    assert found["fast"]["latency_ms"] < found["slow"]["latency_ms"]
    assert 0 < found["slow"]["images_per_second"] <= timing.BATCH / 0.008


def test_what_takes_long_is_measured_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[int]()
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    timing.measure({"one": lambda images: calls.append(len(images))}, exported.images(2))
    assert calls == [1] * timing.FEWEST + [timing.BATCH] * timing.BATCHES
