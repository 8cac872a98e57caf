"""What a study can find: against simulated studies, and the published tables of Student's non-central t."""

import math

import numpy as np
import pytest
from scipy import stats

from src.evidence import power
from src.evidence.comparisons import compare, pairs_of, sensitivity, spread_of
from src.evidence.power import Spread
from src.report import numbers, scaling_verdict
from tests.builders.report import scaling
from tests.builders.report import study as report_of

ARMS = ("baseline", "depth", "width", "resolution", "compound")
PAIRS = pairs_of(ARMS)
LEVEL = 0.05 / len(PAIRS)
DEVIATION = 0.003


def simulated(generator, *, gains=None, deviations=None, seeds=3):
    """Accuracies of arms that are `gains` better than 80 %, each seed with a luck of its own that all arms share."""
    shared = 0.004 * generator.standard_normal(seeds)
    own = {arm: DEVIATION * (deviations or {}).get(arm, 1) * generator.standard_normal(seeds) for arm in ARMS}
    return {arm: {s: 0.8 + (gains or {}).get(arm, 0) + shared[s] + own[arm][s] for s in range(seeds)} for arm in ARMS}


def alone(accuracies):
    """Whether compound - depth is settled where each pair has the deviation of its own seeds alone."""
    tests = [stats.ttest_rel(*(list(accuracies[arm].values()) for arm in pair)).pvalue for pair in PAIRS]
    order = np.argsort(tests)
    rejected = np.cumprod([tests[i] <= 0.05 / (len(tests) - step) for step, i in enumerate(order)])
    return bool(rejected[list(order).index(PAIRS.index(("compound", "depth")))])


def test_pooling_finds_in_nearly_all_studies_what_pairs_alone_find_in_a_quarter():
    """An arm that is better by five deviations of a seed."""
    generator, gains = np.random.default_rng(0), {"compound": 5 * DEVIATION}
    studies = [simulated(generator, gains=gains) for _ in range(200)]
    assert sum(compare(study, PAIRS)[0].settled for study in studies) / 200 >= 0.95
    assert sum(map(alone, studies)) / 200 <= 0.4


@pytest.mark.parametrize(
    ("deviations", "wrong"),
    [
        ({}, 0.05),
        pytest.param({"depth": 1.5}, 0.05, marks=pytest.mark.slow),
        ({"depth": 2}, 0.06),
        pytest.param({"baseline": 2}, 0.06, marks=pytest.mark.slow),
        pytest.param({"compound": 0.3}, 0.05, marks=pytest.mark.slow),
    ],
    ids=["equal", "one at 1.5", "one at 2", "the baseline at 2", "one at 0.3"],
)
def test_where_no_arm_differs_hardly_a_study_in_twenty_says_so_even_if_one_arm_varies_twice_as_much(deviations, wrong):
    generator = np.random.default_rng(1)
    found = [compare(simulated(generator, deviations=deviations), PAIRS) for _ in range(1000)]
    noise = 3 * math.sqrt(wrong * (1 - wrong) / 1000)
    assert sum(any(each.settled for each in study) for study in found) / 1000 <= wrong + noise


def test_power_is_the_share_of_simulated_studies_that_find_the_difference():
    generator, seeds, degrees, difference = np.random.default_rng(2), 5, 16, 2.4
    expected = power.power(difference, deviation=1.0, seeds=seeds, degrees=degrees, level=LEVEL)
    estimates = difference + math.sqrt(2 / seeds) * generator.standard_normal(20_000)
    spreads = np.sqrt(generator.chisquare(degrees, 20_000) / degrees)
    found = estimates > stats.t.isf(LEVEL / 2, degrees) * math.sqrt(2 / seeds) * spreads
    assert found.mean() == pytest.approx(expected, abs=0.01)
    assert 0.5 < expected < 0.9


def test_power_without_a_difference_is_half_the_level_and_far_away_it_is_certain():
    assert power.power(0, deviation=1.0, seeds=3, degrees=8, level=0.05) == pytest.approx(0.025)
    assert power.power(1e6, deviation=1.0, seeds=3, degrees=8, level=0.05) == 1


def test_the_seeds_that_are_named_find_the_difference_in_80_percent_of_studies_whatever_the_pilot_saw():
    """Pilots of four seeds; what they name is judged by the true deviation."""
    generator, reached = np.random.default_rng(3), []
    for _ in range(300):
        count = power.seeds_needed(0.005, spread_of(simulated(generator, seeds=4)), 4, LEVEL)
        degrees = 4 * (count - 1)
        reached.append(power.power(0.005, deviation=DEVIATION, seeds=count, degrees=degrees, level=LEVEL))
    assert np.mean(reached) >= power.POWER
    assert np.mean(np.array(reached) >= power.POWER) >= power.BOUND - 3 * math.sqrt(0.16 / 300)


def test_one_seed_fewer_than_named_would_not_do():
    spread = Spread(deviation=DEVIATION, degrees=12, arms=5)
    count = power.seeds_needed(0.005, spread, 4, LEVEL)
    below, at = (
        power.power(0.005, deviation=spread.upper, seeds=n, degrees=4 * (n - 1), level=LEVEL)
        for n in (count - 1, count)
    )
    assert below < 0.8 <= at


@pytest.mark.parametrize(("difference", "deviation", "seeds"), [(0.01, 0.003, 3), (0.0, 0.003, 4), (0.01, 0.0, 4)])
def test_no_number_of_seeds_is_named_below_four_nor_where_nothing_differs_or_spreads(difference, deviation, seeds):
    spread = Spread(deviation=deviation, degrees=4 * (seeds - 1), arms=5)
    assert power.seeds_needed(difference, spread, seeds, LEVEL) is None


def test_a_difference_that_ten_thousand_seeds_would_miss_has_no_number():
    spread = Spread(deviation=0.003, degrees=12, arms=5)
    assert power.seeds_needed(1e-5, spread, 4, LEVEL) is None
    assert power.seeds_needed(3e-4, spread, 4, LEVEL) > 1000


def test_the_upper_bound_of_the_deviation_holds_in_four_studies_of_five():
    generator = np.random.default_rng(4)
    spreads = [spread_of(simulated(generator)) for _ in range(1000)]
    held = sum(spread.upper >= DEVIATION for spread in spreads) / 1000
    assert held == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 1000))


def test_the_smallest_difference_that_is_settled_is_settled_and_a_smaller_one_need_not_be():
    accuracies = simulated(np.random.default_rng(5))
    found = sensitivity(accuracies, len(PAIRS))
    of_pair = compare(accuracies, PAIRS)[0].difference
    for share, settled in ((1.001, True), (0.999, False)):
        moved = {s: a - of_pair + share * found.settled for s, a in accuracies["compound"].items()}
        pair = compare(accuracies | {"compound": moved}, [("compound", "depth")] * len(PAIRS))[0]
        assert pair.difference == pytest.approx(share * found.settled)
        assert pair.settled == settled


def test_the_difference_that_is_found_in_80_percent_of_studies_is_larger_than_the_smallest_that_is_settled():
    found = sensitivity(simulated(np.random.default_rng(5)), len(PAIRS))
    assert found.found > found.settled > 0
    again = power.power(found.found, deviation=found.spread.upper, seeds=3, degrees=found.spread.degrees, level=LEVEL)
    assert again == pytest.approx(0.8, abs=1e-6)


def test_a_study_of_one_seed_or_of_no_comparison_can_settle_nothing():
    assert sensitivity(simulated(np.random.default_rng(6), seeds=1), len(PAIRS)) is None
    assert sensitivity(simulated(np.random.default_rng(6)), 0) is None


def test_the_report_says_the_assumption_and_the_smallest_difference_that_the_study_could_have_settled():
    found = scaling()
    expected = sensitivity(found.accuracies, len(PAIRS))
    text = scaling_verdict.reach(report_of(scaled=found)).replace(numbers.NARROW, " ")
    assert "pooled over 5 arms, 8 degrees of freedom" in text
    assert "as large in every arm" in text
    assert f"settled any difference from {100 * expected.settled:.1f} points on" in text
    assert f"a true one of {100 * expected.found:.1f} points in 80 % of studies" in text
    assert scaling_verdict.reach(report_of(scaled=scaling(seeds=(1,)))) == ""
