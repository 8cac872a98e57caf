"""Training a head on cached features: it learns, it takes every hyperparameter, and it says how it went."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from src.base.randomness import generator
from src.training import fitting
from src.training.fitting import Session
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_training import fit_head
from tests.builders.small import CHOSEN, features, quiet


def test_a_head_learns_32_features_by_heart() -> None:
    noise = FeatureBatches(
        features=torch.randn(1, 32, 24, generator=generator("noise")).half(),
        labels=torch.arange(32) % 4,
        classes=tuple("abcd"),
        seed=0,
    )
    _, fitted = fit_head(
        CHOSEN, noise, noise, epochs=60, batch_size=16, class_weights="equal", session=Session(seed=0, advance=quiet)
    )
    assert fitted.scores["accuracy"] == 1.0


def test_the_curve_has_the_columns_that_the_plots_read() -> None:
    data = features(12)
    _, fitted = fit_head(
        CHOSEN, data, data, epochs=2, batch_size=4, class_weights="equal", session=Session(seed=0, advance=quiet)
    )
    columns = ["epoch", "train_loss", "train_accuracy", "head_lr", "gradient_norm", "first_gradient_norm"]
    columns += ["val_accuracy", "val_loss"]
    assert [sorted(row) for row in fitted.curve] == [sorted(columns)] * 2
    assert [row["epoch"] for row in fitted.curve] == [1, 2]
    assert fitted.machine["images_per_second"] > 0


@pytest.mark.parametrize(
    "other",
    [
        {"classifier": "simple"},
        {"dropout": 0.1},
        {"learning_rate": 0.002},
        {"weight_decay": 0.1},
        {"optimizer": "sgd"},
        {"schedule": "step"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_every_hyperparameter_that_the_search_draws_changes_the_head(other: dict[str, Any]) -> None:
    data = features(24)
    heads = [
        fit_head(
            chosen, data, data, epochs=4, batch_size=8, class_weights="equal", session=Session(seed=0, advance=quiet)
        )[0]
        for chosen in (CHOSEN, CHOSEN, replace(CHOSEN, **other))
    ]
    states = [torch.cat([value.double().flatten() for value in head.state_dict().values()]) for head in heads]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_progress_is_told_of_every_image_and_of_every_epoch() -> None:
    data, seen, rows = features(13), [], []
    fitted = fit_head(
        CHOSEN,
        data,
        data,
        epochs=3,
        batch_size=4,
        class_weights="equal",
        session=Session(seed=0, advance=seen.append, on_epoch=rows.append),
    )[1]
    assert sum(seen) == 3 * 13
    assert rows == fitted.curve


def test_balanced_weights_find_the_rare_class_that_equal_ones_give_up() -> None:
    """One image in twenty, two deviations from the others: by Bayes' rule, a third are found, and five in six."""
    rare = torch.arange(2000) % 20 == 0
    cloud = torch.randn(1, 2000, 4, generator=generator("rare"))
    cloud[..., 0] += 2.0 * rare
    data = FeatureBatches(features=cloud.half(), labels=rare.long(), classes=("many", "few"), seed=0)
    recalls = {}
    for weights in ("equal", "balanced"):
        session = Session(seed=0, advance=quiet)
        head, _ = fit_head(CHOSEN, data, data, epochs=4, batch_size=64, class_weights=weights, session=session)
        named = fitting.predict(head, data, 500).argmax(1) == 1
        recalls[weights] = named[rare].double().mean().item()
    assert recalls["equal"] < 0.5 < 0.7 < recalls["balanced"]
