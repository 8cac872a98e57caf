"""Put what all stages found on one page, as HTML and as Markdown.  `python -m stages.report`"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from src.base import artifacts, stage_records
from src.base.stage_records import Recorder, StageRecord
from src.evidence import answers, examples
from src.interface import console, params, tracking
from src.interface.params import Params
from src.report import assessed as assessed_results
from src.report import audit_results, bounds, card, contents, data_efficiency_results, pages, provenance
from src.report import compared as compared_results
from src.report.assessed import AssessedResults
from src.report.compared import ComparisonResults
from src.report.pictures import Images
from src.report.study import ScalingResults, Study, read_scaling
from stages import given


def main() -> None:
    noted = given.of("report")
    cfg, record = params.parse(noted.content), Recorder("report", noted.sections)
    with tracking.stage(record, cfg) as run:
        study = read(cfg)
        provenance.require_same_settings(study.records, noted.sections)
        noted.settle()
        with artifacts.together(noted.confirm):
            page = replace(contents.report(study), made=run.made)
            pages.write(page, "reports", "plots/page")
            artifacts.write_text(card.card(study), "reports/model_card.md")
            confusion = partial(answers.confusion_rows, study.answers)
            artifacts.write_csv(confusion("frozen"), "plots/report/confusion_frozen.csv")
            artifacts.write_csv(confusion("finetuned"), "plots/report/confusion_finetuned.csv")
            artifacts.write_text(answers.predictions_csv(study.answers), "reports/predictions.csv")
            artifacts.write_json(bounds.intervals(study), "reports/intervals.json")
            artifacts.write_json(record.values(), "reports/run.json")
        run.dataset(study.records["download"].facts, study.metrics["download"])
        curves = {"train_frozen": study.frozen_curve, "finetune": study.finetuned_curve}
        run.whole(study.metrics, {stage: rows.to_dict("records") for stage, rows in curves.items()})
    console.say(f"report: {page.answer}")
    console.answer("report", "the page is reports/report.html")


def read(cfg: Params) -> Study:
    """Everything that the stages left."""
    scaling, compared, assessed = _scaling(cfg), _compared(cfg), _assessed()
    audit = audit_results.read(
        metrics="metrics/audit.json",
        run="data/runs/audit.json",
        copies="plots/audit/near_copies.csv",
        labels="plots/audit/doubtful_labels.csv",
        thumbnails="data/audit/thumbnails.pt",
    )
    data_efficiency = data_efficiency_results.read(
        metrics="metrics/data_efficiency.json",
        run="data/runs/data_efficiency.json",
        probes="plots/data_efficiency/probes.csv",
        rungs="plots/data_efficiency/rungs.csv",
    )
    predictions = answers.joined(
        artifacts.load("data/predictions/baseline.pt"),
        artifacts.load("data/predictions/train_frozen.pt"),
        artifacts.load("data/predictions/finetune.pt"),
    )
    return Study(
        settings=_every_setting(cfg),
        metrics=_metrics(scaling, compared)
        | {"evidence": assessed.metrics, "audit": audit.metrics, "data_efficiency": data_efficiency.metrics},
        records=_records(scaling, compared, {"audit": audit.run, "data_efficiency": data_efficiency.run}),
        answers=answers.named(predictions),
        best_head=artifacts.read_json("models/best_head.json"),
        frozen_curve=pd.read_csv("plots/train_frozen/curves.csv"),
        finetuned_curve=pd.read_csv("plots/finetune/curves.csv"),
        trials=pd.read_csv("plots/tune_head/trials.csv"),
        trial_curves=pd.read_csv("plots/tune_head/curves.csv"),
        importances=pd.read_csv("plots/tune_head/importances.csv"),
        scaling=scaling,
        compared=compared,
        assessed=assessed,
        images=_images(predictions, assessed),
        audit=audit,
        data_efficiency=data_efficiency,
    )


def _every_setting(cfg: Params) -> dict[str, Any]:
    return (
        {"seed": cfg.seed, "lr": cfg.lr, "deterministic": cfg.deterministic, "class_weights": cfg.class_weights}
        | {"dataset": cfg.dataset, "backbone": cfg.backbone, "augment": cfg.augment}
        | {"features": cfg.features, "inference": cfg.inference, "audit": cfg.audit}
        | {"data_efficiency": cfg.data_efficiency}
        | {"baseline": cfg.baseline, "comparison": cfg.comparison, "compared_backbones": cfg.compared_backbones}
        | {"tune_head": cfg.tune_head, "train_frozen": cfg.train_frozen}
        | {"finetune": cfg.finetune, "scaling": cfg.scaling, "scaling_search": cfg.scaling_search}
        | {"scaling_ablation": cfg.scaling_ablation, "scaling_arms": cfg.scaling_arms, "evidence": cfg.evidence}
        | {"export": cfg.export, "report": cfg.report}
    )


def _images(predictions: Mapping[str, Any], assessed: AssessedResults) -> Images:
    """The images themselves, read as they are shown, and what the methods named them."""
    train, test = (artifacts.load(path, mmap=True) for path in ("data/images/train.pt", "data/images/test.pt"))
    frozen, finetuned = (
        examples.named_on_test(predictions, method, assessed.temperature(method)) for method in ("frozen", "finetuned")
    )
    return Images(
        train=train["images"],
        labels=train["labels"],
        test=test["images"],
        classes=test["classes"],
        frozen=frozen,
        finetuned=finetuned,
        explained=artifacts.load("data/explain/pictures.pt"),
    )


def _scaling(cfg: Params) -> ScalingResults:
    return read_scaling(
        cfg.scaling_arms,
        metrics="metrics/scaling_ablation",
        runs="data/runs/scaling_ablation",
        predictions="data/predictions/scaling_ablation",
        curves="plots/scaling_ablation",
        search="metrics/scaling_search.json",
        search_run="data/runs/scaling_search.json",
        coefficients="models/coefficients.json",
        candidates="plots/scaling_search/candidates.csv",
    )


def _compared(cfg: Params) -> ComparisonResults:
    return compared_results.read(
        cfg.compared_backbones,
        metrics="metrics/compare_backbones",
        runs="data/runs/compare_backbones",
        predictions="data/predictions/compare_backbones",
    )


def _assessed() -> AssessedResults:
    return assessed_results.read(
        metrics=artifacts.read_json("metrics/evidence.json"),
        scores="plots/evidence/scores.csv",
        classes="plots/evidence/classes.csv",
        reliability="plots/evidence/reliability.csv",
        coverage="plots/evidence/coverage.csv",
        differences="plots/evidence/differences.csv",
        seeds="plots/evidence/seeds.csv",
        options="plots/evidence/options.csv",
    )


def _metrics(scaling: ScalingResults, compared: ComparisonResults) -> dict[str, Mapping[str, Any]]:
    """By stage."""
    return {
        "download": artifacts.read_json("metrics/download.json"),
        "baseline": artifacts.read_json("metrics/baseline.json"),
        "tune_head": artifacts.read_json("metrics/tune_head.json"),
        "train_frozen": artifacts.read_json("metrics/train_frozen.json"),
        "finetune": artifacts.read_json("metrics/finetune.json"),
        "export": artifacts.read_json("metrics/export.json"),
        **compared.stage_metrics,
        **scaling.stage_metrics,
    }


def _records(
    scaling: ScalingResults, compared: ComparisonResults, probed: Mapping[str, StageRecord]
) -> dict[str, StageRecord]:
    """By stage, in the order in which stages run; `probed`: of those on features that are read already."""
    return {
        "download": stage_records.read("data/runs/download.json"),
        "extract_features": stage_records.read("data/runs/extract_features.json"),
        "baseline": stage_records.read("data/runs/baseline.json"),
        "tune_head": stage_records.read("data/runs/tune_head.json"),
        "train_frozen": stage_records.read("data/runs/train_frozen.json"),
        "finetune": stage_records.read("data/runs/finetune.json"),
        "average_flips": stage_records.read("data/runs/average_flips.json"),
        "evidence": stage_records.read("data/runs/evidence.json"),
        "explain": stage_records.read("data/runs/explain.json"),
        **probed,
        "export": stage_records.read("data/runs/export.json"),
        **compared.stage_runs,
        **scaling.stage_runs,
    }


if __name__ == "__main__":
    console.run(main)
