"""What more work at test time brings: the means by hand, and what is asked of them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax

from src.evidence import options, paired
from src.evidence.assessment import Judged


def answered(images: int = 300, seed: int = 0, *, lean: float = 2.0) -> Judged:
    """Logits of five classes that lean to the class; the labels are the same whatever the seed."""
    labels = np.arange(images) % 5
    noise = np.random.default_rng(seed).normal(size=(images, 5))
    return Judged(logits=(noise + lean * np.eye(5)[labels]).astype(np.float32), labels=labels)


def test_the_softmax_of_an_ensemble_is_the_mean_of_its_members() -> None:
    members = [answered(seed=seed) for seed in range(3)]
    found = options.ensemble(members)
    expected = np.mean([softmax(each.logits.astype(float), axis=1) for each in members], axis=0)
    np.testing.assert_allclose(softmax(found.logits, axis=1), expected)
    np.testing.assert_allclose(np.exp(found.logits).sum(axis=1), 1)
    alone = options.ensemble(members[:1])
    np.testing.assert_allclose(softmax(alone.logits, axis=1), softmax(members[0].logits.astype(float), axis=1))


def test_each_option_is_compared_with_the_plain_network_and_all_share_a_level() -> None:
    plain, beside = answered(lean=1.0), {"flipped": answered(seed=1, lean=1.2), "ensemble": answered(seed=2, lean=2.0)}
    rows = pd.DataFrame(options.compared(plain, beside)).set_index("method")
    assert rows.index.tolist() == ["finetuned", "flipped", "ensemble"]
    raw = {}
    for name, each in beside.items():
        assert rows.loc[name, "difference"] == pytest.approx(each.hits.mean() - plain.hits.mean())
        gained, lost = int((each.hits & ~plain.hits).sum()), int((plain.hits & ~each.hits).sum())
        raw[name] = paired.mcnemar(gained, lost)
        assert rows.loc[name, "accuracy"] == pytest.approx(each.hits.mean())
    first, second = sorted(raw.values())
    assert sorted(rows["p_value"].dropna()) == pytest.approx([min(1, 2 * first), max(min(1, 2 * first), second)])
    assert math.isnan(rows.loc["finetuned", "difference"])


def test_without_an_option_the_plain_network_stands_alone() -> None:
    (row,) = options.compared(answered(), {})
    assert tuple(row) == options.COLUMNS
    assert row["accuracy"] == answered().hits.mean()


@pytest.mark.parametrize(("seeds", "flipped"), [(1, False), (1, True), (3, False), (3, True)])
def test_only_what_there_is_is_offered_and_it_is_about_test(seeds: int, flipped: bool) -> None:
    split, label = torch.tensor([1, 1, 2, 2, 2]), torch.tensor([0, 1, 0, 1, 2])
    by_seed = {
        f"seed {seed}": torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)
    }
    table = {"split": split, "label": label}
    found = options.offered(
        table | {"logits": by_seed}, table | {"logits": {"flipped": torch.eye(5, 3)} if flipped else {}}
    )
    assert list(found) == ["flipped"] * flipped + ["ensemble"] * (seeds > 1)
    assert all(each.labels.tolist() == [0, 1, 2] for each in found.values())
    if seeds > 1:
        expected = torch.stack([each[2:].softmax(1) for each in by_seed.values()]).mean(0)
        np.testing.assert_allclose(np.exp(found["ensemble"].logits), expected, rtol=1e-5)
