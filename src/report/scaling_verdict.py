"""What the scaling study found, in sentences that claim no more than its intervals bear."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from src.evidence import comparisons
from src.evidence.comparisons import Comparison
from src.evidence.power import FEWEST_SEEDS, MOST_SEEDS
from src.report.numbers import MINUS, NARROW, count, listed, points
from src.report.scaling_training import failed, failures
from src.report.study import Study

AXES = ("depth", "width", "resolution")
CONDITIONS = {
    "multiply_adds": "At equal multiply-adds",
    "paper": "At the multipliers of the paper's Table 7",
    "phi": "With all of α, β and γ to one power (φ), and so at unequal cost",
}


def verdict(study: Study) -> str:
    """What the seeds settle, in plain sentences; empty where no two arms can be compared."""
    found = compared(study)
    axes = [each for each in found if each.other in AXES]
    unscaled = [each for each in found if each.other == "baseline"]
    sentences = []
    if axes:
        sentences.append(f"{CONDITIONS[study.settings['scaling_ablation'].match]}, {_against_axes(axes)}.")
    if unscaled:
        sentences.append(f"Against the unscaled baseline, {_against_baseline(unscaled)}.")
    return " ".join(filter(None, [*sentences, _twins(study), failures(study)]))


def compared(study: Study) -> list[Comparison]:
    """Of the arms that trained, and of no network with itself."""
    accuracies = _trained(study)
    pairs = comparisons.pairs_of(list(accuracies))
    others = [pair for pair in pairs if not _same_network(study, *pair)]
    return comparisons.compare(accuracies, others, pooled=_distinct(study))


def _distinct(study: Study) -> list[str]:
    """The arms that trained, of those that are the same network the first: it counts once for what chance does."""
    found: list[str] = []
    for arm in _trained(study):
        if not any(_same_network(study, arm, other) for other in found):
            found.append(arm)
    return found


def _same_network(study: Study, one: str, other: str) -> bool:
    """By all that is counted of it, trained alike: after rounding, another multiplier may give the same."""
    first, second = (study.scaling.metrics[arm] for arm in (one, other))
    counted = ("resolution", "parameters", "activations", "multiply_adds")
    return all(first[key] == second[key] for key in counted) and _own(study, one) == _own(study, other)


def _twins(study: Study) -> str:
    """Which arms came out as the same network; empty where none did."""
    pairs = [pair for pair in comparisons.pairs_of(study.scaling.arms) if _same_network(study, *pair)]
    said = [f"{arm} and {other} are the same network after rounding, and are not compared" for arm, other in pairs]
    return f"{'; '.join(said)}." if said else ""


def _trained(study: Study) -> dict[str, Mapping[int, float]]:
    """Accuracies of the arms that trained."""
    lost = failed(study)
    return {arm: accuracies for arm, accuracies in study.scaling.accuracies.items() if arm not in lost}


def _against_axes(found: Sequence[Comparison]) -> str:
    better, worse, unsettled = _outcomes(found)
    clauses = []
    if better:
        clauses.append(f"compound scaling did better on test than {listed(each.other for each in better)} alone")
    if worse:
        subject = "it" if better else "compound scaling"
        clauses.append(f"{subject} did worse on test than {listed(each.other for each in worse)} alone")
    if unsettled:
        names = f"{listed((each.other for each in unsettled), 'or')} alone"
        question = f"it against {names}" if clauses else f"whether compound scaling does better on test than {names}"
        clauses.append(f"{_seeds_do_not(unsettled)} settle {question}")
    return "; ".join(clauses)


def _against_baseline(found: Sequence[Comparison]) -> str:
    better, worse, unsettled = _outcomes(found)
    clauses = [
        f"{listed(each.arm for each in group)} did {outcome} on test"
        for outcome, group in (("better", better), ("worse", worse))
        if group
    ]
    if unsettled:
        names = listed((each.arm for each in unsettled), "or")
        clauses.append(f"{_seeds_do_not(unsettled)} settle {'the matter ' if not clauses else 'it '}for {names}")
    return "; ".join(clauses)


def _outcomes(found: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison], list[Comparison]]:
    """Those that are better, those that are worse, and those that are not settled."""
    settled = [each for each in found if each.settled]
    better = [each for each in settled if each.difference > 0]
    return better, [each for each in settled if each not in better], [each for each in found if not each.settled]


def _seeds_do_not(found: Sequence[Comparison]) -> str:
    numbers = {each.seeds for each in found}
    if len(numbers) > 1:
        return "the seeds do not"
    return "one seed does not" if numbers == {1} else f"{count(*numbers)} seeds do not"


def own_settings(study: Study) -> str:
    """Which arms were trained otherwise than the rest."""
    own = {}
    for arm in study.scaling.arms:
        if values := _own(study, arm):
            own[arm] = ", ".join(f"{key} {value:g}" for key, value in values.items())
    if not own:
        return ""
    return f"Not all arms were trained alike: {'; '.join(f'{arm} with {values}' for arm, values in own.items())}."


def _own(study: Study, arm: str) -> dict[str, float]:
    """Settings of its own, without the name of its network."""
    values = asdict(study.settings["scaling_arms"][arm])
    return {key: value for key, value in values.items() if key != "name" and value is not None}


def sentence(comparison: Comparison) -> str:
    """The difference in percentage points, with what the seeds settle; one arm is called better only if `settled`."""
    low, high, seeds = comparison.low, comparison.high, comparison.seeds
    start = f"{comparison.arm} {MINUS} {comparison.other}:"
    if low is None or high is None:
        amount = points(comparison.difference)
        return f"{start} {amount} points from a single seed: not settled, an interval needs at least 2"
    if low == high:
        amount = points(comparison.difference)
        return f"{start} {amount} points with each of {seeds} seeds: not settled, without spread there is no interval"
    # so many decimals that a bound which is not 0 does not read as 0 where the verdict rests on it
    digits = 1 - min(0, math.floor(math.log10(1000 * min(abs(low), abs(high))))) if comparison.settled else 1
    difference, *bounds = (points(value, digits) for value in (comparison.difference, low, high))
    if comparison.settled:
        verdict = f"{comparison.arm if low > 0 else comparison.other} is better"
    else:
        verdict = f"not settled by {seeds} seeds{_prospect(comparison)}"
    return f"{start} {difference} points, [{', '.join(bounds)}]: {verdict}"


def _prospect(comparison: Comparison) -> str:
    if comparison.seeds < FEWEST_SEEDS or not comparison.difference:
        return ""
    needed = f"more than {count(MOST_SEEDS)}" if comparison.needed is None else count(comparison.needed)
    return f"; {needed} would find a difference of this size in 80{NARROW}% of studies"


def reach(study: Study) -> str:
    """What the study could have settled, and what that takes for granted; empty where nothing can be said."""
    trained = _trained(study)
    found = comparisons.sensitivity({arm: trained[arm] for arm in _distinct(study)}, len(compared(study)))
    if found is None:
        return ""
    spread = found.spread
    finds = f"would find a true one of {100 * found.found:.1f} points in 80{NARROW}% of studies"
    if found.found > 1:
        finds = f"could find none in 80{NARROW}% of studies"
    return (
        f"From seed to seed an arm's test accuracy varies by {100 * spread.deviation:.2f} points (standard deviation), "
        f"beyond what a seed does to all arms alike: pooled over {spread.arms} arms, {spread.degrees} degrees of "
        f"freedom, which takes it to be normal and as large in every arm. {count(found.seeds)} seeds would have "
        f"settled any difference from {100 * found.settled:.1f} points on, and {finds}."
    )
