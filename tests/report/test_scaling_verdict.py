"""Sentences on the scaling study: they say what an interval bears. And the paper's table as it was printed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.evidence import comparisons
from src.evidence.comparisons import Comparison
from src.report import scaling
from src.report.numbers import NARROW
from src.report.scaling_verdict import sentence
from tests.builders.report import ARMS


def comparison(difference, low, high, needed=None, seeds=4):
    figures = {"difference": difference, "low": low, "high": high, "p_value": 0.5, "seeds": seeds, "needed": needed}
    return Comparison(arm="compound", other="depth", **figures)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            comparison(0.008, -0.002, 0.018, 7),
            "+0.8 points, [−0.2, +1.8]: not settled by 4 seeds; 7 would find a difference of this size in 80 % of "
            "studies",
        ),
        (comparison(0.008, -0.002, 0.018, seeds=3), "+0.8 points, [−0.2, +1.8]: not settled by 3 seeds"),
        (comparison(0.021, 0.009, 0.033), "+2.1 points, [+0.9, +3.3]: compound is better"),
        (comparison(-0.021, -0.033, -0.009), "−2.1 points, [−3.3, −0.9]: depth is better"),
        (comparison(0.0, -0.01, 0.01), "0.0 points, [−1.0, +1.0]: not settled by 4 seeds"),
        (
            comparison(0.001, -0.499, 0.501),
            "+0.1 points, [−49.9, +50.1]: not settled by 4 seeds; more than 10 000 would find a difference of this "
            "size in 80 % of studies",
        ),
        # a bound that the verdict rests on never reads as 0
        (comparison(0.0104, 0.0004, 0.0204), "+1.04 points, [+0.04, +2.04]: compound is better"),
        (comparison(-0.01, -0.01996, -0.00004), "−1.000 points, [−1.996, −0.004]: depth is better"),
        (comparison(0.01, -0.0004, 0.0204, seeds=3), "+1.0 points, [−0.0, +2.0]: not settled by 3 seeds"),
    ],
)
def test_sentences_say_what_the_interval_bears(found, text):
    assert sentence(found).replace(NARROW, " ") == f"compound − depth: {text}"


@given(seed=st.integers(0, 10_000), seeds=st.integers(2, 6), apart=st.sampled_from([0.0, 0.01, 0.1]))
def test_a_sentence_calls_an_arm_better_only_where_its_interval_says_so(seed, seeds, apart):
    generator = np.random.default_rng(seed)
    table = apart * generator.standard_normal((5, 1)) + 0.01 * generator.standard_normal((5, seeds))
    accuracies = {arm: dict(enumerate(map(float, row))) for arm, row in zip(ARMS, table, strict=True)}
    pairs = comparisons.pairs_of(ARMS)
    for found in comparisons.compare(accuracies, pairs):
        text = sentence(found)
        assert text.endswith(f": {found.arm} is better") == (0 < found.low < found.high)
        assert text.endswith(f": {found.other} is better") == (found.low < found.high < 0)
        assert ("not settled" in text) == (not found.settled)


def test_table_7_has_what_the_paper_says_of_it():
    rows = {row["arm"]: row for row in scaling.TABLE_7}
    assert tuple(rows) == ARMS
    scaled = [row for arm, row in rows.items() if arm != "baseline"]
    assert all(row["multiply_adds"] == pytest.approx(1.8, abs=0.11) for row in scaled)
    worst = min(rows[arm]["accuracy"] for arm in ("depth", "width", "resolution"))
    assert 0.02 < rows["compound"]["accuracy"] - worst <= 0.025  # "by up to 2.5%", section 6
