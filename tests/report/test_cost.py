"""What accuracy costs: the seconds of the stages that a person runs for it, and of which records they are."""

import pandas as pd
import pytest

from src import figures
from src.evidence import answers
from src.report import cost
from src.report.numbers import duration
from src.report.study import LABELS
from tests.builders.report import plain, scaling, study, undrawn


def chapter(made):
    with undrawn():
        return cost.chapter(made, answers.accuracy_table(made.answers, list(LABELS)))


def test_a_way_takes_what_all_its_stages_took():
    made = study()
    table = chapter(made).blocks[-1].rows.set_index("Method")
    for method, stages in cost.STAGES.items():
        assert table.loc[LABELS[method], "Time"] == duration(sum(made.records[stage].seconds for stage in stages))
        assert all(stage in table.loc[LABELS[method], "Stages"] for stage in stages)


def test_the_sentence_says_how_many_times_as_long():
    made = study()
    frozen, tuned = (
        sum(made.records[stage].seconds for stage in cost.STAGES[method]) for method in ("frozen", "finetuned")
    )
    accuracies = answers.accuracy_table(made.answers, list(LABELS))
    assert f"{tuned / frozen:.1f} times as long" in plain(cost.answer(made, accuracies))


@pytest.mark.parametrize(("best", "words"), [(0.1, "after epoch 1 of 10"), (0.999, "never was as good")])
def test_fine_tuning_is_set_beside_the_best_arm_from_scratch(best, words):
    made = scaling()
    arm = made.arms[1]
    for name in made.arms:
        made.metrics[name]["val"]["accuracy"] = best if name == arm else 0.05
    text = plain(chapter(study(scaled=made)).blocks[1])
    assert words in text
    assert arm in text
    assert chapter(study(scaled=made)).blocks[-1].rows["Method"].iloc[-1] == f"{arm}, from scratch"


def test_the_line_joins_what_validation_puts_first_and_bars_reach_as_far_as_intervals(monkeypatch):
    rows = pd.DataFrame(
        {
            "method": ["frozen", "finetuned"],
            "label": ["a", "b"],
            "seconds": [1.0, 2.0],
            "val": [0.95, 0.94],
            "accuracy": [0.90, 0.986],
            "low": [0.88, 0.968],
            "high": [0.92, 0.994],
        }
    )
    drawn = []
    monkeypatch.setattr(figures.cost, "accuracy_by_seconds", lambda rows, front, **_: drawn.append(front) or "")
    cost._figure(rows)
    assert drawn[0] == ["frozen"]
    below, above = figures.cost._reach(rows.loc[1])
    assert (below[0], above[0]) == pytest.approx((1.8, 0.8))


def test_without_arms_nothing_is_said_of_them():
    found = chapter(study(scaled=scaling(())))
    assert len(found.blocks) == 3
    assert "scratch" not in "".join(found.blocks[-1].rows["Method"])
