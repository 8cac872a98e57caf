"""How sure an accuracy is: intervals of proportions. N images."""

from collections.abc import Mapping
from typing import Any

from src.base.proportions import wilson_interval


def intervals_overlap(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether the intervals from `low` to `high` share a point; where they do not, the two accuracies differ."""
    return bool(first["low"] <= second["high"] and second["low"] <= first["high"])


def proportion(successes: int, images: int) -> dict[str, float]:
    low, high = wilson_interval(successes, images)
    return {"images": images, "accuracy": successes / images, "low": low, "high": high}
