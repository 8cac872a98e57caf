"""What the scaling study found, in sentences that claim no more than its intervals bear."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from src import comparisons, statistics
from src.comparisons import MINUS, Comparison
from src.findings import Study, count, interval
from src.scaling import PAPER

AXES = ("depth", "width", "resolution")
CONDITIONS = {
    "multiply_adds": "At equal multiply-adds",
    "paper": "At the multipliers of the paper's Table 7",
    "phi": "At one exponent φ, and so at unequal cost",
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
    return " ".join(sentences)


def compared(study: Study) -> list[Comparison]:
    return comparisons.compare(study.scaling.accuracies, comparisons.pairs_of(study.scaling.arms))


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


def listed(names: Iterable[str], word: str = "and") -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else str(last)


def own_settings(study: Study) -> str:
    """Which arms were trained otherwise than the rest."""
    own = {}
    for arm in study.scaling.arms:
        values = {key: value for key, value in asdict(study.settings["scaling_arms"][arm]).items() if value is not None}
        if values:
            own[arm] = ", ".join(f"{key} {value:g}" for key, value in values.items())
    if not own:
        return ""
    return f"Not all arms were trained alike: {'; '.join(f'{arm} with {values}' for arm, values in own.items())}."


def searched(study: Study) -> str:
    """What the search did, what it chose, and how little that may mean."""
    found, epochs = study.scaling.search, study.settings["scaling_search"].epochs
    number = found["candidates"]
    grid = f"{count(number)} network{'' if number == 1 else 's'} with α · β² · γ² near 2"
    paper = f"α {PAPER.alpha:g}, β {PAPER.beta:g}, γ {PAPER.gamma:g}"
    if "val" not in found:
        return f"{grid}, none of them trained (scaling_search.epochs is 0): the study takes the paper's {paper}."
    chosen = f"α {found['alpha']:g}, β {found['beta']:g}, γ {found['gamma']:g}"
    images = study.metrics["download"]["val"]["images"]
    low, high = statistics.wilson_interval(round(found["val"]["accuracy"] * images), images)
    best = {"accuracy": found["val"]["accuracy"], "low": low, "high": high}
    near = int((study.scaling.candidates["val_accuracy"] >= low).sum()) - 1
    reach = "reaches" if near == 1 else "reach"
    doubt = f"; {count(near)} of the others {reach} into that interval, so which is best is not settled" if near else ""
    return (
        f"{grid}, each trained once for {count(epochs)} epoch{'' if epochs == 1 else 's'} and judged on validation "
        f"images alone: {chosen} reached {interval(best)}{doubt}. The paper chose {paper}."
    )


def digits(number: float) -> str:
    """Three significant ones, a whole number from 100 on, nothing for nan."""
    if math.isnan(number):
        return ""
    return (count(round(number)) if abs(number) >= 100 else f"{number:#.3g}").replace("-", MINUS)


def points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", MINUS)
