"""What an experiment left, wherever DVC keeps it, and whether it is about the same images as another. N images."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any

import pandas as pd

from src.base.artifacts import leaves
from src.base.splits import SPLITS
from src.report.revisions import WORKSPACE, Revision

Json = Mapping[str, Any]

IMAGES = "data/images/{}.pt"
CURVES = {"train_frozen": "plots/train_frozen/curves.csv", "finetune": "plots/finetune/curves.csv"}
# Values of the section `dataset` that leave each image of test and validation where it is.
HARMLESS = ("image_size", "train_limit")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One state of the project with what its stages left; a stage is there when dvc.lock has it and its files are.

    Attributes:
        params: params.yaml.
        lock: dvc.lock, by stage; of families only members that params.yaml names.
        missing: stages of dvc.yaml that have not run.
        metrics, records: metrics/ and data/runs/, by stage.
    """

    revision: Revision
    params: Json
    lock: Mapping[str, Json]
    missing: tuple[str, ...]
    metrics: Mapping[str, Json]
    records: Mapping[str, Json]

    @property
    def name(self) -> str:
        return self.revision.name

    @property
    def seed(self) -> int:
        return int(self.params.get("seed", 0))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Of the first predictions that are there."""
        stored = (self.predictions(stage) for stage in self.lock)
        return next((tuple(each["classes"]) for each in stored if each), ())

    @cached_property
    def curves(self) -> Mapping[str, pd.DataFrame]:
        """By stage."""
        found = {stage: self.revision.read(path) for stage, path in CURVES.items() if stage in self.lock}
        return {stage: pd.read_csv(BytesIO(content)) for stage, content in found.items() if content}

    @cached_property
    def _predictions(self) -> dict[str, Json | None]:
        return {}

    def predictions(self, stage: str) -> Json | None:
        """data/predictions/<stage>.pt: label, split, index int64 (N,), logits float32 (N, K) by method, classes."""
        if stage not in self._predictions:
            path = f"data/predictions/{stage.replace('@', '/')}.pt"
            self._predictions[stage] = self.revision.load(path) if path in self.outputs(stage) else None
        return self._predictions[stage]

    @property
    def unread(self) -> list[str]:
        """Stages whose metrics dvc.lock names and that are not there."""
        counted = (stage for stage in self.lock if _path("metrics", stage) in self.outputs(stage))
        return [stage for stage in counted if stage not in self.metrics]

    def outputs(self, stage: str) -> dict[str, str]:
        """Digests by path."""
        return {each["path"]: each.get("md5", "") for each in self.lock.get(stage, {}).get("outs", [])}

    def inputs(self, stage: str) -> dict[str, str]:
        """Digests by path, code among them."""
        return {each["path"]: each.get("md5", "") for each in self.lock.get(stage, {}).get("deps", [])}


def read(revision: Revision) -> Experiment:
    """What `revision` left.

    Raises:
        ValueError: nothing has run there.
    """
    settings, pipeline, lock = (revision.yaml(name) for name in ("params.yaml", "dvc.yaml", "dvc.lock"))
    ran = lock.get("stages", {})
    names = list(_stages(pipeline.get("stages", {}), settings))
    if not set(names) & set(ran):
        what = "`dvc repro` has not run" if revision.name == WORKSPACE else "no dvc.lock is committed"
        raise ValueError(f"{revision.name} has no results: {what} there; allowed: an experiment whose stages ran")
    kept = {name: ran[name] for name in names if name in ran}
    return Experiment(
        revision=revision,
        params=settings,
        lock=kept,
        missing=tuple(name for name in names if name not in ran),
        metrics=_read(revision, kept, "metrics"),
        records=_read(revision, kept, "data/runs"),
    )


def _stages(pipeline: Json, settings: Json) -> Iterator[str]:
    """Names of stages, members of families by their own."""
    for name, stage in pipeline.items():
        family = str(stage.get("foreach", "")).strip("${}")
        yield from (f"{name}@{key}" for key in settings.get(family) or {}) if family else [name]


def _read(revision: Revision, stages: Json, folder: str) -> dict[str, Json]:
    found = {stage: revision.read(_path(folder, stage)) for stage in stages}
    return {stage: json.loads(content) for stage, content in found.items() if content}


def _path(folder: str, stage: str) -> str:
    return f"{folder}/{stage.replace('@', '/')}.json"


def values(settings: Json) -> dict[str, Any]:
    """Leaves of params.yaml, sections without any among them."""
    return dict(leaves(settings)) | {key: {} for key, value in settings.items() if value == {}}


def why_not_paired(first: Experiment, second: Experiment, split: str) -> str | None:
    """Why images of `split` cannot be compared one by one, in a few words; None where they can."""
    if first.classes != second.classes:
        return f"other classes ({len(first.classes)} and {len(second.classes)})"
    path = IMAGES.format(split)
    one, other = (each.outputs("download").get(path) for each in (first, second))
    if one == other:
        return None
    differing = [key for key in _drawn(first) | _drawn(second) if _drawn(first).get(key) != _drawn(second).get(key)]
    if split == SPLITS[0] or differing or not _labels_agree(first, second, split):
        return f"other images ({', '.join(differing) or 'another split'})"
    return None


def _drawn(of: Experiment) -> dict[str, Any]:
    """What decides which images are in a split."""
    own = {key: value for key, value in of.params.get("dataset", {}).items() if key not in HARMLESS}
    facts = of.records.get("download", {}).get("facts", {})
    return {f"dataset.{key}": value for key, value in own.items()} | {"the source": facts.get("source_sha256")}


def _labels_agree(first: Experiment, second: Experiment, split: str) -> bool:
    number = SPLITS.index(split)
    for stage in first.lock:
        one, other = first.predictions(stage), second.predictions(stage)
        if one and other:
            labels = [each["label"][each["split"] == number] for each in (one, other)]
            return len(labels[0]) == len(labels[1]) and bool(labels[0].equal(labels[1]))
    return False
