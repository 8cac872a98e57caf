"""Shares in a score's variance over a full grid: by construction, and against the forest that fANOVA fits."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from src.evidence.grid_effects import variance_shares


def table(score, sizes=(3, 4, 2)):
    rows = pd.DataFrame(product(*map(range, sizes)), columns=["a", "b", "c"])
    return rows.assign(score=score(rows["a"], rows["b"], rows["c"]))


def test_what_adds_up_has_no_interaction_and_the_shares_of_its_variances():
    shares = variance_shares(table(lambda a, b, c: a + 2.0 * c), ("a", "b", "c"), "score")
    of_a, of_c = np.var([0, 1, 2]), np.var([0, 2])
    assert shares["a",] == pytest.approx(of_a / (of_a + of_c))
    assert shares["c",] == pytest.approx(of_c / (of_a + of_c))
    assert [shares[key] for key in shares if key not in (("a",), ("c",))] == pytest.approx([0.0] * 5)


def test_what_only_a_pair_decides_is_the_pairs():
    shares = variance_shares(table(lambda a, b, c: (b + c) % 2 * 1.0), ("a", "b", "c"), "score")
    assert shares == pytest.approx(dict.fromkeys(shares, 0.0) | {("b", "c"): 1.0})


def test_all_shares_of_all_columns_make_one_and_none_is_negative():
    noise = np.random.default_rng(0).random(24)
    shares = variance_shares(table(lambda *_: noise), ("a", "b", "c"), "score")
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= -1e-12
    assert next(iter(shares)) == ("a",)
    assert len(shares) == 7


def test_without_variance_there_is_nothing_to_share():
    assert set(variance_shares(table(lambda a, b, c: 0 * a), ("a", "b"), "score").values()) == {0.0}


@pytest.mark.parametrize("kept", ["a > 0 or b > 0 or c > 0", "a != c"])
def test_a_grid_with_holes_is_refused(kept):
    rows = table(lambda a, b, c: a + b).query(kept)
    with pytest.raises(ValueError, match="not every combination of values is there equally often"):
        variance_shares(rows, ("a", "b", "c"), "score")
