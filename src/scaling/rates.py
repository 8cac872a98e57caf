"""`scaling.learning_rate: auto`: the rate of each network, by a range test and then by validation.

One rate for all arms, found for none, suits some of them by luck. The range test names where the loss falls fastest;
the rates AROUND it then train for EPOCHS each, and validation chooses. N images.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from src.base import artifacts, distributed
from src.images.image_batches import ImageBatches
from src.interface import console
from src.interface.scaling_params import Scaling
from src.scaling import training
from src.scaling.networks import Model
from src.training import rate_finding
from src.training.fitting import Session
from src.training.loop import Recipe

AUTO = "auto"
AROUND = (0.3, 1.0, 3.0)  # times the rate at which the loss falls fastest
EPOCHS = 1  # of each try
STEPS = 60  # of the range test, at most
LOW, HIGH = 1e-5, 1.0  # its ends
FOUND = "rate.json"  # so that a stage that was killed keeps its rate


def settled(
    settings: Scaling, model: Model, splits: Mapping[str, ImageBatches], *, seed: int, folder: Path, label: str
) -> Scaling:
    """`settings` with a number for its learning rate: the one it has, or the one that suits `model`.

    Args:
        splits: train and val, for the model's resolution.
        seed: of the tries.
        folder: where an earlier start of the stage left what it found.

    Raises:
        ValueError: no rate lets the loss fall.
    """
    if settings.learning_rate != AUTO:
        return settings
    path = folder / FOUND
    known = artifacts.read_json(path) if distributed.leads() and path.is_file() else None
    found: dict[str, Any] | None = distributed.from_leader(known)
    if found is None:
        tried = STEPS * settings.batch_size + len(AROUND) * EPOCHS * len(splits["train"].labels)
        with console.progress(tried, "images", f"{label.rpartition('@')[2]}, learning rate") as bar:
            found = find(settings, model, splits, seed=seed, advance=bar.advance)
        if distributed.leads():
            artifacts.write_json(found, path)
        tries = ", ".join(f"{rate} {100 * accuracy:.1f} %" for rate, accuracy in found["tried"].items())
        console.say(f"{label}: learning rate {found['learning_rate']:g}, by validation ({tries})")
    return replace(settings, learning_rate=found["learning_rate"])


def find(
    settings: Scaling,
    model: Model,
    splits: Mapping[str, ImageBatches],
    *,
    seed: int,
    advance: Callable[[int], None],
) -> dict[str, Any]:
    """learning_rate, and the validation accuracy (fraction) of each that was `tried`, but of those that diverged.

    Args:
        advance: told how many images were trained on.

    Raises:
        ValueError: no rate lets the loss fall.
    """
    train, val = (replace(splits[name], seed=seed) for name in ("train", "val"))
    network = model.build(seed=seed).to(train.labels.device)
    optimizer = training.optimizer(network, settings, lr=HIGH)
    recipe = Recipe.of(settings, epochs=EPOCHS)
    try:
        rows = rate_finding.run(
            network, optimizer, train, recipe, seed=seed, low=LOW, high=HIGH, steps=STEPS, advance=advance
        )
        middle = rate_finding.suggest(rows)
    except ValueError as error:
        raise ValueError(f"scaling.learning_rate: auto: {error}; allowed: a number") from None
    ranks = {}
    for factor in AROUND:
        rate = float(f"{factor * middle:.2g}")
        try:
            scores = training.fit(
                model.build(seed=seed).to(train.labels.device),
                train,
                val,
                replace(settings, learning_rate=rate),
                epochs=EPOCHS,
                session=Session(seed=seed, advance=advance),
            ).scores
        except FloatingPointError:
            continue  # too high
        ranks[rate] = (scores["accuracy"], -scores["loss"])
    if not ranks:
        raise ValueError(f"scaling.learning_rate: auto: training diverges about {middle:g}; allowed: a number")
    tried = {f"{rate:g}": accuracy for rate, (accuracy, _) in ranks.items()}
    return {"learning_rate": max(ranks, key=ranks.__getitem__), "tried": tried}
