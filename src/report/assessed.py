"""What the stage evidence left. K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.evidence import questions, repeated
from src.evidence.paired import Difference
from src.evidence.repeated import Repeated


@dataclass(frozen=True, kw_only=True)
class AssessedResults:
    """Tables of plots/evidence/; of the methods that have probabilities, a row's `method` being one of them.

    Attributes:
        metrics: metrics/evidence.json; few numbers by method, beside its answer.
        scores: method, score, calibrated (by the fitted temperature, or as trained), value, low, high; on test.
        classes: recall, precision and F1 by method and class, in the order of the K classes.
        reliability: accuracy by confidence by method and calibrated.
        coverage: by method and target.
        differences: between methods, as asked.
        over_seeds: accuracy of the fine-tuned network, and its difference to the frozen backbone's, on test.
        options: the fine-tuned network as it is, and what more work at test time makes of it (`options.compared`).
    """

    metrics: Mapping[str, Any]
    scores: pd.DataFrame
    classes: pd.DataFrame
    reliability: pd.DataFrame
    coverage: pd.DataFrame
    differences: Sequence[Difference]
    over_seeds: Mapping[str, Repeated]
    options: pd.DataFrame

    def temperature(self, method: str) -> float:
        return float(self.metrics[method]["temperature"])

    def score(self, method: str, score: str, *, calibrated: bool = False) -> dict[str, float]:
        """value, low and high, nan where there is no interval."""
        rows = self.scores[(self.scores["method"] == method) & (self.scores["score"] == score)]
        found = rows[rows["calibrated"] == calibrated].iloc[0]
        return {name: float(found[name]) for name in ("value", "low", "high")}

    def calibrated(self, method: str, score: str) -> bool:
        """Whether there is such a score by the fitted temperature."""
        rows = self.scores[(self.scores["method"] == method) & (self.scores["score"] == score)]
        return bool(rows["calibrated"].any())

    def scored(self) -> list[str]:
        """The names of the scores, in their order."""
        return list(dict.fromkeys(self.scores["score"]))

    def difference(self, first: str, second: str) -> Difference:
        return next(each for each in self.differences if (each.first, each.second) == (first, second))


def read(
    *,
    metrics: Mapping[str, Any],
    scores: str,
    classes: str,
    reliability: str,
    coverage: str,
    differences: str,
    seeds: str,
    options: str,
) -> AssessedResults:
    """Read the tables; names of classes stay texts, whatever they look like."""
    return AssessedResults(
        metrics=metrics,
        scores=pd.read_csv(scores),
        classes=pd.read_csv(classes, dtype={"class": str}, keep_default_na=False, na_values=_numbers(classes)),
        reliability=pd.read_csv(reliability),
        coverage=pd.read_csv(coverage),
        differences=questions.from_rows(pd.read_csv(differences)),
        over_seeds=repeated.from_rows(pd.read_csv(seeds)),
        options=pd.read_csv(options),
    )


def _numbers(path: str) -> dict[str, list[str]]:
    """Where an empty cell is no number: in every column but that of the names."""
    return {name: [""] for name in pd.read_csv(path, nrows=0).columns if name != "class"}
