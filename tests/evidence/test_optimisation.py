"""Whether an arm trained at all: by validation above chance, and by a gradient that explodes and fits worse."""

import pandas as pd
import pytest

from src.evidence import optimisation
from src.evidence.optimisation import Optimisation

CHANCE = {"images": 1000, "chance": 0.1}


def curve(norm: float, last_loss: float, *accuracies: float, first_loss: float = 2.3) -> pd.DataFrame:
    """Two epochs of a seed per accuracy; the epoch before the last is the better one."""
    rows = [
        {"seed": seed, "epoch": epoch, "train_loss": loss, "val_accuracy": reached, "first_gradient_norm": first}
        for seed, accuracy in enumerate(accuracies)
        for epoch, loss, reached, first in ((1, first_loss, accuracy, norm), (2, last_loss, accuracy / 2, 7.0))
    ]
    return pd.DataFrame(rows)


def judged(arm: str = "depth", **curves: pd.DataFrame) -> Optimisation:
    return optimisation.by_arm({"baseline": curve(100, 1.5, 0.45, 0.46), **curves}, **CHANCE)[arm]


def test_the_published_run_of_depth_failed_and_the_one_that_begins_as_identities_did_not() -> None:
    """First norms and accuracies of that study; losses of that order."""
    exploded = judged(depth=curve(1396, 2.0, 0.33, 0.26))
    assert (exploded.exploded, exploded.failed, exploded.at_chance) == (True, True, 0)
    assert (exploded.first_norm, exploded.first_loss, exploded.last_loss) == (1396, 2.3, 2.0)
    assert exploded.times == pytest.approx(13.96)
    assert not judged(depth=curve(59, 1.4, 0.463, 0.46)).failed


@pytest.mark.parametrize(
    ("arm", "norm", "last_loss"),
    [("depth", 1396, 1.4), ("depth", 450, 2.0), ("resnet50", 1396, 2.0)],
    ids=["it fits the training images better", "its gradient is no larger", "it does not contain the baseline"],
)
def test_one_sign_alone_is_no_failure(arm: str, norm: float, last_loss: float) -> None:
    assert not judged(arm, **{arm: curve(norm, last_loss, 0.33, 0.33)}).failed


def test_an_arm_is_judged_by_its_network_whatever_it_is_called() -> None:
    curves = {"baseline": curve(100, 1.5, 0.45, 0.46), "deep": curve(1396, 2.0, 0.33, 0.26)}
    assert not optimisation.by_arm(curves, **CHANCE)["deep"].exploded
    assert optimisation.by_arm(curves, **CHANCE, networks={"deep": "depth"})["deep"].exploded


def test_without_a_baseline_nothing_explodes() -> None:
    found = optimisation.by_arm({"depth": curve(1396, 2.0, 0.33)}, **CHANCE)["depth"]
    assert (found.times, found.failed) == (None, False)


@pytest.mark.parametrize(
    ("accuracies", "at_chance"),
    [((0.118, 0.4), 1), ((0.121, 0.4), 0), ((0.1, 0.1), 2), ((0.05, 0.4), 1)],
    ids=["Wilson's interval of 118 of 1000 holds 100", "that of 121 does not", "both", "worse than chance"],
)
def test_an_arm_did_not_train_where_a_seeds_best_epoch_is_not_above_chance(
    accuracies: tuple[float, ...], at_chance: int
) -> None:
    found = judged(depth=curve(100, 1.4, *accuracies))
    assert (found.at_chance, found.seeds, found.failed) == (at_chance, 2, at_chance > 0)


def test_the_baseline_is_judged_too() -> None:
    found = optimisation.by_arm({"baseline": curve(100, 2.3, 0.1)}, **CHANCE)["baseline"]
    assert (found.failed, found.times) == (True, 1)
