"""The search for coefficients: every candidate trained once, gone on with after a kill, and the best one chosen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src.images.image_batches import ImageBatches
from src.interface.scaling_params import Scaling, ScalingSearch
from src.models import cost
from src.scaling import search, training
from src.scaling.grid import Candidate, candidates
from src.scaling.networks import Model, Plan, scaled
from src.scaling.search import JOURNAL
from src.training.fitting import Session
from tests.builders.small import EVERYTHING, Killed, augment, images, killer, quiet, same_state, scaling_settings

COUNT, EPOCHS, STEPS = 20, 2, 3  # training images, and steps of an epoch in batches of 8
EACH = COUNT * EPOCHS
SETTINGS = scaling_settings(checkpoint_minutes=0.0, ema_decay=0.9)


def small(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, 4))


def never() -> nn.Module:
    raise AssertionError("a network was built")


NETWORKS = [
    Model(make=lambda: small(4), resolution=8, factors={}),
    Model(make=lambda: small(8), resolution=12, factors={}),
    Model(make=lambda: small(6), resolution=8, factors={}),
]


def splits(resolution: int = 8) -> dict[str, ImageBatches]:
    """The resolution is that of the base, and no candidate's own."""
    train = images(COUNT, augment=augment(**EVERYTHING), resolution=resolution, seed=0)
    return {"train": train, "val": images(12, name="val", resolution=resolution, seed=0)}


def searched(
    folder: Path,
    networks: Sequence[Model] = NETWORKS,
    advance: Callable[[int], None] = quiet,
    settings: Scaling = SETTINGS,
) -> list[dict[str, float]]:
    return search.train_candidates(
        networks, splits(), settings, epochs=EPOCHS, folder=folder, session=Session(seed=0, advance=advance)
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, float]], bytes]:
    """The scores and the journal of a search that nobody stopped."""
    folder = tmp_path_factory.mktemp("search")
    told: list[int] = []
    scores = searched(folder, advance=told.append)
    assert sum(told) == len(NETWORKS) * EACH
    assert [path.name for path in folder.iterdir()] == [JOURNAL], "states of finished candidates are in the way"
    return scores, (folder / JOURNAL).read_bytes()


def test_a_candidate_is_trained_from_scratch_at_its_resolution_and_judged_at_its_best_epoch(
    undisturbed: tuple[list[dict[str, float]], bytes],
) -> None:
    for model, found in zip(NETWORKS, undisturbed[0], strict=True):
        data = splits(model.resolution)
        fitted = training.fit(
            model.build(seed=0),
            data["train"],
            data["val"],
            SETTINGS,
            epochs=EPOCHS,
            session=Session(seed=0, advance=quiet),
        )
        assert found == {"val_accuracy": fitted.scores["accuracy"], "val_loss": fitted.scores["loss"]}
    assert len({score["val_loss"] for score in undisturbed[0]}) == 3


@pytest.mark.parametrize(
    "killed_after",
    [
        *(2 * STEPS, 2 * STEPS + 2),
        *(pytest.param(number, marks=pytest.mark.slow) for number in (1, STEPS, 4 * STEPS + 1, 6 * STEPS)),
    ],
)
def test_a_search_that_was_killed_goes_on_to_the_same_bytes(
    undisturbed: tuple[list[dict[str, float]], bytes], tmp_path: Path, killed_after: int
) -> None:
    with pytest.raises(Killed):
        searched(tmp_path, advance=killer(killed_after))
    done = (killed_after - 1) // (2 * STEPS)
    assert len(search.finished(tmp_path)) == done
    told: list[int] = []
    rest = [replace(model, make=never) if number < done else model for number, model in enumerate(NETWORKS)]
    assert searched(tmp_path, rest, told.append) == undisturbed[0]
    assert (tmp_path / JOURNAL).read_bytes() == undisturbed[1]
    assert done * EACH + sum(told) == 3 * EACH, "progress does not end at the whole"
    # What was trained before is told at once; the last step of an epoch is kept with its validation alone.
    kept = (killed_after - (killed_after % STEPS == 0)) % (2 * STEPS)
    assert len(told) == (3 - done) * (1 + 2 * STEPS) - kept
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


def test_a_finished_search_trains_nothing(undisturbed: tuple[list[dict[str, float]], bytes], tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(undisturbed[1])
    unbuilt = [replace(model, make=never) for model in NETWORKS]
    assert searched(tmp_path, unbuilt, killer(1)) == undisturbed[0] == search.finished(tmp_path)


@pytest.mark.parametrize("kept", [1, 10])
def test_a_line_that_a_kill_cut_short_is_trained_again(
    undisturbed: tuple[list[dict[str, float]], bytes], tmp_path: Path, kept: int
) -> None:
    first, second, _ = undisturbed[1].splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(first + second[:kept])
    assert searched(tmp_path) == undisturbed[0]
    assert (tmp_path / JOURNAL).read_bytes() == undisturbed[1]


def grid(**changes: Any) -> list[Candidate]:
    settings = ScalingSearch(**{"step": 0.05, "tolerance": 0.2, "max_multiply_adds": None, "epochs": 0} | changes)
    return candidates(settings, scaling_settings(), classes=10)


def test_a_candidate_is_the_base_scaled_at_phi_of_1_and_the_table_has_its_cost() -> None:
    found = grid()[::8]
    networks = search.models(found, scaling_settings(), classes=10)
    rows = search.table(found, networks)
    assert len(rows) == len(found) == 2
    for candidate, model, row in zip(found, networks, rows, strict=True):
        alpha, beta, gamma = (getattr(candidate.coefficients, name) for name in ("alpha", "beta", "gamma"))
        assert model.resolution == candidate.resolution
        plan = Plan(depth=alpha, width=beta, resolution=model.resolution, phi=1.0)
        expected = scaled(plan, scaling_settings(), classes=10)
        built = model.build(seed=0)
        assert same_state(built.state_dict(), expected.build(seed=0).state_dict())
        assert row == {
            **{"alpha": alpha, "beta": beta, "gamma": gamma, "growth": pytest.approx(alpha * beta**2 * gamma**2)},
            **{"depth": alpha, "width": beta, "resolution": model.resolution},
            "parameters": sum(parameter.numel() for parameter in built.parameters()),
            "multiply_adds": candidate.multiply_adds,
            **dict(zip(("layers", "channels", "pixels"), candidate.realised, strict=True)),
            "cost": candidate.cost,
            **{"val_accuracy": None, "val_loss": None},
        }
        assert cost.multiply_adds(built, model.resolution) == candidate.multiply_adds


def test_a_candidate_of_the_grid_can_be_trained(tmp_path: Path) -> None:
    (model,) = search.models(grid()[:1], scaling_settings(), classes=4)
    found = searched(tmp_path, [replace(model, resolution=32)])
    assert [sorted(score) for score in found] == [["val_accuracy", "val_loss"]]
    assert 0 <= found[0]["val_accuracy"] <= 1
    assert math.isfinite(found[0]["val_loss"])


def test_every_candidate_sees_the_same_images_in_the_same_order(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    def noting() -> nn.Module:
        network, labels = small(4), []
        seen.append(labels)
        network.register_forward_pre_hook(
            lambda module, inputs: labels.extend(inputs[0].mean((1, 2, 3)).tolist()) if module.training else None
        )
        return network

    torch.manual_seed(0)
    searched(tmp_path, [replace(NETWORKS[0], make=noting)] * 2)
    assert seen[0] == seen[1]
    assert len(seen[0]) == EACH


def test_chance_is_naming_the_class_that_is_commonest_in_train_and_drawing_lots_at_least() -> None:
    data = splits()
    assert search.chance(data) == 0.25
    labels = {"train": torch.tensor([1, 1, 2]), "val": torch.tensor([1, 1, 1, 2])}
    skewed = {name: replace(batches, labels=labels[name]) for name, batches in data.items()}
    assert search.chance(skewed) == 0.75
    rarer = skewed | {"val": replace(data["val"], labels=torch.tensor([2, 2, 2, 1, 0]))}
    assert search.chance(rarer) == 0.25  # of four classes
