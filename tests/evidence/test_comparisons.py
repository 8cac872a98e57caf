"""The verdict's statistics: against scipy's t tests, Holm's procedure worked by hand, and simulated studies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from src.evidence.comparisons import Comparison, compare, pairs_of, seed_accuracies, spread_of
from src.report.scaling_verdict import sentence
from src.training import metrics

ARMS = ("baseline", "depth", "width", "resolution", "compound")


def pair(*differences):
    """Two arms whose accuracies differ by these, seed by seed."""
    first = [0.1 + 0.07 * seed for seed in range(len(differences))]
    return {
        "a": {seed: base + more for seed, (base, more) in enumerate(zip(first, differences, strict=True))},
        "b": dict(enumerate(first)),
    }


def chance(arms, seeds, generator):
    """A table of arms and seeds in which no arm and no seed is better than another."""
    table = generator.standard_normal((arms, seeds))
    return table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()


def study(table):
    """Arms 0, 1, ... and "zero", the last row, to be compared with it; the pooled t test of each, by hand."""
    arms, seeds = table.shape
    names = [*map(str, range(arms - 1)), "zero"]
    accuracies = {name: dict(enumerate(map(float, row))) for name, row in zip(names, table, strict=True)}
    left = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    degrees = (arms - 1) * (seeds - 1)
    error = math.sqrt((left**2).sum() / degrees * 2 / seeds)
    means = (table - table[-1]).mean(1)[:-1]
    return accuracies, [(name, "zero") for name in names[:-1]], stats.t(degrees, loc=means, scale=error)


def with_p_values(*p_values, seeds=4):
    """A study whose arms differ from "zero" by as much as has these p-values."""
    table = chance(len(p_values) + 1, seeds, np.random.default_rng(0)) / 100
    degrees = len(p_values) * (seeds - 1)
    error = math.sqrt((table**2).sum() / degrees * 2 / seeds)
    return study(table + error * np.array([*(stats.t.isf(p / 2, degrees) for p in p_values), 0])[:, None])


def holm_rejects(p_values, alpha):
    """Holm's steps, one after another."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def simulated(generator, means, *, seeds=3, images=10_000):
    """Accuracies of `means` after training with chance in each seed, in each arm and seed, and in whole images."""
    shared = 0.004 * generator.standard_normal(seeds)
    return {
        arm: {
            s: round((mean + shared[s] + 0.003 * generator.standard_normal()) * images) / images for s in range(seeds)
        }
        for arm, mean in means.items()
    }


@given(
    differences=st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=12),
    confidence=st.sampled_from([0.8, 0.95, 0.999]),
)
def test_a_single_pair_has_scipys_paired_t_test_and_interval(differences, confidence):
    assume(np.ptp(differences) > 0)
    accuracies = pair(*(difference / 20_000 for difference in differences))
    [found] = compare(accuracies, [("a", "b")], confidence)
    expected = stats.ttest_rel(list(accuracies["a"].values()), list(accuracies["b"].values()))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    interval = np.clip(expected.confidence_interval(confidence), -1, 1)  # no difference is larger
    assert (found.low, found.high) == pytest.approx(tuple(interval), abs=1e-10)
    assert found.difference == pytest.approx(np.mean(differences) / 20_000, abs=1e-12)
    assert found.seeds == len(differences)


def test_the_chance_in_training_is_pooled_over_all_arms_also_those_that_no_pair_names():
    table = np.random.default_rng(3).normal(0.8, 0.01, (5, 3))
    accuracies, pairs, by_hand = study(table)
    spread = spread_of(accuracies)
    left = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    assert (spread.degrees, spread.arms) == (8, 5)
    assert spread.deviation == pytest.approx(math.sqrt((left**2).sum() / 8))
    [found] = compare(accuracies, pairs[:1])
    assert (found.low, found.high) == pytest.approx((by_hand.ppf(0.025)[0], by_hand.ppf(0.975)[0]))
    assert found.p_value == pytest.approx(2 * min(by_hand.cdf(0)[0], by_hand.sf(0)[0]), rel=1e-6)


def test_what_seeds_do_to_all_arms_alike_and_how_good_arms_are_is_no_chance():
    table = chance(5, 3, np.random.default_rng(4)) / 100
    moved = table + np.array([0.1, 0.5, 0.3, 0.2, 0.9])[:, None] + np.array([0.05, -0.05, 0.01])
    assert spread_of(study(moved)[0]).deviation == pytest.approx(spread_of(study(table)[0]).deviation)


def test_an_arm_that_lacks_a_seed_costs_one_degree_of_freedom():
    accuracies, _, _ = study(np.random.default_rng(5).normal(0.8, 0.01, (5, 3)))
    del accuracies["2"][1]
    assert spread_of(accuracies).degrees == 7
    assert spread_of({"a": {0: 0.5, 1: 0.6}}).degrees == 0


def test_seeds_are_paired_by_number_and_those_of_one_arm_alone_are_left_out():
    accuracies = {"a": {2: 0.7, 0: 0.5, 1: 0.6, 7: 0.1}, "b": {0: 0.4, 1: 0.52, 2: 0.61, 9: 0.9}}
    [found] = compare(accuracies, [("a", "b")])
    expected = stats.ttest_rel([0.5, 0.6, 0.7], [0.4, 0.52, 0.61]).confidence_interval()
    assert found.seeds == 3
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_arms_without_a_common_seed_are_refused():
    with pytest.raises(ValueError, match="a has seeds 0, 1 and b 2; allowed: at least one in common"):
        compare({"a": {0: 0.5, 1: 0.6}, "b": {2: 0.5}}, [("a", "b")])


def test_a_certain_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence 1; allowed: between 0 and 1"):
        compare(pair(0.1, 0.2), [("a", "b")], 1)


def test_no_pairs_make_no_comparisons():
    assert compare({"depth": {0: 0.5}}, pairs_of(["depth"])) == []


def test_p_values_and_levels_are_those_of_an_example_worked_by_hand():
    # 0.005 <= 0.05 / 4 and 0.01 <= 0.05 / 3 are rejected; 0.03 > 0.05 / 2 is not, nor is 0.04, after it
    accuracies, pairs, by_hand = with_p_values(0.01, 0.04, 0.03, 0.005)
    found = compare(accuracies, pairs)
    assert [comparison.p_value for comparison in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [comparison.settled for comparison in found] == [True, False, False, True]
    levels = np.array([0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4])
    assert [comparison.low for comparison in found] == pytest.approx(by_hand.ppf(levels / 2))
    assert [comparison.high for comparison in found] == pytest.approx(by_hand.isf(levels / 2))


def test_a_smaller_p_value_after_the_first_that_is_kept_rejects_nothing():
    accuracies, pairs, _ = with_p_values(0.026, 0.045)  # 0.045 <= 0.05, but 0.026 > 0.05 / 2
    assert not any(comparison.settled for comparison in compare(accuracies, pairs))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_an_interval_excludes_zero_exactly_where_holm_rejects(alpha):
    generator, seen = np.random.default_rng(0), set()
    for _ in range(150):
        means = generator.choice([0, 0.03, 0.06], 8)[:, None]
        accuracies, pairs, by_hand = study(means + 0.02 * generator.standard_normal((8, generator.integers(2, 7))))
        found = compare(accuracies, pairs, 1 - alpha)
        rejected = holm_rejects(2 * np.minimum(by_hand.cdf(0), by_hand.sf(0)), alpha)
        assert [not comparison.low <= 0 <= comparison.high for comparison in found] == rejected
        assert [comparison.p_value <= alpha for comparison in found] == rejected
        assert [comparison.settled for comparison in found] == rejected
        seen.add(sum(rejected))
    assert len(seen) >= 4  # none, some, many


def test_arms_that_do_not_differ_are_told_apart_in_one_study_of_twenty_at_most():
    generator, pairs, corrected, uncorrected = np.random.default_rng(0), pairs_of(ARMS), 0, 0
    for _ in range(2000):
        found = compare(simulated(generator, dict.fromkeys(ARMS, 0.8)), pairs)
        corrected += any(comparison.settled for comparison in found)
        uncorrected += min(comparison.p_value for comparison in found) / len(pairs) <= 0.05
    noise = 3 * math.sqrt(0.05 * 0.95 / 2000)
    assert 0.01 < corrected / 2000 <= 0.05 + noise
    assert uncorrected / 2000 > 0.05 + noise


def test_no_wrong_difference_and_no_wrong_sign_in_nineteen_studies_of_twenty_when_some_arms_differ():
    generator, pairs = np.random.default_rng(1), pairs_of(ARMS)
    means = {"baseline": 0.8, "depth": 0.8, "width": 0.8, "resolution": 0.81, "compound": 0.86}
    wrong = missed = 0
    for _ in range(1000):
        found = compare(simulated(generator, means), pairs)
        truths = [means[c.arm] - means[c.other] for c in found]
        wrong += any(c.settled and c.difference * truth <= 0 for c, truth in zip(found, truths, strict=True))
        missed += not found[0].low <= truths[0] <= found[0].high
    noise = 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert wrong / 1000 <= 0.05 + noise
    assert missed / 1000 <= 0.05 + noise  # one interval covers its own difference


def test_a_single_common_seed_has_a_difference_and_nothing_else():
    [found] = compare(pair(0.008), [("a", "b")])
    assert found == Comparison(
        arm="a", other="b", difference=pytest.approx(0.008), low=None, high=None, p_value=1, seeds=1, needed=None
    )
    assert sentence(found) == "a − b: +0.8 points from a single seed: not settled, an interval needs at least 2"


def test_a_pair_of_one_seed_counts_among_the_comparisons():
    accuracies, pairs, _ = with_p_values(0.02)
    accuracies["single"] = {0: 0.3}
    assert compare(accuracies, [*pairs, ("single", "zero")])[0].p_value == pytest.approx(0.04)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("difference", "p_value", "text"), [(0.02, 0, "+2.0"), (-0.3, 0, "−30.0"), (0, 1, "0.0")])
def test_differences_without_spread_make_a_point_that_settles_nothing(seeds, difference, p_value, text):
    [found] = compare(pair(*[difference] * seeds), [("a", "b")])  # equal but for rounding
    assert found.low == found.high == found.difference == pytest.approx(difference, abs=1e-12)
    assert (found.p_value, found.seeds, found.needed) == (p_value, seeds, None)
    assert not found.settled
    assert sentence(found) == (
        f"a − b: {text} points with each of {seeds} seeds: not settled, without spread there is no interval"
    )


def test_a_difference_that_only_rounding_made_is_none():
    [found] = compare(pair(0.2, 0.01, -0.21), [("a", "b")])
    assert (found.difference, found.p_value, found.needed) == (0, pytest.approx(1), None)
    assert sentence(found).startswith("a − b: 0.0 points, [")
    assert sentence(found).endswith("not settled by 3 seeds")


def test_no_interval_reaches_beyond_what_a_difference_can_be():
    [found] = compare(pair(-0.5, 0.53), [("a", "b")])  # two seeds: Student's t is 12.7
    assert (found.low, found.high) == (-1, 1)
    assert sentence(found).startswith("a − b: +1.5 points, [−100.0, +100.0]: not settled")


def test_what_the_seeds_of_one_pair_agree_on_by_chance_settles_nothing():
    generator, pairs = np.random.default_rng(2), pairs_of(ARMS)
    studies = [simulated(generator, dict.fromkeys(ARMS, 0.8), seeds=2, images=200) for _ in range(300)]
    agreed = [any(len({of[a][s] - of[b][s] for s in (0, 1)}) == 1 for a, b in pairs) for of in studies]
    assert sum(agreed) > 30  # so it does happen, in more than 1 study of 10
    assert sum(any(c.settled for c in compare(of, pairs)) for of in studies) <= 0.05 * 300 + 3 * math.sqrt(14.25)


def test_seed_accuracies_are_what_training_scored_on_that_split():
    generator = torch.Generator().manual_seed(0)
    labels = {"train": torch.zeros(0).long()} | {
        split: torch.randint(3, (images,), generator=generator) for split, images in (("val", 30), ("test", 50))
    }
    logits = {
        f"seed {seed}": {split: torch.randn(len(rows), 3, generator=generator) for split, rows in labels.items()}
        for seed in (0, 1, 12)
    }
    predictions = metrics.collect_predictions(logits, labels, ("a", "b", "c"))
    for split in ("val", "test"):
        scores = {seed: metrics.score(logits[f"seed {seed}"][split], labels[split]) for seed in (0, 1, 12)}
        assert seed_accuracies(predictions, split) == {seed: score["accuracy"] for seed, score in scores.items()}
    assert seed_accuracies(predictions) == seed_accuracies(predictions, "test")
    with pytest.raises(ValueError, match="no images of train"):
        seed_accuracies(predictions, "train")


def test_pairs_are_compound_against_each_axis_and_every_arm_against_the_baseline():
    axes = [("compound", "depth"), ("compound", "width"), ("compound", "resolution")]
    others = ["depth", "width", "resolution", "compound", "resnet50"]
    assert pairs_of([*ARMS, "resnet50"]) == axes + [(arm, "baseline") for arm in others]


@pytest.mark.parametrize(
    ("arms", "pairs"),
    [
        ([], []),
        (["baseline"], []),
        (["depth", "width", "small_cnn"], []),
        (["compound", "width"], [("compound", "width")]),
        (["small_cnn", "baseline", "compound"], [("small_cnn", "baseline"), ("compound", "baseline")]),
    ],
)
def test_pairs_are_of_arms_that_are_there(arms, pairs):
    assert pairs_of(arms) == pairs
