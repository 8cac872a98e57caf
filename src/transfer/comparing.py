"""One backbone as it is, on the study's images: a linear probe and nearest neighbours on its frozen, clean features.

N images, D feature width, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from src.base import devices
from src.base.proportions import wilson_interval
from src.base.splits import Split
from src.data.splitting import stratified_order
from src.images.image_batches import ImageBatches
from src.interface import console
from src.interface.params import Backbone, Comparison
from src.training.metrics import collect_predictions, score
from src.transfer.features import clean_features
from src.transfer.neighbours import nearest_neighbours
from src.transfer.probe import Fit, Scale, fit_path

Logits = dict[str, dict[str, Tensor]]  # method -> split -> (N, K)
JUDGED = ("val", "test")


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features float16 (N, D) and labels int64 (N,) of each split, and the K classes."""

    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    classes: tuple[str, ...]

    @property
    def width(self) -> int:
        return self.features["train"].shape[1]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a backbone's features are worth.

    Attributes:
        logits: of the methods `probe` and `neighbours`, on val and test.
        chosen: the fit that is most accurate on validation; of equals, the one with the strongest penalty.
        path: a row per fit: penalty, val_accuracy, val_loss (nats), objective, iterations, gradient, converged (0, 1).
    """

    logits: Logits
    chosen: Fit
    path: Sequence[Mapping[str, float]]

    @property
    def unconverged(self) -> list[float]:
        """The penalties whose fits did not end where they should."""
        return [row["penalty"] for row in self.path if not row["converged"]]


def named(backbones: Mapping[str, Backbone], arguments: Sequence[str]) -> str:
    """The one entry that a stage's command line names.

    Raises:
        ValueError: it names none, several, or one that params.yaml does not have.
    """
    if len(arguments) != 1 or arguments[0] not in backbones:
        allowed = ", ".join(backbones) or "none, compared_backbones is empty"
        raise ValueError(
            f"{' '.join(arguments) or 'no entry'}: allowed: one of compared_backbones in params.yaml ({allowed})"
        )
    return arguments[0]


def limited(train: Split, settings: Comparison, *, seed: int) -> Split:
    """At most `comparison.train_limit` of the training images, the classes in proportion; the same for each backbone.

    Raises:
        ValueError: fewer than one of each class, or a class without any.
    """
    counts = torch.bincount(train.labels, minlength=len(train.classes))
    for name, count in zip(train.classes, counts.tolist(), strict=True):
        if not count:
            raise ValueError(f"class {name!r} has no training image, so no probe can name it; allowed: 1 or more")
    limit = settings.train_limit
    if limit is not None and limit < len(train.classes):
        raise ValueError(
            f"comparison.train_limit: {limit} is not allowed; allowed: {len(train.classes)} (one image per class) or "
            "more, or null"
        )
    if limit is None or limit >= len(train.labels):
        return train
    rows = stratified_order(train.labels, seed)[:limit].sort().values
    return replace(train, images=train.images[rows], labels=train.labels[rows])


def extract(
    run: Callable[[Tensor], Tensor],
    splits: Mapping[str, ImageBatches],
    *,
    width: int,
    batch_size: int,
    section: str,
    advance: Callable[[int], None],
) -> Features:
    """Frozen, clean features of all `splits`; `run` and all others as `clean_features` has them."""
    kept = {
        split: clean_features(run, images, width=width, batch_size=batch_size, section=section, advance=advance)
        for split, images in splits.items()
    }
    labels = {split: images.labels for split, images in splits.items()}
    return Features(features=kept, labels=labels, classes=splits["train"].classes)


def warn_of_absent(splits: Mapping[str, Split], label: str) -> list[str]:
    """The classes that validation, which chooses, has no image of; one warning that names them."""
    val = splits["val"]
    counts = torch.bincount(val.labels, minlength=len(val.classes)).tolist()
    absent = [name for name, count in zip(val.classes, counts, strict=True) if not count]
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        console.warn(f"{label}: validation, which chooses, has no image of {shown}: what is chosen is blind to it")
    return absent


def probe(found: Features, settings: Comparison, device: torch.device, *, label: str) -> Probed:
    """Fit the path on train, choose on val, and name the classes of val and test.

    Raises:
        MemoryError: the features do not fit.
    """
    try:
        return _probe(found, settings, device, label)
    except RuntimeError as problem:
        if not devices.is_out_of_memory(problem):
            raise
        count = len(found.labels["train"])
        raise MemoryError(
            f"a probe of {count} images by {found.width} features does not fit; try comparison.train_limit={count // 2}"
        ) from None


def _probe(found: Features, settings: Comparison, device: torch.device, label: str) -> Probed:
    labels = {split: each.to(device) for split, each in found.labels.items()}
    raw = {split: each.to(device) for split, each in found.features.items()}
    scale = Scale.of(raw["train"])
    known = {split: scale.applied(each) for split, each in raw.items()}
    best: tuple[float, Fit] | None = None
    path = []
    for fit in fit_path(known["train"], labels["train"], settings.penalties, classes=len(found.classes)):
        scored = score(fit.logits(known["val"]), labels["val"])
        path.append(_row(fit, scored))
        if not fit.converged:
            console.warn(f"{label}: the probe at penalty {fit.penalty:g} did not converge ({fit.gradient:.0e})")
        if best is None or scored["accuracy"] > best[0]:
            best = scored["accuracy"], fit
    if best is None:
        raise ValueError("comparison.penalties: empty; allowed: at least one")
    logits: Logits = {"probe": {split: best[1].logits(known[split]) for split in JUDGED}, "neighbours": {}}
    for split in JUDGED:
        logits["neighbours"][split] = nearest_neighbours(
            raw["train"], labels["train"], raw[split], classes=len(found.classes), neighbours=settings.neighbours
        )
    return Probed(logits=logits, chosen=best[1], path=path)


def _row(fit: Fit, scored: Mapping[str, float]) -> dict[str, float]:
    return {
        "penalty": fit.penalty,
        "val_accuracy": scored["accuracy"],
        "val_loss": scored["loss"],
        "objective": fit.objective,
        "iterations": fit.iterations,
        "gradient": fit.gradient,
        "converged": int(fit.converged),
    }


def predictions(probed: Probed, found: Features) -> dict[str, Any]:
    """Image by image, on val and test, as `metrics.collect_predictions` has it."""
    return collect_predictions(probed.logits, {split: found.labels[split] for split in JUDGED}, found.classes)


def scores(probed: Probed, labels: Mapping[str, Tensor]) -> dict[str, Any]:
    """Accuracy (fraction) of the probe on val and test with its 95 % Wilson interval, of the neighbours on test."""
    found: dict[str, Any] = {"penalty": probed.chosen.penalty}
    for split in JUDGED:
        count = len(labels[split])
        right = round(score(probed.logits["probe"][split], labels[split])["accuracy"] * count)
        low, high = wilson_interval(right, count)
        found[split] = {"accuracy": right / count, "low": low, "high": high}
    found["test"]["neighbours"] = score(probed.logits["neighbours"]["test"], labels["test"])["accuracy"]
    return found
