"""params.yaml as frozen dataclasses: every section, its values' types and ranges, and what they must not contradict.

Each value is documented beside it in params.yaml, which alone holds defaults.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from src.interface import checking
from src.interface.checking import Range
from src.interface.kinds import (
    BACKBONES,
    KEY,
    TIMM,
    Batch,
    BelowOne,
    Classifier,
    Count,
    Factor,
    NonNegative,
    Optimizer,
    Precision,
    Probability,
    Rate,
    Schedule,
    Seed,
    check_path,
)
from src.interface.scaling_params import Arm, Scaling, ScalingAblation, ScalingSearch, check_arm, check_parts


@dataclass(frozen=True, kw_only=True)
class Dataset:
    name: Literal["cifar10", "cifar100", "svhn", "digits", "folder"]
    source: str | None
    image_size: Annotated[int, Range(4, 10**5)]
    bad_files: Literal["stop", "skip"]
    test_fraction: Annotated[float, Range(0, 1, above=True, below=True)]
    val_fraction: Annotated[float, Range(0, 1, above=True, below=True)]
    train_limit: Annotated[int, Range(2, 10**9)] | None
    split_seed: Seed

    def __post_init__(self) -> None:
        if self.name == "digits" and self.source is not None:
            raise ValueError(f"dataset.source: {self.source!r} is not allowed; allowed with digits: null")


@dataclass(frozen=True, kw_only=True)
class Backbone:
    name: Literal[BACKBONES] | TIMM  # type: ignore[valid-type]
    weights: str
    resolution: Literal["native"] | Annotated[int, Range(32, 4096)]


@dataclass(frozen=True, kw_only=True)
class Augment:
    flip: bool
    crop_padding: Annotated[int, Range(0, 10**5)]
    rotation: Annotated[float, Range(0, 180)]
    translate: BelowOne
    scale: BelowOne
    shear: Annotated[float, Range(0, 60)]
    brightness: BelowOne
    contrast: BelowOne
    saturation: BelowOne
    hue: Annotated[float, Range(0, 0.5)]
    erase_probability: Probability
    policy: Literal["none", "trivialaugment", "autoaugment"]


@dataclass(frozen=True, kw_only=True)
class Features:
    views: Annotated[int, Range(0, 1000)]


@dataclass(frozen=True, kw_only=True)
class Inference:
    engine: Literal["auto", "torch", "onnxruntime"]
    precision: Precision
    batch_size: Count


@dataclass(frozen=True, kw_only=True)
class Baseline:
    head_seeds: Annotated[int, Range(2, 1000)]
    neighbours: Count


@dataclass(frozen=True, kw_only=True)
class Comparison:
    train_limit: Annotated[int, Range(2, 10**9)] | None
    penalties: tuple[Factor, ...]
    neighbours: Count

    def __post_init__(self) -> None:
        check_path("comparison.penalties", self.penalties)


@dataclass(frozen=True, kw_only=True)
class Audit:
    folds: Annotated[int, Range(2, 100)]
    penalties: tuple[Factor, ...]

    def __post_init__(self) -> None:
        check_path("audit.penalties", self.penalties)


@dataclass(frozen=True, kw_only=True)
class DataEfficiency:
    images_per_class: tuple[Count, ...]
    draws: Annotated[int, Range(1, 1000)]
    penalties: tuple[Factor, ...]

    def __post_init__(self) -> None:
        check_path("data_efficiency.penalties", self.penalties)


@dataclass(frozen=True, kw_only=True)
class RateFactor:
    adam: Factor
    adamw: Factor
    sgd: Factor
    rmsprop: Factor


@dataclass(frozen=True, kw_only=True)
class TuneHead:
    trials: Count
    epochs: Count
    batch_size: Batch
    sampler: Literal["random", "tpe", "halving"]
    reduction: Annotated[int, Range(2, 1000)]
    finalists: Count
    learning_rate: tuple[Rate, ...]
    rate_factor: RateFactor
    weight_decay: tuple[NonNegative, ...]
    dropout: tuple[BelowOne, ...]
    optimizer: tuple[Optimizer, ...]
    schedule: tuple[Schedule, ...]
    classifier: tuple[Classifier, ...]


@dataclass(frozen=True, kw_only=True)
class TrainFrozen:
    epochs: Count
    batch_size: Batch


@dataclass(frozen=True, kw_only=True)
class Finetune:
    strategy: Literal["full", "progressive", "layerwise"]
    unfreeze_every: Count
    layer_decay: Annotated[float, Range(0, 1, above=True)]
    head: Literal["trained", "new"]
    resolution: Annotated[int, Range(32, 4096)] | None
    epochs: Count
    batch_size: Batch
    micro_batch_size: Batch | None
    backbone_lr_ratio: Annotated[float, Range(0, 1, above=True)]
    optimizer: Optimizer
    epsilon: Annotated[float, Range(0, 1, above=True)]
    schedule: Schedule
    warmup_epochs: Annotated[int, Range(0, 10**9)]
    weight_decay: NonNegative
    label_smoothing: BelowOne
    mixup: NonNegative
    cutmix: NonNegative
    stochastic_depth: BelowOne
    ema_decay: BelowOne
    clip_norm: NonNegative
    early_stopping: Annotated[int, Range(0, 10**9)]
    precision: Precision
    compile: bool
    sync_batch_norm: bool
    checkpoint_minutes: NonNegative
    repeats: Annotated[int, Range(1, 1000)]

    def __post_init__(self) -> None:
        if self.warmup_epochs >= self.epochs > 1 or self.warmup_epochs > self.epochs:
            raise ValueError(
                f"finetune.warmup_epochs: {self.warmup_epochs} leaves no epoch after the warm-up; "
                f"allowed: less than finetune.epochs ({self.epochs})"
            )
        if self.micro_batch_size and self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"finetune.micro_batch_size: {self.micro_batch_size} is more than a batch; "
                f"allowed: null, or at most finetune.batch_size ({self.batch_size})"
            )


@dataclass(frozen=True, kw_only=True)
class Evidence:
    bins: Annotated[int, Range(1, 1000)]
    targets: tuple[Annotated[float, Range(0, 1, above=True)], ...]


@dataclass(frozen=True, kw_only=True)
class Export:
    tolerance: Annotated[float, Range(0, 1, above=True)]
    target: Annotated[float, Range(0, 1, above=True)]
    calibration_images: Annotated[int, Range(0, 10**6)]
    int8_tolerance: Probability


@dataclass(frozen=True, kw_only=True)
class Report:
    title: str | None


@dataclass(frozen=True, kw_only=True)
class Params:
    """The whole of params.yaml; each field is documented beside its value there."""

    seed: Seed
    lr: Rate
    deterministic: bool
    class_weights: Literal["equal", "balanced"]
    dataset: Dataset
    backbone: Backbone
    augment: Augment
    features: Features
    inference: Inference
    baseline: Baseline
    audit: Audit
    data_efficiency: DataEfficiency
    comparison: Comparison
    compared_backbones: dict[KEY, Backbone]
    tune_head: TuneHead
    train_frozen: TrainFrozen
    finetune: Finetune
    scaling: Scaling
    scaling_search: ScalingSearch
    scaling_ablation: ScalingAblation
    scaling_arms: dict[KEY, Arm]
    evidence: Evidence
    export: Export
    report: Report

    def __post_init__(self) -> None:
        check_parts(self.scaling)
        for key, arm in self.scaling_arms.items():
            check_arm(key, arm)


def load(path: str | Path = "params.yaml") -> Params:
    """Read and check `path`.

    Raises:
        ValueError: in one line, the first key that is unknown, missing, of the wrong type or out of range.
    """
    return parse(Path(path).read_bytes(), path)


def parse(content: bytes, path: str | Path = "params.yaml") -> Params:
    """Check `content`, read from `path`, as `load` does: a stage is given it as it stood when the stage began."""
    return checking.read(Params, content, path)
