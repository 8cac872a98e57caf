"""Intervals that the report leaves for MLflow, against those of other libraries and of the rows themselves."""

from dataclasses import replace

import pytest
from scipy import stats

from src.evidence.repeated import Repeated
from src.report import bounds
from tests.builders.report import scaling, study


def test_the_gain_has_the_interval_of_images_that_both_networks_named() -> None:
    made = study(scaled=scaling())
    low, high = bounds.intervals(made)["finetune/gain"]
    test = made.answers.test
    gained, lost = (
        ((test[one] == test["actual"]) & (test[other] != test["actual"])).mean()
        for one, other in (("finetuned", "frozen"), ("frozen", "finetuned"))
    )
    half = stats.norm.ppf(0.975) * ((gained + lost - (gained - lost) ** 2) / len(test)) ** 0.5  # Wald's, of pairs
    assert (low, high) == pytest.approx((gained - lost - half, gained - lost + half), abs=0.3 * half)


def test_the_mean_of_an_arm_has_students_interval_over_its_seeds_and_one_seed_has_none() -> None:
    three = scaling()
    found = bounds.intervals(study(scaled=three))
    for arm, accuracies in three.accuracies.items():
        values = [*accuracies.values()]
        expected = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
        assert found[f"scaling_ablation/{arm}/test/accuracy"] == pytest.approx(
            (max(expected[0], 0), min(expected[1], 1))
        )
    one = bounds.intervals(study(scaled=scaling(seeds=(0,))))
    assert not [name for name in one if name.startswith("scaling_ablation")]


def test_fine_tuning_has_an_interval_over_seeds_where_it_has_seeds() -> None:
    made = study(scaled=scaling())
    assert "finetune/repeats/accuracy" not in bounds.intervals(made)
    several = Repeated(mean=0.5, low=0.4, high=0.6, p_value=None, runs=3, deviation=0.01)
    seeds = {**made.assessed.over_seeds, "accuracy": several}
    again = replace(made, assessed=replace(made.assessed, over_seeds=seeds))
    assert bounds.intervals(again)["finetune/repeats/accuracy"] == (0.4, 0.6)


def test_scores_of_the_metrics_of_the_stage_evidence_have_the_intervals_that_it_found_as_trained() -> None:
    made = study(scaled=scaling())
    found = bounds.intervals(made)
    for method in ("frozen", "finetuned"):
        for score in ("log_loss", "calibration_error"):
            row = made.assessed.score(method, score)
            assert found[f"evidence/{method}/{score}"] == (row["low"], row["high"])
    assert {name.split("/")[2] for name in found if name.startswith("evidence")} <= {*made.assessed.metrics["frozen"]}
