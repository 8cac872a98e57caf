"""The search for alpha, beta and gamma: every candidate trained for a moment, and judged on validation.

Killed half-way, it goes on: each finished candidate is a line of a journal, and the one in training has checkpoints.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from src.base import artifacts
from src.images.image_batches import ImageBatches
from src.interface.scaling_params import Scaling
from src.models import cost
from src.scaling import training
from src.scaling.grid import Candidate
from src.scaling.networks import Model, Plan, scaled
from src.training.checkpoints import Checkpoints
from src.training.fitting import Session

JOURNAL = "candidates.jsonl"
Row = dict[str, Any]  # as in plots/scaling_search/candidates.csv


def models(found: Sequence[Candidate], settings: Scaling, *, classes: int) -> list[Model]:
    """The network of each candidate."""
    plans = (Plan(depth=each.depth, width=each.width, resolution=each.resolution, phi=1.0) for each in found)
    return [scaled(plan, settings, classes=classes) for plan in plans]


def table(found: Sequence[Candidate], networks: Sequence[Model]) -> list[Row]:
    """Coefficients, scale and cost of each candidate, its scores still to come.

    layers, channels, pixels and cost are multiples of the base's.
    """
    rows = []
    for each, model in zip(found, networks, strict=True):
        network, of = model.build(seed=0), each.coefficients
        scale = {"depth": each.depth, "width": each.width, "resolution": each.resolution}
        grown = dict(zip(("layers", "channels", "pixels"), each.realised, strict=True)) | {"cost": each.cost}
        costs = {"parameters": cost.parameters(network), "multiply_adds": cost.multiply_adds(network, model.resolution)}
        scores = {"val_accuracy": None, "val_loss": None}
        rows.append(asdict(of) | {"growth": of.growth} | scale | grown | costs | scores)
    return rows


def train_candidates(
    networks: Sequence[Model],
    splits: Mapping[str, ImageBatches],
    settings: Scaling,
    *,
    epochs: int,
    session: Session,
    folder: Path,
) -> list[dict[str, float]]:
    """val_accuracy and val_loss of each network after `epochs`, at its best epoch.

    Args:
        splits: train and val, for any resolution.
        session: of all candidates; each has checkpoints of its own.
        folder: of the journal and of the checkpoints.
    """
    journal = folder / JOURNAL
    scores = finished(folder)
    for number in range(len(scores), len(networks)):
        model, states = networks[number], folder / f"candidate_{number:02d}"
        seen = training.view(model.resolution)
        train, val = (replace(splits[name], view=seen) for name in ("train", "val"))
        checkpoints = Checkpoints(states)
        session.advance(checkpoints.images)
        try:
            fitted = training.fit(
                model.build(seed=session.seed).to(train.labels.device),
                train,
                val,
                settings,
                epochs=epochs,
                session=replace(session.numbered("candidate", number), checkpoints=checkpoints),
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"candidate {number}: {error}: see scaling.learning_rate") from None
        scores.append({f"val_{name}": value for name, value in fitted.scores.items()})
        artifacts.append_line(scores[-1], journal)
        shutil.rmtree(states)
    return scores


def finished(folder: Path) -> list[dict[str, float]]:
    """The scores that an earlier start of the same search left behind."""
    return artifacts.read_lines(folder / JOURNAL)


def chance(splits: Mapping[str, ImageBatches]) -> float:
    """Validation accuracy of always naming the class that is commonest in train, and at least that of drawing lots."""
    train, val = splits["train"], splits["val"]
    counts = train.labels.bincount(minlength=len(train.classes))
    return max(1 / len(counts), float((val.labels == counts.argmax()).double().mean()))
