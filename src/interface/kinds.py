"""Kinds of values in params.yaml: their types and ranges, which several sections share."""

from typing import Annotated, Literal

from src.interface.checking import Pattern, Range

Count = Annotated[int, Range(1, 10**9)]
Batch = Annotated[int, Range(2, 10**6)]  # batch normalisation needs two images
Seed = Annotated[int, Range(0, 2**32 - 1)]
Rate = Annotated[float, Range(0, 100, above=True)]
Factor = Annotated[float, Range(0, 1e6, above=True)]
NonNegative = Annotated[float, Range(0, 1e6)]
Probability = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop"]
Schedule = Literal["cosine", "step", "exponential", "one_cycle", "constant"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Classifier = Literal["simple", "deep"]
BACKBONES = (
    "efficientnet_pico",
    *(f"efficientnet_b{i}" for i in range(8)),
    *(f"efficientnet_lite{i}" for i in range(5)),
    *("resnet18", "resnet50", "resnet152", "densenet201"),
)
TIMM = Annotated[str, Pattern(r"timm/[A-Za-z0-9_.\-]+", "timm/<name>")]  # which names there are, only timm knows
KEY = Annotated[str, Pattern(r"[a-z0-9_]+", "letters a-z, digits and _ (a stage is called so)")]


def check_path(key: str, penalties: tuple[float, ...]) -> None:
    """Raises ValueError: not from the strongest to the weakest, as a path of fits goes."""
    if list(penalties) != sorted(penalties, reverse=True):
        raise ValueError(
            f"{key}: {list(penalties)} is no path; allowed: from the strongest, which comes first, to the weakest"
        )
