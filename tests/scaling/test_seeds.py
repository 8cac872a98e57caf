"""Training from scratch, a run per seed: finished ones are kept, a killed one goes on, and arms see the same images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.base.splits import Split
from src.images.image_batches import ImageBatches
from src.interface.scaling_params import Arm, ScalingAblation
from src.models import cost
from src.scaling import arms, seeds, training
from src.scaling.equations import PAPER
from src.scaling.networks import Model
from src.scaling.seeds import SeedResult, SeedRuns
from src.training import fitting, metrics
from src.training.fitting import Session
from src.training.loop import Recipe
from src.training.optimizers import build_optimizer
from src.training.parameter_groups import parameter_groups
from tests.builders.small import (
    EVERYTHING,
    OFF,
    Killed,
    augment,
    convolutional,
    images,
    killer,
    quiet,
    same_state,
    scaling_settings,
)

CPU = torch.device("cpu")
COUNT, EPOCHS, STEPS = 20, 2, 3  # training images, and steps of an epoch in batches of 8
SEED_IMAGES = COUNT * EPOCHS


def small(noted: nn.Module | None = None) -> nn.Sequential:
    """Images of any size to four classes: convolution, batch norm and dropout, with random weights."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*([noted] if noted else []), *layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(32, 4))


def never() -> nn.Module:
    raise AssertionError("a network was built")


SMALL = Model(make=small, resolution=8, factors={})
UNBUILT = Model(make=never, resolution=8, factors={})


def splits(resolution: int = 8, seed: int = 99) -> dict[str, ImageBatches]:
    counts = {"train": COUNT, "val": 12, "test": 9}
    return {
        name: images(
            count,
            name=name,
            resolution=resolution,
            augment=augment(**EVERYTHING) if name == "train" else OFF,
            seed=seed,
        )
        for name, count in counts.items()
    }


def runs(folder: Path, model: Model = SMALL, *, seeds: Sequence[int] = (0, 1), **others: Any) -> SeedRuns:
    """Two epochs a seed with everything on, and a checkpoint after each step."""
    changes = {"checkpoint_minutes": 0.0, "ema_decay": 0.9, "label_smoothing": 0.1, "clip_norm": 1.0}
    plain: dict[str, Any] = {"splits": splits(), "settings": scaling_settings(**changes), "epochs": EPOCHS}
    return SeedRuns(model=model, seeds=seeds, folder=folder, label="scaling_ablation@x", **plain | others)


def equal(first: Mapping[int, SeedResult], second: Mapping[int, SeedResult]) -> bool:
    """The same seeds, curves, best epochs, and bits of logits; speed may differ."""
    return list(first) == list(second) and all(
        same_state(first[seed].logits, second[seed].logits)
        and all(getattr(first[seed], key) == getattr(second[seed], key) for key in ("curve", "best_epoch"))
        for seed in first
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, SeedResult]:
    """Two seeds that nobody stopped."""
    return runs(tmp_path_factory.mktemp("undisturbed")).run(quiet)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_is_a_function_of_its_seed_and_leaves_one_file(
    undisturbed: dict[int, SeedResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of the other seeds, of their order, or of what the splits were seeded with."""
    others = runs(tmp_path, seeds=(1, 0), splits=splits(seed=5)).run(quiet)
    assert equal(dict(sorted(others.items())), undisturbed)
    assert list(others) == [1, 0]
    assert not torch.equal(others[0].logits["test"], others[1].logits["test"])
    assert names(tmp_path) == ["seed_0.pt", "seed_1.pt"], "states of finished seeds are in the way"
    assert "x, seed 1: epoch 1/2" in capsys.readouterr().out
    for result in others.values():
        assert {name: tuple(logits.shape) for name, logits in result.logits.items()} == {
            "val": (12, 4),
            "test": (9, 4),
        }
        assert [row["epoch"] for row in result.curve] == [1, 2]
        best = max(result.curve, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
        assert result.best_epoch == best["epoch"]
        found = metrics.score(result.logits["val"], splits()["val"].labels)
        assert found == pytest.approx({"accuracy": best["val_accuracy"], "loss": best["val_loss"]}), (
            "not the best epoch"
        )


def test_a_finished_seed_is_loaded_and_not_trained_again(undisturbed: dict[int, SeedResult], tmp_path: Path) -> None:
    told: list[int] = []
    first = runs(tmp_path, seeds=(0,))
    assert (first.images, first.done) == (SEED_IMAGES, 0)
    first.run(told.append)
    assert sum(told) == SEED_IMAGES
    assert first.done == SEED_IMAGES
    told.clear()
    both = runs(tmp_path)
    assert (both.images, both.done) == (2 * SEED_IMAGES, SEED_IMAGES)
    assert equal(both.run(told.append), undisturbed)
    assert sum(told) == SEED_IMAGES, "seed 0 was trained again"
    assert equal(runs(tmp_path, UNBUILT).run(killer(1)), undisturbed)


@pytest.mark.parametrize(
    "killed_after",
    [STEPS + 2, 2 * STEPS + 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, STEPS, 2 * STEPS, 4 * STEPS))],
)
def test_a_run_killed_within_a_seed_goes_on_to_the_same_bits(
    undisturbed: dict[int, SeedResult], tmp_path: Path, killed_after: int
) -> None:
    with pytest.raises(Killed):
        runs(tmp_path).run(killer(killed_after))
    told: list[int] = []
    again = runs(tmp_path)
    done = again.done
    assert done == (SEED_IMAGES if killed_after > 2 * STEPS else 0)
    built: list[int] = []
    model = replace(SMALL, make=lambda: built.append(1) or small())
    assert equal(replace(again, model=model).run(told.append), undisturbed)
    assert len(built) == (1 if done else 2)
    assert done + sum(told) == again.images, "progress does not end at the whole"
    # What was trained before is told at once; the last step of an epoch is kept with its validation alone.
    kept = (killed_after - (killed_after % STEPS == 0)) % (2 * STEPS)
    assert len(told) == 1 + (2 * STEPS - kept) + (0 if done else 1 + 2 * STEPS)
    assert bool(told[0]) == bool(kept)
    assert names(tmp_path) == ["seed_0.pt", "seed_1.pt"]


class Torn(ImageBatches):
    """A split whose reading is where the kill comes."""

    def clean(self, batch_size: int) -> Any:
        raise Killed


def test_a_run_killed_while_test_is_predicted_trains_no_further_step(
    undisturbed: dict[int, SeedResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = splits()
    torn = whole | {"test": Torn(**vars(whole["test"]))}
    with pytest.raises(Killed):
        runs(tmp_path, seeds=(0,), splits=torn).run(quiet)
    assert names(tmp_path) == ["seed_0"]
    capsys.readouterr()
    told: list[int] = []
    results = runs(tmp_path, seeds=(0,)).run(told.append)
    assert told == [SEED_IMAGES]
    assert "finished before" in capsys.readouterr().out
    assert equal(results, {0: undisturbed[0]})
    assert not {"images_per_second", "training_seconds"} & set(seeds.describe(results, SEED_IMAGES))


def test_an_arm_of_the_study_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """EfficientNet, with its stochastic depth; the stage's metrics are few enough to be read."""
    ablation = ScalingAblation(match="phi", budget=4.0, phi=0.5, seeds=(0, 1), epochs=1)
    settings = scaling_settings(base_resolution=32, checkpoint_minutes=0.0, learning_rate=0.001)
    model = arms.specify("width", Arm(), settings, ablation, PAPER, classes=4)
    given = {"model": model, "settings": settings, "splits": splits(32), "epochs": 1, "seeds": (0, 1)}
    expected = runs(tmp_path / "whole", **given).run(quiet)
    with pytest.raises(Killed):
        runs(tmp_path / "killed", **given).run(killer(STEPS + 2))
    results = runs(tmp_path / "killed", **given).run(quiet)
    assert equal(results, expected)
    labels = {name: split.labels for name, split in given["splits"].items() if name != "train"}
    costs = cost.describe(model.build(seed=0), model.resolution)
    summary = seeds.summarise(results, labels)
    found = {**model.factors, "resolution": model.resolution, **costs, **summary}
    leaves = [leaf for value in found.values() for leaf in (value.values() if isinstance(value, dict) else [value])]
    assert len(leaves) == 12, "more make `dvc metrics diff` unreadable"
    assert all(isinstance(leaf, int | float) and math.isfinite(leaf) for leaf in leaves)


class Noting(nn.Module):
    """Passes images on, and notes the number that each has for its grey value in training, and their side."""

    def __init__(self, numbers: list[int], sides: set[int]) -> None:
        super().__init__()
        self.numbers, self.sides = numbers, sides

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            greys = 255 * (0.5 + inputs.mean((1, 2, 3)) / 4)
            self.numbers += (greys / 5).round().int().tolist()
            self.sides.add(inputs.shape[-1])
        return inputs


def orders(folder: Path, resolution: int, batch_size: int, seeds: Sequence[int]) -> list[list[int]]:
    """The images that an arm of this resolution saw: seed after seed, epoch after epoch."""
    numbers: list[int] = []
    sides: set[int] = set()
    model = Model(make=lambda: small(Noting(numbers, sides)), resolution=resolution, factors={})
    view = training.view(resolution)
    grey = (5 * torch.arange(COUNT, dtype=torch.uint8)).reshape(COUNT, 1, 1, 1).expand(COUNT, 3, 8, 8)
    split = Split(images=grey, labels=torch.arange(COUNT) % 4, classes=tuple("abcd"))
    batches = ImageBatches.of(split, CPU, view=view, augment=OFF, seed=0)
    settings = scaling_settings(batch_size=batch_size)
    data = dict.fromkeys(("train", "val", "test"), batches)
    runs(folder, model, seeds=seeds, splits=data, settings=settings).run(quiet)
    assert sides == {resolution}
    return [numbers[start : start + COUNT] for start in range(0, len(numbers), COUNT)]


def test_every_arm_sees_the_same_images_in_the_same_order_by_seed(tmp_path: Path) -> None:
    first, second = orders(tmp_path / "a", 8, 8, (0, 1)), orders(tmp_path / "b", 12, 5, (0, 1))
    assert first == second
    assert len(first) == 2 * EPOCHS
    assert all(sorted(order) == list(range(COUNT)) for order in first)
    assert len({tuple(order) for order in first}) == 2 * EPOCHS, "two seeds or two epochs share an order"
    assert orders(tmp_path / "c", 8, 8, (1,)) == first[EPOCHS:]


def test_fit_trains_all_of_the_network_as_the_settings_say() -> None:
    settings = scaling_settings(
        **{"optimizer": "rmsprop", "epsilon": 0.1, "schedule": "exponential", "label_smoothing": 0.1, "ema_decay": 0.9},
        **{"clip_norm": 0.5, "warmup_fraction": 0.3, "learning_rate": 0.02, "weight_decay": 0.3},
    )
    data, ours, theirs = splits(), convolutional(), convolutional()
    fitted = training.fit(ours, data["train"], data["val"], settings, epochs=3, session=Session(seed=7, advance=quiet))
    recipe = Recipe(
        **{"epochs": 3, "batch_size": 8, "schedule": "exponential", "warmup_epochs": 0.3 * 3, "label_smoothing": 0.1},
        **{"ema_decay": 0.9, "clip_norm": 0.5},
    )
    groups = parameter_groups(theirs, "network", lr=0.02, weight_decay=0.3)
    optimizer = build_optimizer("rmsprop", groups, epsilon=0.1)
    expected = fitting.fit(
        theirs, optimizer, data["train"], data["val"], recipe, session=Session(seed=7, advance=quiet)
    )
    assert same_state(ours.state_dict(), theirs.state_dict())
    assert fitted.curve == expected.curve
    untouched = convolutional().state_dict()
    assert not any(torch.equal(value, untouched[name]) for name, value in ours.named_parameters() if value.ndim > 1)


@pytest.mark.parametrize(("fraction", "steps"), [(0.0, 0), (0.25, 3), (0.3, 4), (0.5, 6), (0.99, 12)])
def test_the_warm_up_is_its_fraction_of_all_steps(fraction: float, steps: int) -> None:
    """12 steps; the curve has the rate of each epoch's last."""
    data, settings = splits(), scaling_settings(warmup_fraction=fraction, schedule="constant")
    network = convolutional()
    fitted = training.fit(
        network, data["train"], data["val"], settings, epochs=4, session=Session(seed=0, advance=quiet)
    )
    rates = [row["network_lr"] for row in fitted.curve]
    assert rates == pytest.approx([0.01 * min(1.0, last / max(1, steps)) for last in (3, 6, 9, 12)])


def test_the_paper_style_recipe_learns_32_noise_images_by_heart() -> None:
    data = images(32)
    settings = scaling_settings(optimizer="rmsprop", schedule="exponential", learning_rate=0.02, batch_size=16)
    fitted = training.fit(convolutional(), data, data, settings, epochs=40, session=Session(seed=0, advance=quiet))
    assert fitted.scores["accuracy"] == 1.0
    assert fitted.curve[-1]["train_loss"] < 0.1


def test_what_an_arm_says_goes_before_what_the_study_says() -> None:
    settings = scaling_settings()
    assert seeds.overridden(settings, Arm()) == settings
    own: dict[str, Any] = {"batch_size": 16, "learning_rate": 0.5, "weight_decay": 0.0, "dropout": 0.0}
    own["stochastic_depth"] = 0.4
    assert seeds.overridden(settings, Arm(**own)) == scaling_settings(**own)
    assert seeds.overridden(settings, Arm(resolution=96, epochs=3)) == settings, "neither is the study's"


def test_an_arms_own_batch_may_be_smaller_than_the_parts_of_others() -> None:
    settings = scaling_settings(batch_size=64, micro_batch_size=32)
    assert seeds.overridden(settings, Arm(batch_size=16)) == scaling_settings(batch_size=16, micro_batch_size=32)


def test_networks_see_pixels_between_minus_2_and_2() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1).expand(2, 3, 8, 8)
    split = Split(images=pixels, labels=torch.tensor([0, 1]), classes=("black", "white"))
    batches = ImageBatches.of(split, CPU, view=training.view(16), augment=OFF, seed=0)
    (inputs,) = batches.clean(2)
    assert inputs.shape == (2, 3, 16, 16)
    torch.testing.assert_close(inputs[0], torch.full((3, 16, 16), -2.0))
    torch.testing.assert_close(inputs[1], torch.full((3, 16, 16), 2.0))
