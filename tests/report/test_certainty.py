"""The chapter on how sure the networks are: its sentences follow from the numbers, whichever way they turn."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from src.base import artifacts
from src.evidence import questions, repeated
from src.report import assessed, certainty, certainty_tables
from tests.builders.report import METHODS, NAMES, SIZES, assessed_of, plain, predictions, study


def surer(factor):
    """A study whose fine-tuned network has its logits times `factor`."""
    files = predictions(NAMES, METHODS, SIZES)
    files[-1]["logits"]["finetuned"] = factor * files[-1]["logits"]["finetuned"]
    return replace(study(), assessed=assessed_of(files))


@pytest.mark.parametrize(
    ("factor", "verdict", "does"),
    [(1.0, "more sure than it should be", "softens"), (0.5, "less sure than it should be", "sharpens")],
)
def test_a_network_that_is_too_sure_or_too_little_is_said_to_be(factor, verdict, does):
    """Its logits are 5 for the class that it names, or 2.5, and 0 for nine others."""
    sentence = plain(certainty.stated(surer(factor), "finetuned"))
    stated = torch.softmax(torch.tensor([5 * factor] + [0.0] * 9), 0)[0].item()
    assert f"is {100 * stated:.1f} % sure of the class that it names, and is right in 82.5 %" in sentence
    assert f"{verdict}. " in sentence
    assert does in sentence


def test_as_sure_as_it_is_right_is_said_with_its_reserve():
    sentence = plain(certainty.stated(surer(0.745), "finetuned"))
    assert "as sure as it should be, as far as 360 images tell" in sentence


def test_without_a_mistake_on_validation_no_temperature_is_claimed():
    made = study(shares=METHODS | {"finetuned": 1.0})
    sentence = plain(certainty.stated(made, "finetuned"))
    assert "No temperature was fitted" in sentence
    assert certainty_tables.score_rows(made).rows["Fine-tuned, temperature"].eq("").all()


def outcome(**own):
    row = {"target": 0.9, "threshold": 0.6, "images": 100, "answered": 60, "coverage": 0.6, "accuracy": 0.95}
    return plain(certainty.outcome(row | {"low": 0.91, "high": 0.98} | own))


def test_each_outcome_of_a_target_is_said():
    assert (
        outcome() == "it answers 60.0 % of the test images and is right in 95.0 % [91.0, 98.0] of them: "
        "the target holds"
    )
    assert outcome(low=0.7, high=0.89).endswith("the target is missed")
    assert outcome(low=0.85).endswith("chance leaves open whether the target holds")
    assert outcome(answered=100, coverage=1.0).startswith("it answers every test image and is right in")
    assert outcome(threshold=np.nan, answered=0) == "no confidence served on validation, and it answers nothing"
    assert outcome(answered=0) == "none of the test images is as sure as that takes"


@pytest.mark.parametrize(("target", "text"), [(0.99, "99 %"), (0.995, "99.5 %"), (1.0, "100 %"), (0.57, "57 %")])
def test_targets_are_written_as_people_type_them(target, text):
    assert plain(certainty.share(target)) == text


def test_what_is_read_is_what_was_written_whatever_classes_are_called(tmp_path):
    names = ("1", "02", "NA", "null", "1e5", "a,b", '"', "None", "True", "")
    found = assessed_of(predictions(names, METHODS, SIZES))
    paths = {}
    for part in ("scores", "classes", "reliability", "coverage", "options"):
        paths[part] = str(tmp_path / f"{part}.csv")
        artifacts.write_csv(getattr(found, part), paths[part])
    paths["differences"] = str(tmp_path / "differences.csv")
    artifacts.write_csv(questions.as_rows(found.differences), paths["differences"])
    paths["seeds"] = str(tmp_path / "seeds.csv")
    artifacts.write_csv(repeated.as_rows(found.over_seeds), paths["seeds"])
    again = assessed.read(metrics=found.metrics, **paths)
    assert again.over_seeds == found.over_seeds
    assert again.classes["class"].tolist() == 2 * list(names)
    for part in ("scores", "classes", "reliability", "options"):
        pd.testing.assert_frame_equal(getattr(again, part), getattr(found, part), check_dtype=False)
    assert again.coverage["threshold"].isna().tolist() == [each is None for each in found.coverage["threshold"]]
    assert [each.p_value for each in again.differences] == pytest.approx([e.p_value for e in found.differences])


def test_every_class_has_its_row_and_of_many_the_hardest():
    made = study()
    table = certainty_tables.class_rows(made).rows
    assert table["Class"].tolist() == list(NAMES)
    assert sum(map(int, table["Images"])) == sum(map(int, table["Named so"])) == SIZES["test"]
    many = study(tuple(f"class {i}" for i in range(100)))
    hardest = certainty_tables.class_rows(many).rows["F1"].astype(float)
    own = many.assessed.classes.query("method == 'finetuned'")["f1"]
    assert hardest.tolist() == [round(100 * each, 1) for each in own.sort_values().head(20)]


def test_the_differences_of_the_table_are_those_that_were_asked():
    rows = certainty_tables.difference_rows(study()).rows
    assert rows["Comparison"].tolist() == [
        "Fine-tuned network − trained head, frozen backbone",
        "Trained head, frozen backbone − nearest class mean",
        "Trained head, frozen backbone − nearest neighbours",
    ]
    assert rows["Verdict"].isin({"better", "worse", "cannot be told apart"}).all()


def noise(seed):
    return torch.Generator().manual_seed(seed)


def test_options_stand_beside_the_plain_network_where_there_are_any():
    """Three seeds, each with mistakes of its own, and a view that is one of them."""
    assert certainty_tables.option_rows(study()) == []
    files = predictions(NAMES, METHODS, SIZES)
    tuned = files[-1]["logits"]["finetuned"]
    others = [torch.where(torch.rand(len(tuned), 1, generator=noise(seed)) < 0.1, 0, tuned) for seed in (1, 2)]
    by_seed = {f"seed {number}": each for number, each in enumerate([tuned, *others])}
    seeds, flips = files[-1] | {"logits": by_seed}, files[-1] | {"logits": {"flipped": others[0]}}
    made = replace(study(), assessed=assessed_of(files, seeds=seeds, flips=flips))
    (table,) = certainty_tables.option_rows(made)
    assert table.rows["Fine-tuned network"].tolist() == ["As it is", "With mirrored images", "Ensemble of 3 seeds"]
    assert table.rows["Difference"].ne("").tolist() == [False, True, True]
    assert certainty.chapter(made).blocks[-1].caption == table.caption
    assert made.assessed.over_seeds["accuracy"].runs == 3
