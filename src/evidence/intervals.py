"""How sure an accuracy is: intervals of proportions. N images."""

from src.base.proportions import wilson_interval


def proportion(successes: int, images: int) -> dict[str, float]:
    low, high = wilson_interval(successes, images)
    return {"images": images, "accuracy": successes / images, "low": low, "high": high}
