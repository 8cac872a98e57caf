"""The verdict's statistics: against scipy's paired t test, Holm's procedure worked by hand, and simulated studies."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from src.evidence.comparisons import Comparison, compare, pairs_of, seed_accuracies
from src.report import scaling
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


def family(*samples):
    """Arms 0, 1, ... that differ from arm "zero" by the samples."""
    accuracies = {str(i): dict(enumerate(map(float, sample))) for i, sample in enumerate(samples)}
    zero = dict.fromkeys(range(max(map(len, samples))), 0.0)
    return accuracies | {"zero": zero}, [(arm, "zero") for arm in accuracies]


def with_p_value(p_value, seeds=4):
    """Differences whose paired t test gives `p_value`."""
    spread = np.linspace(-0.01, 0.01, seeds)
    return spread + stats.t.isf(p_value / 2, seeds - 1) * spread.std(ddof=1) / math.sqrt(seeds)


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
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(confidence)), abs=1e-10)
    assert found.difference == pytest.approx(np.mean(differences) / 20_000, abs=1e-12)
    assert found.seeds == len(differences)


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
    accuracies, pairs = family(*map(with_p_value, (0.01, 0.04, 0.03, 0.005)))
    found = compare(accuracies, pairs)
    assert [comparison.p_value for comparison in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [comparison.settled for comparison in found] == [True, False, False, True]
    levels = [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4]
    for comparison, level, arm in zip(found, levels, "0123", strict=True):
        alone = stats.ttest_1samp(list(accuracies[arm].values()), 0).confidence_interval(1 - level)
        assert (comparison.low, comparison.high) == pytest.approx(tuple(alone))


def test_a_smaller_p_value_after_the_first_that_is_kept_rejects_nothing():
    accuracies, pairs = family(*map(with_p_value, (0.026, 0.045)))  # 0.045 <= 0.05, but 0.026 > 0.05 / 2
    assert not any(comparison.settled for comparison in compare(accuracies, pairs))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_an_interval_excludes_zero_exactly_where_holm_rejects(alpha):
    generator, seen = np.random.default_rng(0), set()
    for _ in range(150):
        samples = [generator.normal(generator.choice([0, 1, 3]), 1, generator.integers(2, 7)) for _ in range(7)]
        found = compare(*family(*samples), 1 - alpha)
        rejected = holm_rejects([stats.ttest_1samp(sample, 0).pvalue for sample in samples], alpha)
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


@given(differences=st.lists(st.integers(-100, 100), min_size=2, max_size=6), others=st.integers(0, 6))
def test_needed_is_the_first_number_of_seeds_whose_interval_excludes_zero(differences, others):
    sample = np.array(differences) / 1000
    assume(np.ptp(sample) > 0)
    # all others are further from being settled, so that the level is 0.05 / their number
    found = compare(*family(sample, *[[-1.0, 1.0]] * others))[0]
    mean, spread, level = abs(sample.mean()), sample.std(ddof=1), 0.05 / (others + 1)
    counts = np.arange(len(sample), 10_001)
    enough = counts[stats.t.ppf(1 - level / 2, counts - 1) * spread / np.sqrt(counts) < mean]
    if not len(enough) or enough[0] == len(sample) or sum(differences) == 0:
        assert found.needed is None
    else:
        assert found.needed == enough[0]
    assert found.settled == bool(len(enough) and enough[0] == len(sample))


def test_a_single_common_seed_has_a_difference_and_nothing_else():
    [found] = compare(pair(0.008), [("a", "b")])
    assert found == Comparison(
        arm="a", other="b", difference=pytest.approx(0.008), low=None, high=None, p_value=1, seeds=1, needed=None
    )
    assert sentence(found) == "a − b: +0.8 points from a single seed: not settled, an interval needs at least 2"


def test_a_pair_of_one_seed_counts_among_the_comparisons():
    accuracies, pairs = family(with_p_value(0.02), [0.3])
    assert compare(accuracies, pairs)[0].p_value == pytest.approx(0.04)


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


def test_few_images_and_seeds_which_agree_by_chance_settle_nothing():
    generator, pairs = np.random.default_rng(2), pairs_of(ARMS)
    studies = [compare(simulated(generator, dict.fromkeys(ARMS, 0.8), seeds=2, images=200), pairs) for _ in range(300)]
    agreed = sum(any(c.low == c.high != 0 for c in found) for found in studies)
    assert agreed > 30  # so it does happen, in more than 1 study of 10 where no arm differs
    assert sum(any(c.settled for c in found) for found in studies) <= 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)


def comparison(difference, low, high, needed=None):
    figures = {"difference": difference, "low": low, "high": high, "p_value": 0.5, "seeds": 3, "needed": needed}
    return Comparison(arm="compound", other="depth", **figures)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            comparison(0.008, -0.002, 0.018, 7),
            "+0.8 points, [−0.2, +1.8]: not settled by 3 seeds; about 7 would be needed",
        ),
        (comparison(0.021, 0.009, 0.033), "+2.1 points, [+0.9, +3.3]: compound is better"),
        (comparison(-0.021, -0.033, -0.009), "−2.1 points, [−3.3, −0.9]: depth is better"),
        (comparison(0.0, -0.01, 0.01), "0.0 points, [−1.0, +1.0]: not settled by 3 seeds"),
        (
            comparison(0.001, -0.1, 0.102, 1234),
            "+0.1 points, [−10.0, +10.2]: not settled by 3 seeds; about 1\u202f234 would be needed",
        ),
        (
            comparison(0.001, -0.499, 0.501),
            "+0.1 points, [−49.9, +50.1]: not settled by 3 seeds; more than 10\u202f000 would be needed",
        ),
        # a bound that the verdict rests on never reads as 0
        (comparison(0.0104, 0.0004, 0.0204), "+1.04 points, [+0.04, +2.04]: compound is better"),
        (comparison(-0.01, -0.01996, -0.00004), "−1.000 points, [−1.996, −0.004]: depth is better"),
        (
            comparison(0.01, -0.0004, 0.0204, 4),
            "+1.0 points, [−0.0, +2.0]: not settled by 3 seeds; about 4 would be needed",
        ),
    ],
)
def test_sentences_say_what_the_interval_bears(found, text):
    assert sentence(found) == f"compound − depth: {text}"


@given(st.lists(st.lists(st.integers(-100, 300), min_size=2, max_size=6), min_size=1, max_size=8))
def test_a_sentence_calls_an_arm_better_only_where_its_interval_says_so(samples):
    accuracies, pairs = family(*(np.array(sample) / 10_000 for sample in samples))
    for found in compare(accuracies, pairs):
        text = sentence(found)
        assert text.endswith(f": {found.arm} is better") == (0 < found.low < found.high)
        assert text.endswith(f": {found.other} is better") == (found.low < found.high < 0)
        assert ("not settled" in text) == (not found.settled)


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


def test_table_7_has_what_the_paper_says_of_it():
    rows = {row["arm"]: row for row in scaling.TABLE_7}
    assert tuple(rows) == ARMS
    scaled = [row for arm, row in rows.items() if arm != "baseline"]
    assert all(row["multiply_adds"] == pytest.approx(1.8, abs=0.11) for row in scaled)
    worst = min(rows[arm]["accuracy"] for arm in ("depth", "width", "resolution"))
    assert 0.02 < rows["compound"]["accuracy"] - worst <= 0.025  # "by up to 2.5%", section 6
