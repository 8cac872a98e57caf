"""What changed between two sides, against scipy's own tests and intervals."""

import numpy as np
import pytest
from scipy import stats

from src.evidence import changes
from src.evidence.changes import Scored, Sides


def scored(share: float, *, images: int = 300, seed: int = 0, ease: np.ndarray | None = None) -> Scored:
    """Answers that are right for about `share` of the images, more often where the image is easy."""
    generator = np.random.default_rng(seed)
    ease = generator.random(images) if ease is None else ease
    right = ease + generator.normal(0, 0.15, images) < share
    return Scored(right=right, losses=np.where(right, 0.1, 2.0) + generator.random(images))


EASE = np.random.default_rng(9).random(300)
FIRST, SECOND = scored(0.7, seed=1, ease=EASE), scored(0.8, seed=2, ease=EASE)


def newcombe(first: np.ndarray, second: np.ndarray, level: float) -> tuple[float, float]:
    """Newcombe's method 10, written down again from the paper on top of scipy's Wilson."""
    images = len(first)
    shares = [second.mean(), first.mean()]
    ends = [
        stats.binomtest(int(own.sum()), images).proportion_ci(1 - level, method="wilson") for own in (second, first)
    ]
    e, f, g, h = (
        int((a & b).sum()) for a, b in ((second, first), (second, ~first), (~second, first), (~second, ~first))
    )
    product = e * h - f * g
    phi = (max(product - images / 2, 0) if product > 0 else product) / np.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    lower = [shares[0] - ends[0].low, ends[1].high - shares[1]]
    upper = [ends[0].high - shares[0], shares[1] - ends[1].low]
    halves = [np.sqrt(a**2 - 2 * phi * a * b + b**2) for a, b in (lower, upper)]
    return shares[0] - shares[1] - halves[0], shares[0] - shares[1] + halves[1]


def test_one_training_on_each_side_is_judged_by_image() -> None:
    (found,) = changes.settle({"finetune": Sides(first={0: FIRST}, second={0: SECOND})}).values()
    only_first, only_second = int((FIRST.right & ~SECOND.right).sum()), int((SECOND.right & ~FIRST.right).sum())
    assert found.alone == (only_first, only_second)
    assert found.difference == pytest.approx((only_second - only_first) / 300)
    assert found.p_value == pytest.approx(stats.binomtest(only_second, only_first + only_second).pvalue)
    assert (found.low, found.high) == pytest.approx(newcombe(FIRST.right, SECOND.right, 0.05))
    assert (found.over, found.settled) == ("images", True)


def test_turned_round_a_change_has_the_other_sign_and_the_same_p() -> None:
    there, back = (
        changes.settle({0: Sides(first={0: one}, second={0: other})})[0]
        for one, other in ((FIRST, SECOND), (SECOND, FIRST))
    )
    assert (there.low, there.high, there.p_value) == pytest.approx((-back.high, -back.low, back.p_value))


def test_of_many_tests_each_gets_what_holm_leaves_it() -> None:
    others = {share: scored(share, seed=int(100 * share), ease=EASE) for share in (0.71, 0.75, 0.78, 0.85)}
    found = changes.settle({share: Sides(first={0: FIRST}, second={0: own}) for share, own in others.items()})
    raw = {}
    for share, own in others.items():
        lost, gained = int((FIRST.right & ~own.right).sum()), int((own.right & ~FIRST.right).sum())
        raw[share] = stats.binomtest(lost, lost + gained).pvalue
    largest, stopped = 0.0, False
    for place, share in enumerate(sorted(raw, key=raw.__getitem__)):
        largest = max(largest, (4 - place) * raw[share])
        assert found[share].p_value == pytest.approx(min(1, largest))
        level = found[share].level if stopped else 0.05 / (4 - place)
        stopped = stopped or raw[share] > level
        assert found[share].level == pytest.approx(level)
        assert (found[share].low, found[share].high) == pytest.approx(newcombe(FIRST.right, others[share].right, level))


def by_seed(values: dict[int, float]) -> dict[int, Scored]:
    """Trainings of these accuracies over 1 000 images."""
    count = {seed: round(1000 * value) for seed, value in values.items()}
    return {seed: Scored(right=np.arange(1000) < n, losses=np.ones(1000)) for seed, n in count.items()}


def test_the_same_seeds_on_both_sides_are_paired() -> None:
    first, second = {0: 0.90, 1: 0.92, 2: 0.91}, {2: 0.93, 0: 0.91, 1: 0.935}
    (found,) = changes.settle({0: Sides(first=by_seed(first), second=by_seed(second))}).values()
    paired = stats.ttest_rel([second[seed] for seed in first], list(first.values()))
    assert found.p_value == pytest.approx(paired.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(paired.confidence_interval()))
    assert (found.over, found.alone) == ("seeds", None)


def test_other_seeds_are_pooled_even_against_one_alone() -> None:
    for first, second in (({0: 0.90, 1: 0.92, 2: 0.91}, {5: 0.93, 6: 0.95}), ({0: 0.9}, {1: 0.91, 2: 0.93, 3: 0.92})):
        (found,) = changes.settle({0: Sides(first=by_seed(first), second=by_seed(second))}).values()
        first_values, second_values = list(first.values()), list(second.values())
        if len(first) > 1:
            pooled = stats.ttest_ind(second_values, first_values)
            assert found.p_value == pytest.approx(pooled.pvalue)
            assert (found.low, found.high) == pytest.approx(tuple(pooled.confidence_interval()))
        else:  # the interval of one more draw, which scipy's test has no word for
            half = stats.t.ppf(0.975, 2) * np.std(second_values, ddof=1) * np.sqrt(1 + 1 / 3)
            assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))


def test_seeds_without_spread_or_too_few_settle_nothing() -> None:
    same = Sides(first=by_seed({0: 0.9, 1: 0.9}), second=by_seed({0: 0.91, 1: 0.91}))
    change = changes.settle({0: same})[0]
    assert (change.low, change.p_value, change.over, change.settled) == (None, None, "", False)
    assert change.difference == pytest.approx(0.01)


def test_a_loss_has_an_interval_of_its_mean_difference_and_no_p() -> None:
    change = changes.settle({0: Sides(first={0: FIRST}, second={0: SECOND}, score="loss")})[0]
    own = SECOND.losses - FIRST.losses
    assert change.difference == pytest.approx(own.mean())
    assert change.p_value is None
    half = stats.t.ppf(0.975, 299) * own.std(ddof=1) / np.sqrt(300)
    assert (change.low, change.high) == pytest.approx((own.mean() - half, own.mean() + half), abs=0.1 * half)


def test_mean_and_interval_over_seeds_are_students() -> None:
    values = [0.91, 0.93, 0.90, 0.95]
    mean, spread, low, high = changes.mean_over_seeds(values)
    assert (mean, spread) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values)))


def test_no_interval_over_seeds_reaches_beyond_what_an_accuracy_can_be() -> None:
    assert changes.mean_over_seeds([0.98, 1.0])[3] == 1
    assert changes.mean_over_seeds([0.0, 0.02])[2] == 0
    right = np.ones(10, dtype=bool)
    runs = [Scored(right=right & (np.arange(10) >= wrong), losses=np.zeros(10)) for wrong in (0, 1, 9, 8)]
    change = Sides(first={0: runs[0], 1: runs[1]}, second={0: runs[2], 1: runs[3]}).change(level=1e-4)
    assert change.low == -1


def test_logits_are_scored_image_by_image() -> None:
    logits, labels = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])
    found = changes.scored(logits, labels)
    assert found.right.tolist() == [True, True, False]
    assert found.losses == pytest.approx([np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), 3 + np.log1p(np.exp(-3))])
    assert (found.mean("accuracy"), found.mean("loss")) == pytest.approx((2 / 3, found.losses.mean()))
