"""What the stages of the scaling study left, of the arms that params name and of no others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src import artifacts, comparisons

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScalingResults:
    """What the search and the arms left; by arm in the order of params, and empty where there are no arms.

    Attributes:
        metrics: metrics/scaling_ablation/<arm>.json.
        runs: data/runs/scaling_ablation/<arm>.json.
        accuracies: accuracy on test by seed (fraction), counted from the predictions.
        curves: plots/scaling_ablation/<arm>.csv: seed, epoch, train_loss, val_accuracy, ...
        search: metrics/scaling_search.json.
        search_run: data/runs/scaling_search.json.
        coefficients: models/coefficients.json.
        candidates: plots/scaling_search/candidates.csv.
    """

    metrics: Mapping[str, Json]
    runs: Mapping[str, Json]
    accuracies: Mapping[str, Mapping[int, float]]
    curves: Mapping[str, pd.DataFrame]
    search: Json
    search_run: Json
    coefficients: Json
    candidates: pd.DataFrame

    @property
    def arms(self) -> list[str]:
        return list(self.metrics)

    @property
    def stage_metrics(self) -> dict[str, Json]:
        """By stage."""
        return {"scaling_search": self.search, "scaling_ablation": self.metrics}

    @property
    def stage_runs(self) -> dict[str, Json]:
        """By stage, as DVC names them."""
        return {"scaling_search": self.search_run} | {f"scaling_ablation@{arm}": run for arm, run in self.runs.items()}


def read(
    arms: Iterable[str],
    *,
    metrics: str,
    runs: str,
    predictions: str,
    curves: str,
    search: str,
    search_run: str,
    coefficients: str,
    candidates: str,
) -> ScalingResults:
    """Read the files of `arms`, which lie in the four folders named first, and the four files of the search."""
    arms = list(arms)
    return ScalingResults(
        metrics={arm: artifacts.read_json(f"{metrics}/{arm}.json") for arm in arms},
        runs={arm: artifacts.read_json(f"{runs}/{arm}.json") for arm in arms},
        accuracies={arm: comparisons.seed_accuracies(artifacts.load(f"{predictions}/{arm}.pt")) for arm in arms},
        curves={arm: pd.read_csv(f"{curves}/{arm}.csv") for arm in arms},
        search=artifacts.read_json(search),
        search_run=artifacts.read_json(search_run),
        coefficients=artifacts.read_json(coefficients),
        candidates=pd.read_csv(candidates),
    )
