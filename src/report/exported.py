"""The chapter on the exported model: what it is worth, its copy in 8 bits, and how fast both answer."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from src.evidence.intervals import proportion
from src.report.numbers import NARROW, count, digits, interval, percent, points
from src.report.pages import Section, Table
from src.report.study import Study

ENGINES = {"torch": "torch", "onnx": "ONNX Runtime", "int8": "ONNX Runtime, 8 bits"}


def chapter(study: Study) -> Section:
    """What anybody gets who takes the model away."""
    scores, facts = study.metrics["export"], study.records["export"].facts
    return Section(
        title="The model to take away", blocks=[_words(study, scores, facts), _engines(study, scores, facts)]
    )


def _words(study: Study, scores: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    images = sum(study.metrics["download"][split]["images"] for split in ("val", "test"))
    parts = [
        f"models/finetuned.onnx is the fine-tuned network with all that comes before and after it, in float32. On "
        f"{percent(scores['agreement'])} of the {count(images)} images of validation and test, one at a time and in "
        f"batches, it names the class that torch names; no logit differs by more than {_ceiling(facts['difference'])}.",
        _precision(study, scores),
        _temperature(scores["temperature"]),
        _threshold(study, scores),
        _eight_bits(study, scores, facts),
    ]
    return " ".join(part for part in parts if part)


def _ceiling(number: float) -> str:
    """One significant digit, rounded up: a bound."""
    if not number:
        return "0"
    step = 10.0 ** math.floor(math.log10(number))
    return f"{math.ceil(round(number / step, 6)) * step:.1g}"


def _temperature(found: float) -> str:
    if found == 1:
        return "Its probabilities are as it was trained: nothing in validation speaks for a temperature."
    does = "softened" if found > 1 else "sharpened"
    return f"Its probabilities are {does} by a temperature of {digits(found)}, which validation chose."


def _precision(study: Study, scores: Mapping[str, Any]) -> str:
    precision = study.records["finetune"].facts.get("precision", "float32")
    before, now = (percent(study.metrics[stage]["test"]["accuracy"]) for stage in ("finetune", "export"))
    if precision == "float32" or before == now:
        return ""
    return (
        f"The rest of this page judges the fine-tuned network in {precision}, where {before} of the test images are "
        f"right; here {now}."
    )


def _threshold(study: Study, scores: Mapping[str, Any]) -> str:
    target = percent(study.settings["export"].target)
    if "threshold" not in scores:
        return f"However sure it is, its answers on validation are not right in {target} of cases: it is never sure."
    if not scores["threshold"]:
        return f"Its answers on validation are right in {target} of cases and more, so it is sure of all."
    return (
        f"Below a probability of {percent(scores['threshold'])} it is not sure: the others are right in {target} "
        f"of cases on validation; of the test images it answers {percent(scores['test']['coverage'])}."
    )


def _eight_bits(study: Study, scores: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    if "int8" not in scores:
        return ""
    found = scores["int8"]
    differs = (
        f"its accuracy on test is {points(found['difference'])} points from that, paired by image "
        f"[{points(found['low'])}, {points(found['high'])}]"
    )
    if found["accepted"]:
        return f"models/int8/finetuned.onnx computes its products in 8 bits: {differs}."
    return f"No copy in 8 bits was kept: {facts['refused']}. With it, {differs}."


def on_test(study: Study) -> dict[str, Any]:
    """What the exported model is right on: images, accuracy, low, high."""
    images = study.metrics["download"]["test"]["images"]
    return proportion(round(study.metrics["export"]["test"]["accuracy"] * images), images)


def _engines(study: Study, scores: Mapping[str, Any], facts: Mapping[str, Any]) -> Table:
    images = study.metrics["download"]["test"]["images"]
    accuracies = dict.fromkeys(("torch", "onnx"), scores["test"]["accuracy"])
    accuracies |= {"int8": scores["int8"]["test_accuracy"]} if "int8" in scores else {}
    rows = []
    for name, times in facts["times"].items():
        size = facts["bytes"].get(name)
        rows.append(
            [
                ENGINES[name] + (" (refused)" if name == "int8" and not scores["int8"]["accepted"] else ""),
                interval(proportion(round(accuracies[name] * images), images)),
                f"{size / 2**20:.1f}{NARROW}MiB" if size else "",
                *(f"{digits(times[key])}{NARROW}ms" for key in ("latency_ms", "latency_p95_ms")),
                count(round(times["images_per_second"])),
            ]
        )
    columns = ["Engine", "Test accuracy", "Size", "One image", "95th percentile", "Images/s"]
    threads = facts["threads"]
    return Table(
        name="engines",
        caption="The same images through each, turn by turn, from stored pixels to probabilities, on a CPU with "
        f"{threads} thread{'s' if threads != 1 else ''}: the median and the 95th percentile of single images, and the "
        "rate in batches of 64.",
        rows=pd.DataFrame(rows, columns=columns),
    )
