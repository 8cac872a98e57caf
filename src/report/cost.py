"""The chapter on what accuracy costs: seconds of this machine, of each way to a classifier."""

import math
from functools import partial
from statistics import fmean
from typing import Any

import pandas as pd

from src.evidence import fronts
from src.figures import cost
from src.figures.style import both
from src.report.answer import devices, on_test
from src.report.numbers import count, duration, interval, percent
from src.report.pages import Block, Figure, Section, Table
from src.report.study import LABELS, Study

STAGES = {  # what a person runs to get there, from the images on
    "nearest_neighbours": ("extract_features", "baseline"),
    "frozen": ("extract_features", "tune_head", "train_frozen"),
    "finetuned": ("extract_features", "tune_head", "train_frozen", "finetune"),
}


def chapter(study: Study, accuracies: pd.DataFrame) -> Section:
    """Accuracy against seconds, and what each way took."""
    rows = _rows(study, accuracies)
    blocks: list[Block] = [answer(study, accuracies), _figure(rows), _table(study, rows)]
    if sentence := _from_scratch(study):
        blocks.insert(1, sentence)
    return Section(title="What it costs", blocks=blocks)


def answer(study: Study, accuracies: pd.DataFrame) -> str:
    """What fine-tuning took beside the frozen backbone, in one sentence."""
    seconds = _rows(study, accuracies).set_index("method")["seconds"]
    frozen, tuned = seconds["frozen"], seconds["finetuned"]
    return (
        f"From images to the frozen head it took {duration(frozen)}, to the fine-tuned network {duration(tuned)} in "
        f"all, {tuned / frozen:.1f} times as long, on {devices([study.records['finetune']])}."
    )


def _rows(study: Study, accuracies: pd.DataFrame) -> pd.DataFrame:
    """By method: label, seconds, val, accuracy, low, high; of arms from scratch a seed of the best, no interval."""
    rows: list[dict[str, Any]] = []
    for method, stages in STAGES.items():
        found = on_test(accuracies, method)
        seconds = sum(study.records[stage].seconds for stage in stages)
        reached = {name: found[name] for name in ("accuracy", "low", "high")}
        rows.append({"method": method, "label": LABELS[method], "seconds": seconds, "val": _on_val(accuracies, method)})
        rows[-1] |= reached
    if arm := _best_arm(study):
        rows.append(
            {
                "method": arm,
                "label": f"{arm}, from scratch",
                "seconds": fmean(study.scaling.runs[arm].facts["training_seconds"]),
                "val": study.scaling.metrics[arm]["val"]["accuracy"],
                "accuracy": study.scaling.metrics[arm]["test"]["accuracy"],
                **dict.fromkeys(("low", "high"), math.nan),
            }
        )
    return pd.DataFrame(rows)


def _on_val(accuracies: pd.DataFrame, method: str) -> float:
    chosen = accuracies[(accuracies["method"] == method) & (accuracies["split"] == "val")]
    return float(chosen["accuracy"].iloc[0])


def _best_arm(study: Study) -> str:
    """The arm of the scaling study that validation puts first, of those that were timed; empty where there is none."""
    timed = [arm for arm in study.scaling.arms if study.scaling.runs[arm].facts.get("training_seconds")]
    return max(timed, key=lambda arm: float(study.scaling.metrics[arm]["val"]["accuracy"]), default="")


def _from_scratch(study: Study) -> str:
    """When fine-tuning was as good on validation as the best arm at its end; empty where there is no arm."""
    arm = _best_arm(study)
    if not arm:
        return ""
    wanted, curve = study.scaling.metrics[arm]["val"]["accuracy"], study.finetuned_curve
    reached = curve.loc[curve["val_accuracy"] >= wanted, "epoch"]
    took = duration(fmean(study.scaling.runs[arm].facts["training_seconds"]))
    arm_says = f"the best network trained from scratch, {arm}, reached {percent(wanted)} on validation after {took}"
    if reached.empty:
        return (
            f"Fine-tuning never was as good on validation as the best network trained from scratch, {arm}, which "
            f"reached {percent(wanted)} after {took}."
        )
    epoch = int(reached.iloc[0])
    seconds = study.records["finetune"].seconds * epoch / len(curve)
    return (
        f"Of the arms of the scaling study, {arm_says}; fine-tuning was there in {duration(seconds)}, after epoch "
        f"{count(epoch)} of {count(len(curve))}, on weights that others had trained."
    )


def _figure(rows: pd.DataFrame) -> Figure:
    front = fronts.pareto(
        dict(zip(rows["method"], rows["val"], strict=True)),
        dict(zip(rows["method"], rows["seconds"], strict=True)),
    )
    values = "; ".join(
        f"{row['label']} {percent(row['accuracy'])} in {duration(row['seconds'])}" for row in rows.to_dict("records")
    )
    return Figure(
        name="cost",
        **both(partial(cost.accuracy_by_seconds, rows, front)),
        alt=f"Test accuracy against seconds. {values}.",
        caption="Test accuracy with 95 % Wilson intervals against the seconds of all stages from images to answers. "
        "The line joins those that nothing cheaper equals on validation. Seconds are this machine's, whatever else it "
        "did.",
    )


def _table(study: Study, rows: pd.DataFrame) -> Table:
    shown = []
    for row in rows.to_dict("records"):
        stages = STAGES.get(row["method"])
        of = ", ".join(f"{stage} {duration(study.records[stage].seconds)}" for stage in stages) if stages else ""
        told = percent(row["accuracy"]) if math.isnan(row["low"]) else interval(row)
        shown.append([row["label"], of or "one training", told, duration(row["seconds"])])
    columns = ["Method", "Stages", "Test", "Time"]
    return Table(
        name="cost",
        caption="What each way took, start-up and search included; of an arm, the mean of its seeds.",
        rows=pd.DataFrame(shown, columns=columns),
        text_columns=2,
    )
