"""The sides of a comparison: experiments, those that differ in their seed alone as one. N images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.base.splits import SPLITS
from src.evidence import changes
from src.evidence.changes import Scored
from src.report.experiments import IMAGES, Experiment
from src.report.numbers import listed

# Whose score a stage's `split.accuracy` is; members of scaling_ablation have a classifier for each seed.
MAIN = {"train_frozen": "frozen", "finetune": "finetuned", "compare_backbones": "probe"}
OWN_SEEDS = "scaling_ablation"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One experiment, or several that differ in their seed alone."""

    members: Sequence[Experiment]

    @property
    def head(self) -> Experiment:
        return self.members[0]

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def label(self) -> str:
        """With its seeds, where it has several."""
        if len(self.members) == 1:
            return self.name
        return f"{self.name} (seeds {listed(str(each.seed) for each in self.members)})"

    def metric(self, stage: str, leaf: str) -> float | None:
        """Mean over the members of metrics/<stage>.json's `leaf`; None where one has no such number."""
        found = [_leaf(each.metrics.get(stage, {}), leaf) for each in self.members]
        return float(np.mean(found)) if all(isinstance(x, int | float) for x in found) else None

    def logits(self, stage: str, method: str, split: str) -> dict[int, tuple[NDArray[Any], NDArray[np.int64]]]:
        """Logits (N, K) and labels (N,) of each training by its seed, where the stage left them."""
        if stage.startswith(f"{OWN_SEEDS}@"):
            stored = self.head.predictions(stage) or {}
            names = {int(name.removeprefix("seed ")): name for name in stored.get("logits", {})}
            return {seed: _of(stored, name, split) for seed, name in names.items()}
        found = {each.seed: each.predictions(stage) for each in self.members}
        return {seed: _of(each, method, split) for seed, each in found.items() if each and method in each["logits"]}

    def scored(self, stage: str, leaf: str) -> dict[int, Scored]:
        """The trainings whose mean the metric `leaf` is, by seed; none where predictions do not give that number."""
        split = leaf.partition(".")[0]
        if split not in SPLITS:
            return {}
        answers = self.logits(stage, method_of(stage, leaf), split)
        runs = {seed: changes.scored(logits, labels) for seed, (logits, labels) in answers.items() if len(labels)}
        known = self.metric(stage, leaf)
        if not runs or known is None:
            return {}
        mean = np.mean([run.mean(kind(leaf)) for run in runs.values()])
        return runs if abs(mean - known) < (1e-9 if kind(leaf) == "accuracy" else 1e-4) else {}

    def named(self, stage: str, leaf: str) -> list[list[int]]:
        """The classes (N,) that each training whose score `leaf` is named, by seed; none where they are not stored."""
        answers = self.logits(stage, method_of(stage, leaf), leaf.partition(".")[0])
        return [logits.argmax(axis=1).tolist() for _, (logits, _) in sorted(answers.items(), key=lambda own: own[0])]


def method_of(stage: str, leaf: str) -> str:
    """Whose score `leaf` is, as its predictions call it."""
    score = leaf.partition(".")[2]
    return MAIN.get(stage.partition("@")[0], "") if score in ("accuracy", "loss") else score


def kind(leaf: str) -> str:
    """ "accuracy" or "loss"."""
    return "loss" if leaf.endswith(".loss") else "accuracy"


def grouped(experiments: Sequence[Experiment]) -> list[Side]:
    """Those that differ in their seed alone as one side, in the order in which the first of each was named.

    Where all are one such group, each is a side of its own: there is nothing else to compare.
    """
    groups: dict[str, list[Experiment]] = {}
    for each in experiments:
        groups.setdefault(_but_for_the_seed(each), []).append(each)
    if len(groups) == 1 or any(len({each.seed for each in own}) < len(own) for own in groups.values()):
        return [Side(members=[each]) for each in experiments]
    return [Side(members=own) for own in groups.values()]


def seed_groups(experiments: Sequence[Experiment]) -> list[Side]:
    """Groups of two experiments or more that differ in their seed alone."""
    groups: dict[str, dict[int, Experiment]] = {}
    for each in experiments:
        groups.setdefault(_but_for_the_seed(each), {}).setdefault(each.seed, each)
    return [Side(members=list(own.values())) for own in groups.values() if len(own) > 1]


def _but_for_the_seed(of: Experiment) -> str:
    own = {key: value for key, value in of.params.items() if key not in ("seed", "report")}
    code = {stage: {path: md5 for path, md5 in of.inputs(stage).items() if path.endswith(".py")} for stage in of.lock}
    code.pop("report", None)
    images = [of.outputs("download").get(IMAGES.format(split)) for split in SPLITS]
    return json.dumps([own, code, images], sort_keys=True)


def _of(stored: Mapping[str, Any], method: str, split: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    rows = stored["split"] == SPLITS.index(split)
    return stored["logits"][method][rows].numpy(), stored["label"][rows].numpy()


def _leaf(values: Mapping[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values.get(part, {}) if isinstance(values, Mapping) else {}
    return values
