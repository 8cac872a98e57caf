"""The loop's state: restored from any checkpoint it ends with the same bits; it stops early, and on broken numbers."""

import math
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.models.heads import build_head
from src.training import fitting
from src.training.checkpoints import Checkpoints
from src.training.fitting import Fitted, Session
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from tests.builders.small import EVERYTHING, augment, convolutional, features, fit, images, same_state, scaling_settings

STEPS = 4  # per epoch, of 30 images in batches of 8


class Killed(Exception):
    """Stands for a kill: nothing that comes after it runs."""


def run(
    folder: Path | None, *, steps: int = 1000, model: nn.Module | None = None, optimizer: str = "adamw", **recipe: Any
) -> tuple[dict[str, Tensor], Fitted | None]:
    """Train three epochs with everything on, from the state in `folder`, and be killed after `steps` of them."""
    model = model or convolutional(dropout=0.4)
    train, val = images(30, augment=augment(**EVERYTHING)), images(12, name="val")
    settings = {"epochs": 3, "batch_size": 8, "schedule": "cosine", "warmup_epochs": 1, "ema_decay": 0.9}
    settings |= {"clip_norm": 1.0, "label_smoothing": 0.1, "mixup": 0.4, "cutmix": 1.0, "checkpoint_minutes": 0.0}
    taken = 0

    def advance(count: int) -> None:
        nonlocal taken
        taken += 1
        if taken == steps:
            raise Killed

    groups = parameter_groups(model, "head", lr=0.01, weight_decay=0.01)
    try:
        fitted = fitting.fit(
            model,
            build_optimizer(optimizer, groups, epsilon=EPSILON),
            train,
            val,
            Recipe(**(settings | recipe)),
            session=Session(seed=0, advance=advance, checkpoints=Checkpoints(folder)),
        )
    except Killed:
        return model.state_dict(), None
    return model.state_dict(), fitted


@cache
def undisturbed() -> tuple[dict[str, Tensor], Fitted | None]:
    """What training without a kill and without checkpoints ends with, trained once."""
    return run(None)


@pytest.mark.parametrize("minutes", [0.0, 1e9], ids=["every step", "every epoch"])
@pytest.mark.parametrize(
    "killed_after",
    [STEPS, STEPS + 2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, STEPS - 1, 3 * STEPS))],
)
def test_a_run_that_goes_on_ends_with_the_bits_of_an_undisturbed_one(
    tmp_path: Path, killed_after: int, minutes: float, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, expected = undisturbed()
    assert run(tmp_path, steps=killed_after, checkpoint_minutes=minutes)[1] is None
    weights, fitted = run(tmp_path, checkpoint_minutes=minutes)
    assert fitted is not None
    assert expected is not None
    assert same_state(weights, whole)
    assert (fitted.curve, fitted.best_epoch) == (expected.curve, expected.best_epoch)
    # The last step of an epoch is kept together with its validation.
    step = (killed_after - 1) // STEPS * STEPS if minutes else killed_after - (killed_after % STEPS == 0)
    said = capsys.readouterr().out
    assert said == (f"goes on at epoch {step // STEPS + 1} of 3, step {step % STEPS + 1} of 4\n" if step else "")


@pytest.mark.parametrize("change", [{"optimizer": "rmsprop"}, {"optimizer": "sgd"}, {"precision": "float16"}])
def test_every_optimizer_and_the_scaler_of_float16_go_on_exactly(tmp_path: Path, change: dict[str, str]) -> None:
    whole, _ = run(None, **change)
    run(tmp_path, steps=6, **change)
    assert same_state(run(tmp_path, **change)[0], whole)


def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    for _ in range(3 * STEPS):
        run(tmp_path, steps=2)
    assert same_state(run(tmp_path)[0], undisturbed()[0])


def test_a_finished_run_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, fitted = run(tmp_path)
    again, refitted = run(tmp_path, steps=1)  # a single step would be a kill
    assert same_state(weights, again)
    assert fitted is not None
    assert refitted is not None
    assert refitted.curve == fitted.curve
    assert "images_per_second" not in refitted.machine, "no step was timed, and the report prints what is there"
    assert "finished before" in capsys.readouterr().out


def test_a_run_with_checkpoints_and_one_without_end_with_the_same_bits(tmp_path: Path) -> None:
    assert same_state(run(tmp_path)[0], undisturbed()[0])


def test_a_recipe_takes_what_a_section_shares_with_it_and_what_is_said_beside_it() -> None:
    """The scaling study's section has no epochs, and a share of them for its warm-up."""
    said = {"batch_size": 16, "micro_batch_size": 4, "schedule": "step", "label_smoothing": 0.2, "ema_decay": 0.9}
    said |= {"clip_norm": 2.0, "precision": "bfloat16", "compile": True, "checkpoint_minutes": 5.0}
    recipe = Recipe.of(scaling_settings(**said), epochs=7, warmup_epochs=1.75)
    assert recipe == Recipe(**said, epochs=7, warmup_epochs=1.75)
    assert (recipe.mixup, recipe.cutmix, recipe.early_stopping) == (0.0, 0.0, 0)
    assert Recipe.of(scaling_settings(), epochs=7, batch_size=32).batch_size == 32
    with pytest.raises(TypeError, match="epochs"):
        Recipe.of(scaling_settings())


def test_a_warm_up_of_part_of_an_epoch_ends_within_it() -> None:
    """6 of 12 steps; the curve has the rate of each epoch's last."""
    _, fitted = run(None, warmup_epochs=1.5)
    assert fitted is not None
    expected = [0.01 * 4 / 6, 0.01 * (1 + math.cos(math.pi / 6)) / 2, 0.01 * (1 + math.cos(math.pi * 5 / 6)) / 2]
    assert [row["head_lr"] for row in fitted.curve] == pytest.approx(expected)


def test_training_ends_after_so_many_epochs_without_a_better_validation() -> None:
    train, val = features(60, noise=3.0), features(45, name="val", noise=3.0)

    def heads(patience: int) -> Fitted:
        head = build_head("deep", width=10, classes=3, dropout=0.2, seed=0)
        return fit(head, train, val, lr=0.05, epochs=30, schedule="constant", early_stopping=patience)

    whole, stopped = heads(0), heads(3)
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in whole.curve]
    best = [max(range(end), key=lambda epoch: ranks[epoch]) for end in range(1, 31)]
    last = next(epoch for epoch in range(30) if epoch - best[epoch] >= 3)
    assert stopped.curve == whole.curve[: last + 1]
    assert stopped.best_epoch == best[last] + 1
    assert len(whole.curve) == 30
    assert last < 29


def broken_at(steps: Collection[int], what: str) -> nn.Module:
    """A network whose logits, or whose gradients, are not finite in the training steps `steps` (from 1)."""
    model, calls = convolutional(), 0

    def spoil(module: nn.Module, inputs: Any, logits: Tensor) -> Tensor:
        nonlocal calls
        calls += module.training
        if calls not in steps or not module.training:
            return logits
        if what == "loss":
            return logits * math.nan
        logits.register_hook(lambda gradient: gradient * math.inf)
        return logits

    model.register_forward_hook(spoil)
    return model


@pytest.mark.parametrize(("what", "said"), [("loss", "training loss is nan"), ("gradient", "the gradient's norm is")])
def test_a_number_that_is_not_finite_names_epoch_step_rate_and_the_last_good_state(
    tmp_path: Path, what: str, said: str
) -> None:
    with pytest.raises(FloatingPointError) as caught:
        run(tmp_path, model=broken_at([STEPS + 3], what))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(said)
    assert f"at epoch 2, step 3 of {STEPS} (head_lr 0.00" in line
    newest = Checkpoints(tmp_path)
    assert line.endswith(f"lower the learning rate; the last good state is {newest.path}")
    assert newest.state is not None
    assert (newest.state["epoch"], newest.state["record"]["step"]) == (2, 2)
    assert all(value.isfinite().all() for value in newest.state["model"].values())


def test_a_broken_state_never_becomes_a_checkpoint_even_where_the_loss_is_looked_at_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an accelerator, which is not asked after every step."""
    monkeypatch.setattr("src.training.tally.Record.due", False)
    with pytest.raises(FloatingPointError, match=f"epoch 1, step 2 of {STEPS}"):
        run(tmp_path, model=broken_at([2], "gradient"), checkpoint_minutes=1e9)
    assert Checkpoints(tmp_path).state is None


def test_under_float16_a_broken_step_is_counted_and_an_epoch_without_a_finite_loss_is_fatal() -> None:
    for first in (1, 2):  # the first step of a run overflows most often: the scale begins high
        _, fitted = run(None, model=broken_at([first], "gradient"), precision="float16")
        assert fitted is not None
        assert [row["skipped_steps"] for row in fitted.curve] == [1, 0, 0]
        assert all(math.isfinite(row["train_loss"] + row["gradient_norm"]) for row in fitted.curve)
    with pytest.raises(FloatingPointError, match=f"training loss is nan at epoch 1, step 1 of {STEPS}"):
        run(None, model=broken_at(range(99), "loss"), precision="float16")


def test_under_float16_a_whole_epoch_may_overflow_while_the_loss_scale_comes_down() -> None:
    """A single step an epoch, of which the first two overflow."""
    _, fitted = run(None, model=broken_at([1, 2], "gradient"), precision="float16", batch_size=30, warmup_epochs=0)
    assert fitted is not None
    assert [row["skipped_steps"] for row in fitted.curve] == [1, 1, 0]
    assert all(math.isfinite(row["train_loss"]) for row in fitted.curve)
    assert [math.isfinite(row["gradient_norm"]) for row in fitted.curve] == [False, False, True]


@pytest.mark.parametrize(
    ("epochs", "killed_after", "where", "advice"),
    [
        (30, 13, "20 steps in a row, until epoch 5, step 4 of 4, at a loss scale of 0.0625", "lower the learning rate"),
        (3, 7, "12 steps in a row, until epoch 3, step 4 of 4, at a loss scale of 16", "train for more steps"),
    ],
)
def test_under_float16_what_overflows_for_ever_ends_the_run_however_often_it_is_killed(
    tmp_path: Path, epochs: int, killed_after: int, where: str, advice: str
) -> None:
    """From 2^16, 20 steps bring the scale to 1/16, where it is not to blame; a run of 12 is too short to tell."""
    settings = {"precision": "float16", "epochs": epochs}
    run(tmp_path, model=broken_at(range(999), "gradient"), steps=killed_after, **settings)
    with pytest.raises(FloatingPointError, match=f"^float16: the gradient overflowed in {where} in the end") as caught:
        run(tmp_path, model=broken_at(range(999), "gradient"), **settings)
    assert f"; set precision to bfloat16 or float32, or {advice}" in str(caught.value)


def test_batch_norm_trains_on_an_odd_number_of_images_in_pairs() -> None:
    """In [2, 2, 1], the last batch would have no variance, and torch's batch norm refuses it."""
    head = build_head("deep", width=10, classes=3, dropout=0.2, seed=0)
    fitted = fit(head, features(5), features(5, name="val"), lr=0.05, epochs=2, batch_size=2, schedule="constant")
    assert all(math.isfinite(row["train_loss"]) for row in fitted.curve)


def test_more_processes_than_a_batch_feeds_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    monkeypatch.setattr("src.base.distributed.from_leader", lambda value: value)
    with pytest.raises(ValueError, match=r"^LAUNCHER starts 5 processes, .*; allowed with these batches: at most 3$"):
        run(None)


def test_the_state_of_a_run_is_plain_tensors_and_values(tmp_path: Path) -> None:
    """So that it is read without trusting its file."""
    run(tmp_path, steps=6)
    path = Checkpoints(tmp_path).path
    assert path is not None
    assert set(torch.load(path, weights_only=True)) >= {"epoch", "model", "optimizer", "averaged", "curve"}
