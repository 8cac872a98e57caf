"""The tables of how sure the networks are: scores, coverage, differences between methods, and each class."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from src.evidence.paired import Difference
from src.report.numbers import count, interval, p_value, percent, points
from src.report.pages import Table
from src.report.study import LABELS, TRAINED, Study

SCORES = {
    "accuracy": "Accuracy",
    "top5_accuracy": "Accuracy, one of five named",
    "balanced_accuracy": "Balanced accuracy",
    "confidence": "Stated confidence",
    "log_loss": "Log loss, nats",
    "brier_score": "Brier score, 0 to 2",
    "calibration_error": "Expected calibration error",
    "calibration_error_debiased": "The same, debiased",
}
LOSSES = ("log_loss", "brier_score")
MOST_CLASSES = 20  # of more, the hardest are shown


def score_rows(study: Study) -> Table:
    found = study.assessed
    rows = [
        [SCORES[score], *(cell for method in TRAINED for cell in _cells(study, method, score))]
        for score in found.scored()
    ]
    columns = ["Score on test", "Frozen", "Frozen, temperature", "Fine-tuned", "Fine-tuned, temperature"]
    return Table(
        name="scores",
        caption="Scores on test with 95 % intervals: Wilson's of shares, of means over images Hall's, which is "
        "Student's t without their skewness. The calibration error is of "
        f"{study.settings['evidence'].bins} bins of equally many images; chance raises it above the truth, which its "
        "interval is about; debiased, that is taken away. A temperature changes no answer.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _cells(study: Study, method: str, score: str) -> list[str]:
    """As trained, and by the fitted temperature where that changes it."""
    found = study.assessed
    tempered = found.calibrated(method, score)
    return [
        score_text(score, found.score(method, score)),
        score_text(score, found.score(method, score, calibrated=True)) if tempered else "",
    ]


def score_text(score: str, row: Mapping[str, float]) -> str:
    """A score's value with its interval, where it has one."""
    if score not in LOSSES:
        return interval({"accuracy": row["value"], **row}) if not math.isnan(row["low"]) else percent(row["value"])
    value = f"{row['value']:.3f}"
    return value if math.isnan(row["low"]) else f"{value} [{row['low']:.3f}, {row['high']:.3f}]"


def coverage_rows(study: Study) -> Table:
    rows = [
        [
            LABELS[row["method"]],
            percent(row["target"]),
            "none serves" if pd.isna(row["threshold"]) else percent(row["threshold"]),
            interval({"accuracy": row["coverage"], "low": row["coverage_low"], "high": row["coverage_high"]}),
            interval(row) if row["answered"] else "",
            _held(row),
        ]
        for row in study.assessed.coverage.to_dict("records")
    ]
    columns = ["Method", "Accuracy wanted", "Answers from", "Answered on test", "Right of these", "Target"]
    return Table(
        name="coverage",
        caption="Passing on images: the confidence, by the fitted temperature, from which on validation has the "
        "accuracy wanted, and what that comes to on test, with 95 % Wilson intervals. A target is held or missed where "
        "the interval leaves no doubt.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _held(row: Mapping[Any, Any]) -> str:
    if not row["answered"]:
        return "nothing answered"
    return "held" if row["low"] >= row["target"] else "missed" if row["high"] < row["target"] else "open"


def difference_rows(study: Study) -> Table:
    """Of methods on the same images."""
    rows = [
        [
            f"{LABELS[each.first]} − {LABELS[each.second][0].lower()}{LABELS[each.second][1:]}",
            _verdict(each),
            f"{points(each.difference)} [{points(each.low)}, {points(each.high)}]",
            *map(count, each.alone),
            p_value(each.p_value),
        ]
        for each in study.assessed.differences
    ]
    columns = ["Comparison", "Verdict", "Difference", "Only the first right", "Only the second right", "p"]
    return Table(
        name="differences",
        caption="Differences in test accuracy, in percentage points, paired image by image: p of McNemar's exact test, "
        "which decides, and Newcombe's paired interval. The first is what this study asks; the others are asked "
        "together, and corrected for it by Holm's procedure. They cover the luck in which images were drawn, of "
        "the networks that were kept.",
        rows=pd.DataFrame(rows, columns=columns),
        text_columns=2,
    )


def _verdict(each: Difference) -> str:
    if not each.settled:
        return "cannot be told apart"
    return "better" if each.difference > 0 else "worse"


def option_rows(study: Study) -> list[Table]:
    """Mirrored images and an ensemble beside the plain network; nothing where there is neither."""
    found = study.assessed.options.to_dict("records")
    if len(found) < 2:
        return []
    names = {
        "finetuned": "As it is",
        "flipped": "With mirrored images",
        "ensemble": f"Ensemble of {count(study.assessed.over_seeds['accuracy'].runs)} seeds",
    }
    rows = [
        [
            names[row["method"]],
            interval(row),
            score_text(
                "log_loss", {"value": row["log_loss"], "low": row["log_loss_low"], "high": row["log_loss_high"]}
            ),
            *_gained(row),
        ]
        for row in found
    ]
    return [
        Table(
            name="options",
            caption="What more work at test time makes of the fine-tuned network: the mean of what it says of an image "
            "and of its mirror image, and the mean of networks of several seeds. Differences to it as it is, on the "
            "same test images, in percentage points, by McNemar's exact test and Newcombe's interval, corrected "
            "for their number by Holm's procedure. Nothing else on this page uses them.",
            rows=pd.DataFrame(rows, columns=["Fine-tuned network", "Accuracy", "Log loss, nats", "Difference", "p"]),
        )
    ]


def _gained(row: Mapping[Any, Any]) -> list[str]:
    if math.isnan(row["difference"]):
        return ["", ""]
    low, high = points(row["difference_low"]), points(row["difference_high"])
    return [f"{points(row['difference'])} [{low}, {high}]", p_value(row["p_value"])]


def class_rows(study: Study) -> Table:
    """Precision, recall and F1 of the fine-tuned network; of many classes those with the lowest F1."""
    rows = study.assessed.classes
    own = rows[rows["method"] == "finetuned"].assign(name=list(study.answers.classes))
    few = len(own) <= MOST_CLASSES
    chosen = own if few else own.sort_values("f1", kind="stable", na_position="last").head(MOST_CLASSES)
    shown = [
        [
            row["name"],
            count(int(row["images"])),
            count(int(row["named"])),
            *(_share(row, name) for name in ("recall", "precision")),
            "" if math.isnan(row["f1"]) else f"{100 * row['f1']:.1f}",
        ]
        for row in chosen.to_dict("records")
    ]
    extent = "" if few else f" The {MOST_CLASSES} classes with the lowest F1; plots/evidence/classes.csv has all."
    return Table(
        name="classes",
        caption="Each class as the fine-tuned network sees it on test: the share of its images that are named so "
        "(recall), the share of images named so that are (precision), with 95 % Wilson intervals, and their harmonic "
        f"mean F1, in per cent.{extent}",
        rows=pd.DataFrame(shown, columns=["Class", "Images", "Named so", "Recall", "Precision", "F1"]),
    )


def _share(row: Mapping[Any, Any], name: str) -> str:
    if math.isnan(row[name]):
        return ""
    return interval({"accuracy": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]})
