"""What a study ran on: its data and their repeated images, machine, versions and settings, and warnings about them.

N images, K classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

import pandas as pd

from src.base.stage_records import StageRecord
from src.report import pictures
from src.report.numbers import NARROW, count, duration, percent
from src.report.pages import Section, Table
from src.report.study import Study

TOOK = "What it took"
NAMED = 10  # bad files that a warning names
SOFTWARE = ("python", "platform", "torch", "torchvision", "numpy", "scikit-learn", "optuna", "pandas", "pillow")


def require_same_settings(records: Mapping[str, StageRecord], sections: Mapping[str, Any]) -> None:
    """DVC looks at params.yaml after a stage has ended: what changes in that moment, it files under the wrong values.

    Args:
        records: of each stage, with the sections that made it.
        sections: those that the report was given, a family's as a whole.

    Raises:
        ValueError: a stage ran under other values.
    """
    for stage, record in records.items():
        for name, made in record.params.items():
            family, _, member = name.partition(".")
            now = sections[family].get(member) if member else sections[family]
            if made != now:
                key, before, after = _first_difference(name, made, now)
                raise ValueError(
                    f"{stage} ran with {key} {before}, and params.yaml has {after}: `dvc repro -f -s {stage}` makes it "
                    "again with that"
                )


def _first_difference(name: str, made: Any, now: Any) -> tuple[str, Any, Any]:
    """The key that differs, and both its values."""
    if isinstance(made, Mapping) and isinstance(now, Mapping):
        key = next(key for key in {**made, **now} if made.get(key) != now.get(key) or (key in made) != (key in now))
        return _first_difference(f"{name}.{key}", made.get(key), now.get(key))
    return name, made, now


def duplicate_warnings(download: Mapping[str, Any]) -> list[str]:
    """One warning where test images also occur in train."""
    shared, images = download["across"]["train_test"], download["test"]["images"]
    if not shared:
        return []
    occur = "occurs" if shared == 1 else "occur"
    return [
        f"{count(shared)} of {count(images)} test images ({percent(shared / images)}) also {occur} in the training "
        "split, pixel for pixel. A method may remember them: each test accuracy here may be too high by up to that."
    ]


def skipped_warnings(record: StageRecord) -> list[str]:
    """One warning that names the files that were no images, where there were some; `record` of download."""
    skipped = record.facts.get("skipped") or {}
    if not skipped:
        return []
    shown = [f"{name} ({what})" for name, what in list(skipped.items())[:NAMED]]
    more = f" and {len(skipped) - NAMED} more, which data/runs/download.json names" if len(skipped) > NAMED else ""
    were = "file was" if len(skipped) == 1 else "files were"
    return [f"{count(len(skipped))} bad {were} left out (dataset.bad_files: skip): {', '.join(shown)}{more}."]


def own_split(study: Study) -> str:
    """How this study split images that came without train/ and test/, in a sentence; empty where they came with."""
    dataset, copies = study.settings["dataset"], study.records["download"].facts.get("copies")
    if copies is None:
        return ""
    return (
        f"This study split the images itself: {percent(dataset.test_fraction)} of them are test and "
        f"{percent(dataset.val_fraction)} of the others validation, stratified by class, by seed {dataset.split_seed}. "
        f"{count(copies)} {'is a copy or near copy' if copies == 1 else 'are copies or near copies'} of another by a "
        "hash of what it shows, and each stays on the side of what it copies."
    )


def version_warnings(records: Mapping[str, StageRecord]) -> list[str]:
    """One warning where the device, the threads or a software are not the same in all stages that name them."""
    differ = [key for key in ("device", "threads", *SOFTWARE) if len(_by_value(records, key)) > 1]
    if not differ:
        return []
    return [
        f"Not all stages ran alike, but with different {', '.join(differ)}: the chapter {TOOK} says which ran how, and "
        "dvc repro -f makes all of them again, here."
    ]


def _by_value(records: Mapping[str, StageRecord], key: str) -> dict[str, list[str]]:
    """The stages that ran under each value of a condition."""
    stages: dict[str, list[str]] = {}
    for stage, record in records.items():
        if key in record.conditions:
            stages.setdefault(str(record.conditions[key]), []).append(stage)
    return stages


def data(study: Study) -> Section:
    """Sizes, repeated images and where everything came from."""
    download = study.metrics["download"]
    across = {name: count(number) for name, number in download["across"].items()}
    shared = {"train": ("", ""), "val": (across["train_val"], ""), "test": (across["train_test"], across["val_test"])}
    rows = [
        [split, count(download[split]["images"]), count(download[split]["duplicates"]), *shared[split]]
        for split in ("train", "val", "test")
    ]
    columns = ["Split", "Images", "Repeats within", "Also in train", "Also in val"]
    dataset, backbone, features = (
        study.settings["dataset"],
        study.settings["backbone"],
        study.records["extract_features"].facts,
    )
    origin = {
        "Dataset": dataset.name,
        "Source": study.records["download"].facts.get("source"),
        "SHA-256 of the source": study.records["download"].facts.get("source_sha256"),
        "Split": own_split(study),
        "Files left out": count(download["skipped"]) if download["skipped"] else "",
        "Backbone": backbone.name,
        "Weights": features.get("weights", backbone.weights),
        "SHA-256 of the weights": features.get("weights_sha256"),
        "Resolution": f"{features['resolution']} pixels",
        "Resolution when fine-tuned": f"{study.records['finetune'].facts['resolution']} pixels",
        "Features computed by": features["engine"],
        "Head": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in study.best_head.items()),
    }
    known = [[name, value] for name, value in origin.items() if value]
    return Section(
        title="What it ran on",
        blocks=[
            Table(
                name="study", caption="The study.", rows=pd.DataFrame(known, columns=["Item", "Value"]), text_columns=2
            ),
            Table(
                name="images",
                caption="Images, and how many of them are exact copies, pixel for pixel.",
                rows=pd.DataFrame(rows, columns=columns),
            ),
            *pictures.training(study.images),
        ],
    )


def machine(study: Study) -> Section:
    """What each stage took, and the software it ran with."""
    rows = [
        [
            stage,
            str(record.facts.get("device", "")),
            *(duration(record.seconds), f"{count(record.peak_memory_mb)}{NARROW}MiB"),
            *(str(record.facts.get("threads", "")), _speed(record)),
        ]
        for stage, record in study.records.items()
    ]
    columns = ["Stage", "Device", "Time", "Peak memory", "Threads", "Images/s"]
    used = {key: _by_value(study.records, key) for key in SOFTWARE}
    software = [
        [key, value, ", ".join(stages) if len(versions) > 1 else "all"]
        for key, versions in used.items()
        for value, stages in versions.items()
    ]
    return Section(
        title=TOOK,
        folded=True,
        blocks=[
            "Each figure of this page is a file in plots/page as well, and so is each table.",
            Table(
                name="stages",
                caption="What each stage took when it last ran.",
                rows=pd.DataFrame(rows, columns=columns),
                text_columns=2,
            ),
            Table(
                name="versions",
                caption="Versions.",
                rows=pd.DataFrame(software, columns=["Software", "Version", "Stages"]),
                text_columns=3,
            ),
        ],
    )


def _speed(record: StageRecord) -> str:
    facts = record.facts
    return count(round(facts["images_per_second"])) if "images_per_second" in facts else ""


def settings(study: Study) -> Section:
    rows = []
    for name, section in study.settings.items():
        if isinstance(section, Mapping):
            rows += [[f"{name}.{key}", _values(own, unset="as the others")] for key, own in section.items()]
            rows += [] if section else [[name, "none"]]
        else:
            rows.append([name, _values(section)])
    table = Table(
        name="settings",
        caption="Every value of params.yaml.",
        rows=pd.DataFrame(rows, columns=["Section", "Values"]),
        text_columns=2,
    )
    return Section(title="Settings", blocks=[table], folded=True)


def _values(section: Any, unset: str | None = None) -> str:
    """Every value of a section; given `unset`, only those that are not None, and `unset` where all are."""
    values = asdict(section) if is_dataclass(section) and not isinstance(section, type) else {"": section}
    shown = [(key, value) for key, value in values.items() if unset is None or value is not None]
    return ", ".join(f"{key} {_shown(value)}".strip() for key, value in shown) or str(unset)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items()) + ")"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(_shown, value)) + ")"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
