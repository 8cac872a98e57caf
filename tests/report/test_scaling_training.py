"""An arm whose optimisation failed is marked in the report, and subtracted from nothing."""

from dataclasses import replace

import pandas as pd
import pytest

from src.interface.scaling_params import Arm
from src.report import pages, scaling_training, scaling_verdict
from src.report.scaling import ablation
from src.report.study import ScalingResults
from tests.builders.report import ARMS, SETTINGS, Document, plain, scaling, study, undrawn


def page_of(found: ScalingResults, **own: object) -> Document:
    with undrawn():
        section = ablation(study(scaled=found, **own))
    page = pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=[section])
    return Document(plain(pages.as_html(page)))


def with_curve(arm: str, **columns: float) -> ScalingResults:
    """The study in which the curve of `arm` has these values."""
    found = scaling()
    return replace(found, curves=found.curves | {arm: found.curves[arm].assign(**columns)})


EXPLODED = with_curve("depth", first_gradient_norm=174.5, train_loss=2.0)
AT_CHANCE = with_curve("depth", val_accuracy=0.1)
BASELINE_AT_CHANCE = with_curve("baseline", val_accuracy=0.1)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            EXPLODED,
            "depth did not train: its first gradient is 14.0 times the baseline's (174 against 12.5), and it fits even "
            "the training images worse. It is left out of all comparisons",
        ),
        (AT_CHANCE, "depth did not train: on validation it is not above chance with 3 of 3 seeds. It is left out"),
    ],
)
def test_a_failed_arm_is_named_with_its_symptom_and_compared_with_nothing(found: ScalingResults, says: str) -> None:
    made = study(scaled=found)
    assert says in plain(scaling_verdict.verdict(made))
    compared = scaling_verdict.compared(made)
    assert not [each for each in compared if "depth" in (each.arm, each.other)]
    assert len(compared) == 5
    page = page_of(found)
    (trained,) = [row for row in page.table("How training went") if row[0] == "depth"]
    assert trained[-1] == "did not train"
    for caption, gain in (("Points of mean test accuracy", 3), ("Table 7", 6)):
        gains = {row[0]: row[gain] for row in page.table(caption)[1:]}
        assert gains["depth"] == "depth did not train"
        assert gains["width"].startswith(("+", "−"))


def test_without_a_trained_baseline_nothing_is_compared_with_it() -> None:
    compared = scaling_verdict.compared(study(scaled=BASELINE_AT_CHANCE))
    assert [(each.arm, each.other) for each in compared] == [("compound", axis) for axis in ARMS[1:4]]
    gains = page_of(BASELINE_AT_CHANCE).table("Table 7")[2:]
    assert {row[6] for row in gains} == {"baseline did not train"}


def test_every_arms_first_gradient_and_loss_are_shown() -> None:
    found = with_curve("compound", first_gradient_norm=25.0)
    rows = {row[0]: row[1:] for row in page_of(found).table("How training went")[1:]}
    assert list(rows) == list(ARMS)
    assert rows["baseline"][:2] == ["12.5", "1.00"]
    assert rows["compound"][:2] == ["25.0", "2.00"]
    losses = found.curves["width"].groupby("epoch")["train_loss"].mean()
    assert rows["width"][2:] == [f"{losses.iloc[0]:.3f}", f"{losses.iloc[-1]:.3f}", "yes"]


def test_chance_is_naming_the_commonest_class_where_classes_are_not_equally_common() -> None:
    made = study()
    val = made.answers.rows["split"] == "val"
    rows = made.answers.rows.assign(actual=made.answers.rows["actual"].where(~val, 0))
    train = made.answers.rows["split"] == "train"
    rows = rows.assign(actual=rows["actual"].where(~train, 0))
    skewed = replace(made, answers=replace(made.answers, rows=pd.DataFrame(rows)))
    assert scaling_training.failed(made) == []
    assert scaling_training.failed(skewed) == list(ARMS)  # naming class 0 is always right


@pytest.mark.parametrize(
    ("zero_init", "says"), [(True, "not the authors' initialisation"), (False, "as the authors' do")]
)
def test_the_initialisation_is_said(zero_init: bool, says: str) -> None:
    words = page_of(scaling(), scaling=replace(SETTINGS.scaling, zero_init=zero_init)).words
    assert says in words


def test_one_rate_for_all_arms_is_said_to_suit_none_and_found_rates_are_named() -> None:
    assert "All arms share one learning rate, 0.016, which was found for none of them" in page_of(scaling()).words
    found = scaling(("baseline", "depth"))
    runs = {
        arm: replace(run, facts={**run.facts, "learning_rate": rate})
        for (arm, run), rate in zip(found.runs.items(), (0.03, 0.004), strict=True)
    }
    auto = replace(SETTINGS.scaling, learning_rate="auto")
    words = page_of(replace(found, runs=runs), scaling=auto).words
    assert (
        "Each arm has the learning rate that a range test and validation gave it: baseline 0.03, depth 0.004." in words
    )


def test_an_arm_with_a_rate_of_its_own_shares_none_and_was_given_none() -> None:
    found, own = scaling(("baseline", "depth")), {"baseline": Arm(), "depth": Arm(learning_rate=0.01)}
    assert "All arms but depth share one learning rate, 0.016" in page_of(found, scaling_arms=own).words
    runs = {arm: replace(run, facts={**run.facts, "learning_rate": 0.03}) for arm, run in found.runs.items()}
    auto = replace(SETTINGS.scaling, learning_rate="auto")
    words = page_of(replace(found, runs=runs), scaling=auto, scaling_arms=own).words
    assert "Each arm but depth has the learning rate that a range test and validation gave it: baseline 0.03." in words


def test_only_networks_that_are_scaled_here_are_said_to_begin_otherwise_than_published() -> None:
    found, own = scaling(("baseline", "mine")), {"baseline": Arm(), "mine": Arm(name="resnet50")}
    zero = replace(SETTINGS.scaling, zero_init=True)
    words = page_of(found, scaling=zero, scaling_arms=own).words
    assert "each residual block of scaled networks begins at 0" in words
    assert "mine begins as published." in words
    made = study(scaled=scaling(("mine",)), scaling=zero, scaling_arms={"mine": Arm(name="resnet50")})
    assert "batch norm" not in scaling_training.conditions(made)


@pytest.mark.parametrize(
    ("smoothing", "says"), [(0.1, "augmented images, with label smoothing"), (0.0, "images, while")]
)
def test_the_training_loss_is_said_to_hold_what_it_does(smoothing: float, says: str) -> None:
    own = replace(SETTINGS.scaling, label_smoothing=smoothing, dropout=0.0, stochastic_depth=0.0)
    assert says in page_of(scaling(), scaling=own).words


def test_arms_that_see_more_pixels_than_are_stored_are_named_beside_the_verdict() -> None:
    found = scaling(("baseline", "resolution"))
    for stored, says in ((64, "whatever resolution sees beyond"), (32, "whatever baseline and resolution see beyond")):
        made = study(scaled=found, dataset=replace(SETTINGS.dataset, image_size=stored))
        assert f"stored at {stored} pixels a side: {says} that is interpolated" in scaling_training.conditions(made)
    large = study(scaled=found, dataset=replace(SETTINGS.dataset, image_size=128))
    assert "interpolated" not in scaling_training.conditions(large)
