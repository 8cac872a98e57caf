"""Experiments made up for the tests of their comparison: what a finished one left, in memory. N images, K classes."""

import copy
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from src.report import experiments
from src.report.experiments import Experiment
from src.report.revisions import Revision
from src.training import metrics
from tests.builders.report import NAMES, curve

SIZES = {"train": 60, "val": 40, "test": 200}
STAGES = ("download", "baseline", "train_frozen", "finetune", "report")
PIPELINE = {name: {"cmd": f"python -m stages.{name}"} for name in STAGES}
PIPELINE["scaling_ablation"] = {"foreach": "${scaling_arms}", "do": {}}
PARAMS = {
    "seed": 0,
    "lr": 0.003,
    "dataset": {"name": "digits", "source": None, "split_seed": 0, "image_size": 8},
    "finetune": {"epochs": 6},
    "scaling_arms": {},
}


@dataclass(frozen=True, kw_only=True)
class Stored(Revision):
    """A revision whose files are these: texts, or tensors of .pt."""

    files: Mapping[str, Any] = field(repr=False)

    def read(self, path: str) -> bytes | None:
        found = self.files.get(path)
        return found.encode() if isinstance(found, str) else None

    def load(self, path: str) -> dict[str, Any] | None:
        return self.files.get(path)


def revision(
    name: str = "sample",
    *,
    shares: Mapping[str, float] | None = None,
    luck: int = 0,
    params: Mapping[str, Any] | None = None,
    classes: tuple[str, ...] = NAMES,
    images: str = "images",
    code: str = "code",
    arms: Mapping[str, Mapping[int, float]] | None = None,
    baselines: Mapping[str, float] | None = None,
    without: tuple[str, ...] = (),
    baseline: str = "b" * 40,
) -> Stored:
    """A finished experiment.

    Args:
        shares: of images that `frozen` and `finetuned` name right, about; the same shares and luck give the same bytes.
        luck: of the draw of who is right.
        params: over PARAMS, a section as a whole.
        images, code: digests of all splits, and of the code of finetune.
        arms: accuracies by seed.
        baselines: shares of images that methods of the stage `baseline` name right, about.
        without: stages that did not run.
    """
    shares, arms = {"frozen": 0.7, "finetuned": 0.8} | dict(shares or {}), dict(arms or {})
    values = {**copy.deepcopy(PARAMS), **(params or {}), "scaling_arms": {arm: {} for arm in arms}}
    labels = {split: torch.arange(size) % len(classes) for split, size in SIZES.items()}
    files: dict[str, Any] = {
        "params.yaml": yaml.safe_dump(values),
        "dvc.yaml": yaml.safe_dump({"stages": PIPELINE}, sort_keys=False),
    }
    outs = {stage: {} for stage in STAGES}
    for split, size in SIZES.items():
        files[f"data/images/{split}.pt"] = {"images": torch.full((size, 1, 8, 8), 99, dtype=torch.uint8)}
        outs["download"][f"data/images/{split}.pt"] = f"{images} {split}"
    for stage, method in {"train_frozen": "frozen", "finetune": "finetuned"}.items():
        logits = {split: _logits(own, shares[method], (luck, len(method))) for split, own in labels.items()}
        scores = {split: metrics.score(logits[split], own) for split, own in labels.items()}
        files[f"data/predictions/{stage}.pt"] = metrics.collect_predictions({method: logits}, labels, classes)
        files[f"metrics/{stage}.json"] = json.dumps(scores | {"best_epoch": 5})
        outs[stage][f"data/predictions/{stage}.pt"] = f"{shares[method]} {luck} {classes}"
        rows = io.StringIO()
        curve(6, shares[method], backbone=stage == "finetune").to_csv(rows, index=False)
        files[f"plots/{stage}/curves.csv"] = rows.getvalue()
    if baselines:
        logits_by = {
            method: {split: _logits(own, share, (luck, len(method))) for split, own in labels.items()}
            for method, share in baselines.items()
        }
        own_scores = {
            split: {method: metrics.score(by[split], labels[split])["accuracy"] for method, by in logits_by.items()}
            for split in ("val", "test")
        }
        files["data/predictions/baseline.pt"] = metrics.collect_predictions(logits_by, labels, classes)
        files["metrics/baseline.json"] = json.dumps(
            {"neighbours": own_scores["test"]["nearest_neighbours"], **own_scores}
        )
        outs["baseline"]["data/predictions/baseline.pt"] = f"{baselines} {luck} {classes}"
    for arm, reached in arms.items():
        _arm(files, outs.setdefault(f"scaling_ablation@{arm}", {}), arm, reached, labels, classes)
    files["metrics/download.json"] = json.dumps({split: {"images": size} for split, size in SIZES.items()})
    lock = {}
    for stage in (stage for stage in outs if stage not in without):
        path = f"data/runs/{stage.replace('@', '/')}.json"
        facts = {"device": "cpu"} | ({"source_sha256": None} if stage == "download" else {})
        record = {"seconds": 10.0, "peak_memory_mb": 500, "versions": {"torch": "2.15.0"}, "facts": facts}
        files[path] = json.dumps(record)
        deps = [{"path": f"stages/{stage}.py", "md5": code if stage == "finetune" else "same"}]
        counted = f"metrics/{stage.replace('@', '/')}.json"
        outs[stage] |= {counted: files[counted]} if counted in files else {}
        found = [{"path": path, "md5": digest} for path, digest in outs[stage].items()]
        lock[stage] = {"cmd": "", "deps": deps, "outs": found, "params": {"params.yaml": {"lr": values["lr"]}}}
    files["dvc.lock"] = json.dumps({"schema": "2.0", "stages": lock})
    return Stored(name=name, commit=name.ljust(40, "0"), baseline=baseline, files=files)


def experiment(name: str = "sample", **what: Any) -> Experiment:
    return experiments.read(revision(name, **what))


def _logits(labels: torch.Tensor, share: float, luck: tuple[int, int]) -> torch.Tensor:
    """Right for about `share` of the images; of one luck, a larger share is right wherever a smaller one is."""
    ease = np.random.default_rng([*luck, len(labels)]).random(len(labels))
    wrong = torch.from_numpy(ease >= share).long()
    return 3 * torch.nn.functional.one_hot((labels + wrong) % (int(labels.max()) + 1), int(labels.max()) + 1).float()


def _arm(
    files: dict[str, Any], outs: dict[str, str], arm: str, reached: Mapping[int, float], labels: Any, classes: Any
) -> None:
    judged = {split: labels[split] for split in ("val", "test")}
    logits = {}
    for seed, share in reached.items():
        answers = {
            s: (own + (torch.arange(len(own)) >= round(share * len(own)))) % len(classes) for s, own in judged.items()
        }
        logits[f"seed {seed}"] = {
            s: torch.nn.functional.one_hot(own, len(classes)).float() for s, own in answers.items()
        }
    stored = metrics.collect_predictions(logits, judged, classes)
    path = f"data/predictions/scaling_ablation/{arm}.pt"
    files[path] = stored
    outs[path] = str(reached)
    scores = {}
    for number, split in ((1, "val"), (2, "test")):
        rows = stored["split"] == number
        hits = [(own.argmax(1) == stored["label"])[rows].double().mean().item() for own in stored["logits"].values()]
        scores[split] = {"accuracy": float(np.mean(hits)), "accuracy_std": float(pd.Series(hits).std())}
    files[f"metrics/scaling_ablation/{arm}.json"] = json.dumps(scores)
