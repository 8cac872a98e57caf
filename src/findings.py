"""What a study found, in sentences that claim no more than its numbers bear, and how the report writes numbers.

N images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src import statistics
from src.scaling_results import ScalingResults

LABELS = {
    "untrained": "Untrained head",
    "nearest_mean": "Nearest class mean",
    "nearest_neighbours": "Nearest neighbours",
    "frozen": "Trained head, frozen backbone",
    "finetuned": "Fine-tuned network",
}
TRAINED = ("frozen", "finetuned")
NARROW = "\u202f"  # a narrow space that does not break


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that the stages left.

    Attributes:
        settings: params by section; a section is a dataclass, a mapping of names to dataclasses, or a plain value.
        metrics: metrics/<stage>.json by stage.
        records: data/runs/<stage>.json by stage, in the order in which stages run.
        answers: the classes that each method named.
        best_head: models/best_head.json.
        frozen_curve, finetuned_curve, trials, trial_curves, importances: the tables in plots/.
        scaling: what the scaling study left.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, Mapping[str, Any]]
    answers: statistics.Answers
    best_head: Mapping[str, Any]
    frozen_curve: pd.DataFrame
    finetuned_curve: pd.DataFrame
    trials: pd.DataFrame
    trial_curves: pd.DataFrame
    importances: pd.DataFrame
    scaling: ScalingResults


def answer(accuracies: pd.DataFrame, chance: float) -> str:
    """What fine-tuning brought on test, in one sentence that claims a difference only where the intervals part."""
    frozen, tuned = (on_test(accuracies, method) for method in TRAINED)
    gain = tuned["accuracy"] - frozen["accuracy"]
    reached = f"{interval(tuned)} on {count(tuned['images'])} test images"
    other = f"the frozen backbone with the same head ({interval(frozen)})"
    amount = f"{100 * abs(gain):.1f} points {'above' if gain > 0 else 'below'} {other}"
    if gain == 0:
        sentence = f"Fine-tuning made no difference: it reached {reached}, as many as {other}"
    elif statistics.intervals_overlap(frozen, tuned):
        sentence = f"Fine-tuning made no clear difference: it reached {reached}, {amount}, but the intervals overlap"
    elif gain > 0:
        sentence = f"Fine-tuning reached {reached}, {amount}"
    else:
        sentence = f"Fine-tuning did harm: it reached {reached}, {amount}"
    doubt = "" if tuned["low"] > chance else ", within its interval" if tuned["high"] >= chance else ", more than that"
    return f"{sentence}; chance is {percent(chance)}{doubt}."


def facts(study: Study) -> str:
    """What ran on what, in one line."""
    download, records = study.metrics["download"], study.records.values()
    images = sum(download[split]["images"] for split in ("train", "val", "test"))
    devices = dict.fromkeys(record["device"] for record in records if "device" in record)
    return (
        f"{study.settings['backbone'].name} at {study.records['extract_features']['resolution']} pixels "
        f"on {study.settings['dataset'].name}: {count(images)} images, {count(len(study.answers.classes))} classes. "
        f"{duration(sum(record['seconds'] for record in records))} in all, on {', '.join(devices)}."
    )


def context(accuracies: pd.DataFrame, commonest: float, chance: float) -> str:
    """How far no training gets; where classes are not equally common, how far naming the commonest one gets."""
    plain = [on_test(accuracies, method) for method in ("nearest_mean", "nearest_neighbours")]
    best, frozen = max(plain, key=lambda row: float(row["accuracy"])), on_test(accuracies, "frozen")
    if statistics.intervals_overlap(best, frozen):
        verdict = "not clearly different from"
    else:
        verdict = "more than" if best["accuracy"] > frozen["accuracy"] else "less than"
    name = {"nearest_mean": "the nearest class mean", "nearest_neighbours": "a vote of nearest neighbours"}[
        best["method"]
    ]
    text = f"Without any training, {name} reaches {interval(best)}: {verdict} the head trained on the same features."
    if commonest > 1.2 * chance:
        text += f" Classes are not equally common: always naming the commonest one reaches {percent(commonest)}."
    return text


def on_test(accuracies: pd.DataFrame, method: str) -> dict[str, Any]:
    """The row of `method` on test, of statistics.accuracy_table."""
    chosen = accuracies[(accuracies["method"] == method) & (accuracies["split"] == "test")]
    return dict(chosen.iloc[0])


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}{NARROW}%"


def interval(row: Mapping[Any, Any]) -> str:
    """Accuracy with its interval, in per cent."""
    return f"{percent(row['accuracy'])} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def count(number: int) -> str:
    return f"{number:,}".replace(",", NARROW)


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}{NARROW}s" if seconds >= 10 else f"{seconds:.1f}{NARROW}s"
    if seconds < 7200:
        return f"{seconds / 60:.1f}{NARROW}min"
    return f"{seconds / 3600:.1f}{NARROW}h"
