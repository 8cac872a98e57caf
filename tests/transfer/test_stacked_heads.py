"""Heads trained as one: each ends where it ends alone, whatever its company does."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from src.base.batches import batch_sizes
from src.base.randomness import seed_of
from src.models import heads as models
from src.models.heads import Head, build_head
from src.training.fitting import Session, predict
from src.transfer.head_training import fit_head
from src.transfer.stacked_heads import StackedHeads
from src.transfer.stacked_training import Length, fit_heads
from tests.builders.small import features, quiet

OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
SESSION = Session(seed=3, advance=quiet)
HIDDEN = 16
FREE = ("0.bias", "1.running_mean")  # of a deep head, what neither its training nor its own batches see
TRAIN, VAL = features(90, noise=3.0), features(50, name="val", noise=3.0)
STEPS = 6  # of an epoch, in batches of 15


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "HIDDEN", HIDDEN)


def heads(classifier: str) -> list[Head]:
    """Of each dropout and optimizer two, which have all else different, too."""
    others: tuple[dict[str, Any], ...] = (
        {"schedule": "cosine", "weight_decay": 0.05, "learning_rate": 0.01},
        {"schedule": "step", "weight_decay": 0.0, "learning_rate": 0.002},
    )
    return [
        Head(classifier=classifier, dropout=dropout, optimizer=optimizer, **own)
        for dropout, optimizer, own in product((0.0, 0.5), OPTIMIZERS, others)
    ]


def together(own: list[Head], *, epochs: int = 1, **length: int) -> tuple[StackedHeads, list[list[dict[str, Any]]]]:
    whole = Length(**{"epochs": epochs, "steps": epochs * STEPS, "judged": 50} | length)
    return fit_heads(own, TRAIN, VAL, whole, batch_size=16, class_weights="equal", session=SESSION)


@pytest.mark.parametrize("classifier", ["simple", "deep"])
def test_heads_trained_as_one_end_with_the_logits_that_each_has_alone(classifier: str) -> None:
    """But for the bias before batch norm, which takes it away again: its gradient is rounding alone, of which Adam
    makes steps of full length, and the running mean follows it."""
    own = heads(classifier)
    stack, _ = together(own)
    ours = stack.logits(VAL.features[0].float())
    for index, head in enumerate(own):
        alone, _ = fit_head(head, TRAIN, VAL, epochs=1, batch_size=16, class_weights="equal", session=SESSION)
        expected, found = predict(alone, VAL, 16), ours[:, index]
        if classifier == "deep" and head.optimizer in ("adam", "adamw"):
            theirs = {name: each for name, each in alone.state_dict().items() if name in FREE}
            alone.load_state_dict(stack.state(index) | theirs)
            found = predict(alone, VAL, 16)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=str(head))
        assert not torch.allclose(found, ours[:, index - 1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("classifier", ["simple", "deep"])
def test_over_epochs_each_has_the_curve_that_it_has_alone(classifier: str) -> None:
    """Views, schedules and the seeds of steps go on from epoch to epoch; norms and rates are the head's own."""
    own = heads(classifier)[::5]
    _, curves = together(own, epochs=3)
    for head, curve in zip(own, curves, strict=True):
        _, fitted = fit_head(head, TRAIN, VAL, epochs=3, batch_size=16, class_weights="equal", session=SESSION)
        assert [list(row) for row in curve] == [list(row) for row in fitted.curve]
        for ours, theirs in zip(curve, fitted.curve, strict=True):
            told = [
                name for name in ours if "val" not in name or classifier == "simple" or "adam" not in head.optimizer
            ]
            assert [ours[name] for name in told] == pytest.approx([theirs[name] for name in told], rel=1e-3), head


def test_the_state_of_each_loads_into_a_head_of_its_own() -> None:
    own = heads("deep")[:3]
    stack, _ = together(own)
    built = build_head("deep", width=10, classes=3, dropout=0.5, seed=9).eval()
    built.load_state_dict(stack.state(1))
    with torch.no_grad():
        ours = built(VAL.features[0].float())
    torch.testing.assert_close(ours, stack.logits(VAL.features[0].float())[:, 1], rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_bits_and_other_seeds_others() -> None:
    own = heads("deep")[::3]
    first, again = (together(own, epochs=2)[1] for _ in range(2))
    assert first == again
    other = replace(SESSION, seed=4)
    whole = Length(epochs=2, steps=2 * STEPS, judged=50)
    assert fit_heads(own, TRAIN, VAL, whole, batch_size=16, class_weights="equal", session=other)[1] != first


@pytest.mark.parametrize("classifier", ["simple", "deep"])
def test_a_head_that_diverges_says_so_and_leaves_its_company_alone(classifier: str) -> None:
    calm = heads(classifier)[8:12]
    wild = replace(calm[1], learning_rate=1e38, optimizer="sgd")
    _, expected = together(calm)
    _, curves = together([calm[0], wild, *calm[1:]])
    assert curves[1][-1]["val_loss"] is None
    for ours, theirs in zip([curves[0], *curves[2:]], expected, strict=True):
        assert ours[-1] == pytest.approx(theirs[-1], rel=1e-3, abs=1e-5)


def test_a_part_of_an_epoch_is_its_first_steps_under_a_schedule_of_that_length() -> None:
    """The oracle is a stack that is given those batches by hand."""
    own, images = heads("simple")[:4], []
    whole = Length(epochs=1, steps=2, judged=50)
    stack, curves = fit_heads(
        own, TRAIN, VAL, whole, batch_size=16, class_weights="equal", session=replace(SESSION, advance=images.append)
    )
    by_hand = StackedHeads(own, width=10, classes=3, seed=seed_of(3, "head"), steps=2, device=torch.device("cpu"))
    for number, (inputs, labels) in zip(range(2), TRAIN.shuffled(1, 16), strict=False):
        by_hand.step(inputs, labels, number=number, seed=seed_of(3, "step", 1, number, 0))
    shown = VAL.features[0].float()
    assert torch.equal(stack.logits(shown), by_hand.logits(shown))
    assert images == [15 * 4] * 2
    assert curves[0][0]["head_lr"] == pytest.approx(own[0].learning_rate / 2)  # a cosine's middle


def test_judges_are_a_random_part_of_validation() -> None:
    """Fewer judges give other scores of the same heads, and never more images than there are."""
    own = heads("simple")[:2]
    everyone, some = (together(own, judged=count)[1][0][0] for count in (50, 20))
    assert everyone["train_loss"] == some["train_loss"]
    assert everyone["val_loss"] != some["val_loss"]
    assert (20 * some["val_accuracy"]) % 1 == pytest.approx(0, abs=1e-9)


def test_balanced_weights_count_as_they_do_alone() -> None:
    """Two thirds of the images of the rarest class are left out."""
    kept = (TRAIN.labels != 2) | (torch.arange(len(TRAIN.labels)) % 9 == 2)
    rare = replace(TRAIN, features=TRAIN.features[:, kept], labels=TRAIN.labels[kept])
    own = [head for head in heads("simple") if head.optimizer == "sgd"]
    whole = Length(epochs=2, steps=2 * len(batch_sizes(len(rare.labels), 16)), judged=50)
    equal, balanced = (
        fit_heads(own, rare, VAL, whole, batch_size=16, class_weights=weights, session=SESSION)[1]
        for weights in ("equal", "balanced")
    )
    for head, ours, others in zip(own, balanced, equal, strict=True):
        _, fitted = fit_head(head, rare, VAL, epochs=2, batch_size=16, class_weights="balanced", session=SESSION)
        assert [row["val_loss"] for row in ours] == pytest.approx([row["val_loss"] for row in fitted.curve], rel=1e-4)
        assert ours[0]["train_loss"] == pytest.approx(fitted.curve[0]["train_loss"], rel=1e-4)
        assert ours[-1]["val_loss"] != pytest.approx(others[-1]["val_loss"], rel=1e-3)
