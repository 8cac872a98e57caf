"""Training: the loop does what a plain one does, leaves its best epoch, repeats itself to the bit, and learns."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.base.batches import shuffle
from src.models.heads import build_head
from src.training import fitting
from src.training.averaging import MovingAverage
from src.training.fitting import Fitted, Session
from src.training.loop import Recipe
from src.training.metrics import score
from src.training.schedules import learning_rate_factor
from src.transfer import finetuning
from src.transfer.feature_batches import FeatureBatches
from tests.builders.small import (
    EVERYTHING,
    augment,
    convolutional,
    features,
    finetune_settings,
    fit,
    images,
    quiet,
    same_state,
)


def plain_loop(
    model: nn.Module, train: Any, val: Any, *, lr: float, epochs: int, batch_size: int, recipe: dict[str, Any]
) -> tuple[list[dict[str, Tensor]], list[float], list[float]]:
    """Bare torch: the judged state after each epoch, the gradient norm of each step, and the loss of each step."""
    groups = [[p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim <= 1]]
    optimizer = torch.optim.SGD(
        [{"params": groups[0], "weight_decay": 0.01}, {"params": groups[1], "weight_decay": 0.0}], lr=lr, momentum=0.9
    )
    total, step, average = epochs * math.ceil(len(train.labels) / batch_size), 0, None
    states, norms, losses = [], [], []
    for epoch in range(1, epochs + 1):
        model.train()
        for inputs, labels in train.shuffled(epoch, batch_size):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 + math.cos(math.pi * step / total)) / 2
            loss = F.cross_entropy(model(inputs), labels, label_smoothing=recipe.get("label_smoothing", 0.0))
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), recipe.get("clip_norm") or math.inf).item())
            losses.append(loss.item())
            optimizer.step()
            step += 1
            state = {key: value.clone() for key, value in model.state_dict().items()}
            if average is not None and "ema_decay" in recipe:
                decay = min(recipe["ema_decay"], step / (9 + step))  # (1 + n) / (10 + n) after n = step - 1 updates
                state |= {k: decay * average[k] + (1 - decay) * v for k, v in state.items() if v.is_floating_point()}
            average = state
        states.append(average)
    return states, norms, losses


@pytest.mark.parametrize(
    "recipe",
    [{}, {"clip_norm": 0.3}, {"label_smoothing": 0.2}, {"ema_decay": 0.9}, {"ema_decay": 0.3, "clip_norm": 0.5}],
    ids=lambda recipe: "+".join(recipe) or "plain",
)
def test_fit_is_a_plain_loop_over_the_same_batches(recipe: dict[str, Any]) -> None:
    ours, theirs = convolutional(), convolutional()
    train, val = images(30), images(20, name="val")
    fitted = fit(ours, train, val, lr=0.02, epochs=3, batch_size=8, **recipe)
    states, norms, losses = plain_loop(theirs, train, val, lr=0.02, epochs=3, batch_size=8, recipe=recipe)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, states[fitted.best_epoch - 1][key], atol=2e-5, rtol=1e-4, msg=key)
    sizes = [len(part) for part in shuffle(30, 8, 4, 1)]
    for epoch, row in enumerate(fitted.curve):
        steps = slice(4 * epoch, 4 * epoch + 4)
        weighted = sum(loss * size for loss, size in zip(losses[steps], sizes, strict=True)) / 30
        assert row["train_loss"] == pytest.approx(weighted, rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(sum(norms[steps]) / 4, rel=1e-3), "not the norm before clipping"
        theirs.load_state_dict(states[epoch])
        theirs.eval()
        with torch.no_grad():
            expected = score(theirs(torch.cat(list(val.clean(20)))), val.labels)
        assert row["val_loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert row["val_accuracy"] == pytest.approx(expected["accuracy"], abs=0.051)


def test_training_accuracy_counts_the_answers_given_while_training() -> None:
    """At a rate of nearly 0 and without dropout, it is the accuracy of the network that training started from."""
    model, data = convolutional(), images(24)
    batches = list(data.shuffled(1, 8))
    reference = copy.deepcopy(model).train()
    with torch.no_grad():
        right = sum(int((reference(inputs).argmax(1) == labels).sum()) for inputs, labels in batches)
    fitted = fit(model, data, data, lr=1e-12, epochs=1)
    assert fitted.curve[0]["train_accuracy"] == right / 24


@pytest.mark.parametrize(
    "optimizer", ["adamw", "rmsprop", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adam", "sgd"))]
)
def test_a_network_learns_32_noise_images_by_heart(optimizer: str) -> None:
    data = images(32)
    rate = {"sgd": 0.02, "rmsprop": 0.02}.get(optimizer, 0.005)
    fitted = fit(
        convolutional(), data, data, lr=rate, optimizer=optimizer, epochs=25, batch_size=16, schedule="constant"
    )
    assert fitted.scores["accuracy"] == 1.0
    assert fitted.curve[-1]["train_loss"] < 0.1


def augmented_run(seed: int) -> tuple[nn.Module, Fitted]:
    model = convolutional(dropout=0.4)
    train, val = images(30, augment=augment(**EVERYTHING), seed=seed), images(12, name="val", seed=seed)
    return model, fit(model, train, val, seed=seed, ema_decay=0.9, clip_norm=1.0, label_smoothing=0.1)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    torch.manual_seed(1)
    first, fitted = augmented_run(seed=0)
    torch.manual_seed(2)
    again, refitted = augmented_run(seed=0)
    other, _ = augmented_run(seed=1)
    assert same_state(first.state_dict(), again.state_dict())
    assert fitted.curve == refitted.curve
    assert (fitted.best_epoch, fitted.scores) == (refitted.best_epoch, refitted.scores)
    assert not same_state(first.state_dict(), other.state_dict())


def test_the_seed_of_training_decides_dropout() -> None:
    data = images(24)
    runs = [convolutional(dropout=0.5) for _ in range(3)]
    for model, seed in zip(runs, (0, 0, 1), strict=True):
        fit(model, data, data, seed=seed, epochs=1)
    assert same_state(runs[0].state_dict(), runs[1].state_dict())
    assert not same_state(runs[0].state_dict(), runs[2].state_dict())


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_model_left_is_that_of_the_best_epoch(ema_decay: float) -> None:
    """On overlapping clouds at a high rate, validation goes up and down, so that the last epoch is not the best."""
    train, val = features(60, noise=3.0), features(45, name="val", noise=3.0)
    model = build_head("deep", width=10, classes=3, dropout=0.2, seed=0)
    fitted = fit(model, train, val, lr=0.05, epochs=12, schedule="constant", ema_decay=ema_decay)
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in fitted.curve]
    assert fitted.best_epoch == 1 + ranks.index(max(ranks))
    assert fitted.best_epoch < 12
    assert score(fitting.predict(model, val, 8), val.labels) == fitted.scores
    best = fitted.curve[fitted.best_epoch - 1]
    assert fitted.scores == {"accuracy": best["val_accuracy"], "loss": best["val_loss"]}


def test_of_epochs_with_equal_accuracy_the_one_with_the_lowest_loss_is_best() -> None:
    train, val = features(60, noise=0.1), features(30, name="val", noise=0.1)
    fitted = fit(build_head("simple", width=10, classes=3, dropout=0.0, seed=0), train, val, epochs=6, lr=0.05)
    losses = [row["val_loss"] for row in fitted.curve if row["val_accuracy"] == 1.0]
    assert len(losses) > 1
    assert fitted.scores == {"accuracy": 1.0, "loss": min(losses)}


def test_the_average_moves_with_a_decay_that_warms_up_and_counters_are_copied() -> None:
    model = nn.BatchNorm1d(1)
    averaged = MovingAverage(model, 0.3)
    by_hand = None
    for step, value in enumerate([1.0, 5.0, -2.0, 7.0, 3.0, 3.0]):
        nn.init.constant_(model.weight, value)
        model.num_batches_tracked.fill_(10 * step)
        averaged.update()
        decay = min(0.3, (1 + step) / (10 + step))
        by_hand = value if by_hand is None else decay * by_hand + (1 - decay) * value
        assert averaged.model.weight.item() == pytest.approx(by_hand, rel=1e-6)
        assert averaged.model.num_batches_tracked.item() == 10 * step


def test_an_average_of_high_decay_learns_in_a_short_run() -> None:
    """Without the rise of its decay, it would keep its random start."""
    data = images(32)
    fitted = fit(convolutional(), data, data, lr=0.02, epochs=25, batch_size=8, ema_decay=0.9999)
    assert fitted.scores["accuracy"] == 1.0


def test_clipping_bounds_the_step_and_a_high_bound_changes_nothing() -> None:
    """One step of gradient descent at rate 1 moves the weights by the clipped gradient."""
    data = features(8, views=1)
    moved = {}
    for bound in (0.01, 1e6, 0.0):
        model = nn.Sequential(nn.Linear(10, 3))
        nn.init.zeros_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        optimizer = torch.optim.SGD([{"params": list(model.parameters()), "name": "head", "initial_lr": 1.0}], lr=1.0)
        recipe = Recipe(epochs=1, batch_size=8, schedule="constant", clip_norm=bound)
        fitted = fitting.fit(model, optimizer, data, data, recipe, session=Session(seed=0, advance=quiet))
        moved[bound] = (torch.cat([p.detach().flatten() for p in model.parameters()]), fitted.curve[0]["gradient_norm"])
    assert moved[0.01][0].norm().item() == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(moved[1e6][0], moved[0.0][0])
    assert moved[0.01][1] == moved[0.0][1] == pytest.approx(moved[0.0][0].norm().item(), rel=1e-5)


def test_the_rates_in_the_curve_are_the_peak_times_the_schedule_for_head_and_backbone() -> None:
    settings = finetune_settings(epochs=4)
    model, data = convolutional(), images(30)
    optimizer = finetuning.optimizer(model, settings, lr=0.003)
    fitted = fitting.fit(model, optimizer, data, data, Recipe.of(settings), session=Session(seed=0, advance=quiet))
    last_steps = [4 * epoch - 1 for epoch in range(1, 5)]
    factors = [learning_rate_factor("cosine", step, total=16, warmup=4) for step in last_steps]
    assert [row["head_lr"] for row in fitted.curve] == pytest.approx([0.003 * factor for factor in factors])
    assert [row["backbone_lr"] for row in fitted.curve] == pytest.approx([0.0003 * factor for factor in factors])
    assert factors[0] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_epoch_and_step(bad: float) -> None:
    data = features(24, views=3)
    chosen = shuffle(24, 8, 4, 2)[1][0]  # an image of the second step of epoch 2, which reads view 1
    data.features[1, chosen, 0] = bad
    with pytest.raises(
        FloatingPointError, match=r"^training loss is nan at epoch 2, step 2 of 3 \(.*head_lr 0\.0\d+\)"
    ) as caught:
        fit(build_head("simple", width=10, classes=3, dropout=0.0, seed=0), data, data)
    assert "\n" not in str(caught.value)


def test_predictions_are_in_stored_order_whatever_the_batch_size_and_use_no_dropout() -> None:
    model, data = convolutional(dropout=0.5), images(21)
    logits = fitting.predict(model, data, 5)
    assert logits.shape == (21, 4)
    torch.testing.assert_close(logits, fitting.predict(model, data, 21), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(logits[7:8], model.eval()(next(data.clean(21))[7:8]), atol=1e-5, rtol=1e-5)


class Counted:
    """Batches that note which of their inputs were asked for."""

    def __init__(self, inner: FeatureBatches) -> None:
        self.inner, self.labels, self.asked = inner, inner.labels, []

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        self.asked.append("shuffled")
        return self.inner.shuffled(epoch, batch_size, start)

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        self.asked.append("clean")
        return self.inner.clean(batch_size)


def test_validation_is_read_once_an_epoch_and_never_trained_on() -> None:
    train, val = Counted(features(12)), Counted(features(9, name="val"))
    fit(build_head("simple", width=10, classes=3, dropout=0.0, seed=0), train, val, epochs=3)
    assert train.asked == ["shuffled"] * 3
    assert val.asked == ["clean"] * 3


def test_weights_are_a_copy_each_tensor_contiguous_in_its_own_storage() -> None:
    model = convolutional().to(memory_format=torch.channels_last)
    kept = fitting.weights(model)
    assert list(kept) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(kept[name], value)
        assert kept[name].is_contiguous()
        assert kept[name].untyped_storage().nbytes() == value.numel() * value.itemsize
        assert kept[name].data_ptr() != value.data_ptr()
