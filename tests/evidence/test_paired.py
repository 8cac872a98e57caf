"""Differences on the same images, against published examples, other implementations and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom

from src.evidence import paired
from src.evidence.fronts import pareto


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        ((36, 12, 2, 0), 0.0569, 0.3404),  # Newcombe, Statistics in Medicine 17 (1998), pp. 2635-2650
        ((1, 1, 7, 12), -0.507, -0.026),  # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875
    ],
)
def test_the_interval_is_the_published_one(table: tuple[int, int, int, int], low: float, high: float) -> None:
    places = len(str(high).partition(".")[2])
    assert tuple(round(end, places) for end in paired.interval(*table)) == (low, high)


def test_mcnemars_p_is_the_published_one_and_twice_the_tail_of_a_fair_coin() -> None:
    assert round(paired.mcnemar(1, 7), 4) == 0.0703  # the same table in BMC Med. Res. Methodol. 13:91
    for first, second in ((0, 0), (0, 5), (3, 3), (12, 2), (40, 61)):
        tail = binom.cdf(min(first, second), first + second, 0.5)
        assert paired.mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
        assert paired.mcnemar(first, second) == paired.mcnemar(second, first)


def test_the_interval_turns_with_its_sides_and_holds_the_difference() -> None:
    for table in ((50, 10, 4, 36), (0, 5, 0, 0), (0, 0, 0, 7), (9, 0, 0, 0), (3, 4, 5, 0)):
        both, first, second, neither = table
        low, high = paired.interval(*table)
        other_low, other_high = paired.interval(both, second, first, neither)
        assert (low, high) == pytest.approx((-other_high, -other_low))
        assert -1 <= low <= (first - second) / sum(table) <= high <= 1


def test_the_interval_covers_the_difference_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    shares = np.array([0.55, 0.12, 0.06, 0.27])
    drawn = generator.multinomial(200, shares, size=2000)
    bounds = np.array([paired.interval(*map(int, row)) for row in drawn])
    covered = ((bounds[:, 0] <= 0.06) & (bounds[:, 1] >= 0.06)).mean()
    assert 0.94 <= covered <= 0.97


def answers(images: int, shares: dict[str, float], seed: int = 0) -> dict[str, np.ndarray]:
    """Who is right where, each on its own."""
    generator = np.random.default_rng(seed)
    return {name: generator.random(images) < share for name, share in shares.items()}


def test_every_pair_is_compared_and_p_is_holms_of_all() -> None:
    right = answers(500, {"a": 0.9, "b": 0.8, "c": 0.79, "d": 0.5})
    found = paired.compare(right)
    assert [(each.first, each.second) for each in found] == list(combinations(right, 2))
    raw = np.array([paired.mcnemar(*each.alone) for each in found])
    order = raw.argsort()
    by_hand = np.empty(6)
    by_hand[order] = np.minimum(1, np.maximum.accumulate(raw[order] * np.arange(6, 0, -1)))
    assert [each.p_value for each in found] == pytest.approx(by_hand.tolist())
    assert {(each.first, each.second) for each in found if not each.settled} == {("b", "c")}


def test_classifiers_that_are_equally_good_are_told_apart_in_one_study_of_twenty_at_most() -> None:
    equal = {"a": 0.8, "b": 0.8, "c": 0.8}
    wrong = [any(each.settled for each in paired.compare(answers(200, equal, seed))) for seed in range(400)]
    assert np.mean(wrong) <= 0.05


def test_the_same_answers_differ_in_nothing() -> None:
    right = answers(50, {"a": 0.7})["a"]
    (found,) = paired.compare({"a": right, "b": right})
    assert (found.difference, found.p_value, found.settled) == (0.0, 1.0, False)
    assert found.low <= 0 <= found.high


def test_other_images_and_none_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^paired\.compare: images a 3, b 4; allowed: the same, and at least one"):
        paired.compare({"a": np.ones(3, bool), "b": np.ones(4, bool)})
    with pytest.raises(ValueError, match=r"images a 0, b 0"):
        paired.compare({"a": np.ones(0, bool), "b": np.ones(0, bool)})


def test_one_classifier_is_compared_with_nothing() -> None:
    assert paired.compare({"a": np.ones(3, bool)}) == []
    assert paired.compare({}) == []


def test_the_front_is_what_nothing_as_cheap_beats() -> None:
    gains = {"a": 0.5, "b": 0.7, "c": 0.6, "d": 0.7, "e": 0.9, "f": 0.4}
    costs = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0, "e": 9.0, "f": 1.0}
    front = pareto(gains, costs)
    by_hand = [
        name
        for name in gains
        if not any(costs[o] <= costs[name] and gains[o] >= gains[name] for o in gains if o != name)
    ]
    assert front == by_hand == ["a", "b", "e"]
    assert pareto({}, {}) == []
