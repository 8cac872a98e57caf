"""The sections of params.yaml that the scaling study reads, and what its arms leave open."""

import difflib
from dataclasses import dataclass
from typing import Annotated, Literal

from src.interface.checking import Range
from src.interface.kinds import (
    BACKBONES,
    TIMM,
    Batch,
    BelowOne,
    Count,
    NonNegative,
    Optimizer,
    Precision,
    Rate,
    Schedule,
    Seed,
)

OWN_ARMS = ("baseline", "depth", "width", "resolution", "compound")
REFERENCES = (*BACKBONES, "small_cnn")
DROPPING = ("dropout", "stochastic_depth")
STRIDES = 16  # of EfficientNet, but its stem's: pixels per side of the stem's map behind one pixel of the last


@dataclass(frozen=True, kw_only=True)
class Scaling:
    base: Literal["efficientnet_b0", "efficientnet_pico"]
    base_resolution: Annotated[int, Range(1, 4096)]
    stem_stride: Annotated[int, Range(1, 2)]
    batch_size: Batch
    micro_batch_size: Batch | None
    learning_rate: Literal["auto"] | Rate
    optimizer: Optimizer
    epsilon: Annotated[float, Range(0, 1, above=True)]
    schedule: Schedule
    warmup_fraction: BelowOne
    weight_decay: NonNegative
    label_smoothing: BelowOne
    zero_init: bool
    dropout: BelowOne
    stochastic_depth: BelowOne
    regularization_growth: NonNegative
    ema_decay: BelowOne
    clip_norm: NonNegative
    precision: Precision
    compile: bool
    checkpoint_minutes: NonNegative

    def __post_init__(self) -> None:
        least = STRIDES * self.stem_stride
        if self.base_resolution < least:
            raise ValueError(
                f"scaling.base_resolution: {self.base_resolution} is too small; allowed: {least} or more, since the "
                f"network's strides, the stem's of {self.stem_stride} among them, make one pixel out of {least}"
            )


@dataclass(frozen=True, kw_only=True)
class ScalingSearch:
    step: Annotated[float, Range(0.01, 1)]
    tolerance: Annotated[float, Range(0, 1)]
    max_multiply_adds: Annotated[float, Range(0, 1e15, above=True)] | None
    epochs: Annotated[int, Range(0, 10**9)]


@dataclass(frozen=True, kw_only=True)
class ScalingAblation:
    match: Literal["multiply_adds", "paper", "phi"]
    budget: Annotated[float, Range(1, 1000, above=True)]
    phi: Annotated[float, Range(0, 10, above=True)]
    seeds: tuple[Seed, ...]
    epochs: Count


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The network of one arm, None where its key says it, and what it does otherwise than `scaling` and
    `scaling_ablation` say; None: as they do."""

    name: Literal[(*OWN_ARMS, *REFERENCES)] | TIMM | None = None  # type: ignore[valid-type]
    resolution: Annotated[int, Range(8, 4096)] | None = None
    epochs: Count | None = None
    batch_size: Batch | None = None
    learning_rate: Rate | None = None
    weight_decay: NonNegative | None = None
    dropout: BelowOne | None = None
    stochastic_depth: BelowOne | None = None


def check_parts(scaling: Scaling) -> None:
    """Raises ValueError: `micro_batch_size` is more than a batch, as it may be of an arm with a smaller batch alone."""
    if scaling.micro_batch_size and scaling.micro_batch_size > scaling.batch_size:
        raise ValueError(
            f"scaling.micro_batch_size: {scaling.micro_batch_size} is more than a batch; "
            f"allowed: null, or at most scaling.batch_size ({scaling.batch_size})"
        )


def check_arm(key: str, arm: Arm) -> None:
    """Raises ValueError: an arm without a network, with two, or with a value that its network does not leave open."""
    place, networks = f"scaling_arms.{key}", (*OWN_ARMS, *REFERENCES)
    if arm.name is None and key not in networks:
        close = difflib.get_close_matches(key, networks, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{place}: unknown; allowed: {', '.join(networks)}, or a name of these beside the key{guess}")
    if arm.name is not None and key in networks and arm.name != key:
        raise ValueError(f"{place}.name: {arm.name} is not what this key says; allowed: null, or another key")
    own = (arm.name or key) in OWN_ARMS
    fixed = {"resolution": "the match decides it"} if own else dict.fromkeys(DROPPING, "it is published")
    for value, reason in fixed.items():
        if getattr(arm, value) is not None:
            raise ValueError(f"{place}.{value}: {getattr(arm, value)} is not allowed, {reason}; allowed: null")
