"""What a classifier's predictions are worth: scores on test with their intervals, before and after a temperature.

Validation fits the temperature and chooses thresholds; test is scored by them, and decides nothing.
No training stage imports this module: editing it retrains nothing.
N images, K classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.base.splits import SPLITS
from src.evidence import calibration, scores, selective
from src.evidence.intervals import proportion
from src.evidence.means import mean_interval
from src.evidence.per_class import balanced_accuracy, per_class

RANGES = {"confidence": (0.0, 1.0), "log_loss": (0.0, math.inf), "brier_score": (0.0, 2.0)}  # of means over images
TOP = 5  # classes that an answer may name; of as few classes or fewer, all answers would be right
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One method's answers on one split; logits (N, K), labels int64 (N,)."""

    logits: scores.Logits
    labels: NDArray[np.int64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        return scores.top_hits(self.logits, self.labels, 1)

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Image counts (K, K) by actual class (rows) and the class named (columns)."""
        count = self.logits.shape[1]
        cells = self.labels * count + self.logits.argmax(axis=1)
        return np.bincount(cells, minlength=count**2).reshape(count, count)


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Of one method, on test.

    Attributes:
        temperature: fitted on validation; 1 where none could be.
        scores: rows of score, calibrated (by that temperature, or as trained), value, low, high; fractions, losses in
            nats. None are calibrated where the temperature is 1, nor those that need no probabilities.
        classes: as of `per_class`.
        reliability: as of `reliability_bins`, and calibrated.
        coverage: a `Selection` per target, as rows.
    """

    temperature: float
    scores: list[Row]
    classes: pd.DataFrame
    reliability: pd.DataFrame
    coverage: list[Row]

    def value(self, score: str) -> float:
        """Of a score that `scores` has, as trained."""
        return float(next(row["value"] for row in self.scores if row["score"] == score and not row["calibrated"]))

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers by which two studies are compared; coverage is at the last target."""
        known = {row["score"] for row in self.scores}
        names = ("balanced_accuracy", "top5_accuracy", "log_loss", "calibration_error")
        found = {name: self.value(name) for name in names if name in known}
        return found | {"temperature": self.temperature, "coverage": float(self.coverage[-1]["coverage"])}


def judged(predictions: Mapping[str, Any], method: str, split: str) -> Judged:
    """What `method` answered on `split`, from predictions as stages leave them (`answers.joined`)."""
    chosen = predictions["split"] == SPLITS.index(split)
    return Judged(logits=predictions["logits"][method][chosen].numpy(), labels=predictions["label"][chosen].numpy())


def assess(val: Judged, test: Judged, classes: Sequence[str], *, bins: int, targets: Sequence[float]) -> Assessment:
    """Everything about one method.

    Args:
        bins: of the reliability diagram and of the calibration error, of as many images each as ties allow.
        targets: accuracies on the answered images, each above 0, up to 1.
    """
    temperature = calibration.fit_temperature(val.logits, val.labels)
    used = {False: 1.0} | ({True: temperature} if temperature != 1 else {})  # by whether it is calibrated
    reliability = {calibrated: _reliability(test, each, bins) for calibrated, each in used.items()}
    rows = plain_scores(test)
    for calibrated, each in used.items():
        found = _probability_scores(test, each) + _calibration_scores(reliability[calibrated])
        rows += [{"score": row["score"], "calibrated": calibrated} | row for row in found]
    return Assessment(
        temperature=temperature,
        scores=rows,
        classes=per_class(test.matrix, classes),
        reliability=pd.concat([frame.assign(calibrated=calibrated) for calibrated, frame in reliability.items()]),
        coverage=[asdict(each) for each in _selections(val, test, temperature, targets)],
    )


def plain_scores(test: Judged) -> list[Row]:
    """Scores that need no probabilities: accuracy, top-5 accuracy of more than five classes, balanced accuracy."""
    images, balanced = len(test.labels), balanced_accuracy(test.matrix)
    found = {"accuracy": proportion(int(test.hits.sum()), images)}
    if test.logits.shape[1] > TOP:
        top = scores.top_hits(test.logits, test.labels, TOP)
        found["top5_accuracy"] = proportion(int(top.sum()), images)
    found["balanced_accuracy"] = balanced
    return [
        {"score": name, "calibrated": False, "value": each["accuracy"], "low": each["low"], "high": each["high"]}
        for name, each in found.items()
    ]


def _probability_scores(test: Judged, temperature: float) -> list[Row]:
    by_image = {
        "confidence": scores.confidences(test.logits, temperature),
        "log_loss": scores.log_losses(test.logits, test.labels, temperature),
        "brier_score": scores.brier_losses(test.logits, test.labels, temperature),
    }
    return [_mean(name, values) for name, values in by_image.items()]


def _mean(score: str, values: NDArray[np.float64]) -> Row:
    """A mean over images with its interval; of a single image there is none."""
    low, high = mean_interval(values, within=RANGES[score]) if len(values) > 1 else (float("nan"), float("nan"))
    return {"score": score, "value": float(values.mean()), "low": low, "high": high}


def _reliability(test: Judged, temperature: float, bins: int) -> pd.DataFrame:
    return calibration.reliability_bins(scores.confidences(test.logits, temperature), test.hits, bins)


def _calibration_scores(reliability: pd.DataFrame) -> list[Row]:
    """The error as it is usually given, and without what chance adds to it; one interval of the truth for both."""
    found = calibration.calibration_error(reliability)
    values = {"calibration_error": found.error, "calibration_error_debiased": found.debiased}
    return [{"score": name, "value": value, "low": found.low, "high": found.high} for name, value in values.items()]


def _selections(val: Judged, test: Judged, temperature: float, targets: Sequence[float]) -> list[selective.Selection]:
    chosen, scored = (scores.confidences(each.logits, temperature) for each in (val, test))
    thresholds = {target: selective.choose_threshold(chosen, val.hits, target) for target in targets}
    return [
        selective.select(scored, test.hits, threshold=threshold, target=target)
        for target, threshold in thresholds.items()
    ]


def table(found: Mapping[str, Assessment], part: str) -> pd.DataFrame:
    """Rows of all methods in one table, by the name of the attribute that has them; `method` is its first column."""
    frames = {method: pd.DataFrame(getattr(each, part)) for method, each in found.items()}
    whole = pd.concat([frame.assign(method=method) for method, frame in frames.items()], ignore_index=True)
    return whole[["method", *(name for name in whole.columns if name != "method")]]
