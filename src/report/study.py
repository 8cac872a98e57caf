"""What the stages of the scaling study left, of the arms that params name and of no others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from src.base import artifacts, stage_records
from src.base.stage_records import StageRecord
from src.evidence import answers, comparisons, optimisation
from src.evidence.answers import Answers
from src.evidence.optimisation import Optimisation
from src.report.assessed import AssessedResults
from src.report.audit_results import AuditResults
from src.report.compared import ComparisonResults
from src.report.data_efficiency_results import DataEfficiencyResults
from src.report.pictures import Images

Json = Mapping[str, Any]

LABELS = {
    "untrained": "Untrained head",
    "nearest_mean": "Nearest class mean",
    "nearest_neighbours": "Nearest neighbours",
    "frozen": "Trained head, frozen backbone",
    "finetuned": "Fine-tuned network",
}
TRAINED = ("frozen", "finetuned")


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
    runs: Mapping[str, StageRecord]
    accuracies: Mapping[str, Mapping[int, float]]
    curves: Mapping[str, pd.DataFrame]
    search: Json
    search_run: StageRecord
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
    def stage_runs(self) -> dict[str, StageRecord]:
        """By stage, as DVC names them."""
        return {"scaling_search": self.search_run} | {f"scaling_ablation@{arm}": run for arm, run in self.runs.items()}


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
        compared: what the comparison of backbones left.
        assessed: what the stage evidence left.
        images: what there is to show.
        audit: what the audit of images and labels left.
        data_efficiency: what the probes by number of images left.
    """

    settings: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    records: Mapping[str, StageRecord]
    answers: Answers
    best_head: Mapping[str, Any]
    frozen_curve: pd.DataFrame
    finetuned_curve: pd.DataFrame
    trials: pd.DataFrame
    trial_curves: pd.DataFrame
    importances: pd.DataFrame
    scaling: ScalingResults
    compared: ComparisonResults
    assessed: AssessedResults
    images: Images
    audit: AuditResults
    data_efficiency: DataEfficiencyResults

    @cached_property
    def optimisations(self) -> Mapping[str, Optimisation]:
        """How each arm trained; chance is naming the commonest class, where classes are not equally common."""
        chance = max(1 / len(self.answers.classes), answers.commonest_class_accuracy(self.answers, "val"))
        images = self.metrics["download"]["val"]["images"]
        networks = {arm: own.name for arm, own in self.settings["scaling_arms"].items() if own.name}
        return optimisation.by_arm(self.scaling.curves, images=images, chance=chance, networks=networks)


def read_scaling(
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
        runs={arm: stage_records.read(f"{runs}/{arm}.json") for arm in arms},
        accuracies={arm: comparisons.seed_accuracies(artifacts.load(f"{predictions}/{arm}.pt")) for arm in arms},
        curves={arm: pd.read_csv(f"{curves}/{arm}.csv") for arm in arms},
        search=artifacts.read_json(search),
        search_run=stage_records.read(search_run),
        coefficients=artifacts.read_json(coefficients),
        candidates=pd.read_csv(candidates),
    )
