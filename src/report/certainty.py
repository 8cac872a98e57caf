"""The chapter on how sure the networks are, and whether they know when they err. N images, K classes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from src.figures import calibration
from src.figures.style import both
from src.report import certainty_tables as tables
from src.report.numbers import count, interval, percent
from src.report.pages import Figure, Section, Table
from src.report.study import TRAINED, Study

NAMES = {"frozen": "the trained head on the frozen backbone", "finetuned": "the fine-tuned network"}


def chapter(study: Study) -> Section:
    """What it says of itself, what it can be trusted with, and every score with its interval."""
    blocks: list[str | Figure | Table] = [
        *(stated(study, method) for method in reversed(TRAINED)),
        _reliability_figure(study),
        trusted(study),
        tables.coverage_rows(study),
        tables.score_rows(study),
        tables.difference_rows(study),
        *tables.option_rows(study),
    ]
    return Section(title="How sure it is", blocks=blocks)


def stated(study: Study, method: str) -> str:
    """Whether `method` is right as often as it says, and what a temperature mends of it."""
    found, images = study.assessed, study.metrics["download"]
    says, right = (found.score(method, name) for name in ("confidence", "accuracy"))
    sure = f"{percent(says['value'])} sure of the class that it names"
    reached = interval({"accuracy": right["value"], **right})
    start = f"On average over the test images, {NAMES[method]} is {sure}, and is right in {reached}: "
    if right["low"] <= says["value"] <= right["high"]:
        verdict = f"as sure as it should be, as far as {count(images['test']['images'])} images tell"
    else:
        verdict = f"{'less' if says['value'] < right['value'] else 'more'} sure than it should be"
    return f"{start}{verdict}. {_mended(study, method)}"


def _mended(study: Study, method: str) -> str:
    found, images = study.assessed, count(study.metrics["download"]["val"]["images"])
    temperature = found.temperature(method)
    before = error(found.score(method, "calibration_error_debiased"))
    if temperature == 1:
        return (
            f"Confidence and accuracy differ by {before} on average, less what chance adds. No temperature was fitted: "
            f"none of {images} validation images, or nothing in them, speaks for one."
        )
    after = error(found.score(method, "calibration_error_debiased", calibrated=True))
    does = "sharpens" if temperature < 1 else "softens"
    return (
        f"Confidence and accuracy differ by {before} on average, less what chance adds. A temperature of "
        f"{temperature:.2f}, fitted on {images} validation images, {does} what it says, and leaves {after}."
    )


def error(row: Mapping[str, float]) -> str:
    """A calibration error in percentage points."""
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    return f"{value:.1f} points [{low:.1f}, {high:.1f}]"


def trusted(study: Study) -> str:
    """How many images the fine-tuned network can answer at each accuracy that is asked for; where that fails, so."""
    rows = study.assessed.coverage
    chosen = rows[rows["method"] == "finetuned"].to_dict("records")
    return (
        "Where the fine-tuned network may pass on images that it is unsure of: "
        + "; ".join(f"for {share(row['target'])}, {outcome(row)}" for row in chosen)
        + ". Validation chose the confidence from which on it answers."
    )


def outcome(row: Mapping[Any, Any]) -> str:
    """What one target came to on test; `row` is a `Selection`."""
    if pd.isna(row["threshold"]):
        return "no confidence served on validation, and it answers nothing"
    if not row["answered"]:
        return "none of the test images is as sure as that takes"
    every = row["answered"] == row["images"]
    answers = "it answers every test image" if every else f"it answers {percent(row['coverage'])} of the test images"
    return f"{answers} and is right in {interval(row)} of them: {verdict(row)}"


def verdict(row: Mapping[Any, Any]) -> str:
    if row["low"] >= row["target"]:
        return "the target holds"
    return "the target is missed" if row["high"] < row["target"] else "chance leaves open whether the target holds"


def share(fraction: float) -> str:
    """A target as people type it: 99 %, 99.5 %."""
    return percent(fraction) if round(100 * fraction, 6) % 1 else percent(fraction).replace(".0", "")


def _reliability_figure(study: Study) -> Figure:
    rows, charts, texts = study.assessed.reliability, {}, []
    for method in TRAINED:
        own, fitted = rows[rows["method"] == method], study.assessed.temperature(method)
        parts = {"as trained": own[~own["calibrated"]]}
        if own["calibrated"].any():
            parts[f"temperature {fitted:.2f}"] = own[own["calibrated"]]
        charts[method] = parts
        errors = [
            f"{label}: {error(study.assessed.score(method, 'calibration_error', calibrated=number > 0))}"
            for number, label in enumerate(parts)
        ]
        texts.append(f"{NAMES[method]}, {', '.join(errors)}")
    return Figure(
        name="reliability",
        **both(partial(calibration.reliability_diagrams, charts)),
        alt=f"Accuracy on test by stated confidence. Expected calibration error of {'; '.join(texts)}.",
        caption="How often the class that was named is right, by how sure the network is of it, in bins of as many "
        "test images each as ties allow, with 95 % Wilson intervals. On the dashed line it is right as often as it "
        "says; above it, it is more often right. In grey as trained, in colour by the temperature fitted on "
        "validation.",
    )
