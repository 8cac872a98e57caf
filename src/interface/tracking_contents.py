"""What goes into a run of MLflow besides its scores: the data that it was given, what a whole study found, its page."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.interface.tracking_names import numbers
from src.interface.tracking_store import Handle, Point, Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = Mapping[str, Any]
DIGEST = 12  # characters of a digest, of which MLflow takes 36 and its page shows few
CONTEXTS = {"train": "training", "val": "validation", "test": "testing"}


def splits_among(files: Mapping[str, str | None], dataset: str) -> list[tuple[str, str, str, str]]:
    """Name, digest, path and context of the splits among `files`, which are SHA-256 by path."""
    found = [(Path(path), digest) for path, digest in files.items() if path.endswith(".pt") and digest]
    return [
        (f"{dataset}: {path.parent.name}/{path.stem}", digest, str(path), CONTEXTS[path.stem])
        for path, digest in found
        if path.stem in CONTEXTS
    ]


def whole_dataset(values: Mapping[str, str], facts: Row, found: Row) -> tuple[str, str, str, str]:
    """The same of the dataset as `download` noted (`facts`) and counted (`found`) it, under the values of params.yaml.

    The digest is of these values, the source's SHA-256 and the counts.
    """
    own = {key: text for key, text in values.items() if key.startswith("dataset.")}
    digest = hashlib.sha256(json.dumps([own, facts.get("source_sha256"), found], sort_keys=True).encode()).hexdigest()
    return values["dataset.name"], digest, str(facts.get("source")), "all splits"


def log_inputs(sender: Sender, run: Handle, sets: Sequence[tuple[str, str, str, str]], profile: str = "") -> None:
    def log(client: "MlflowClient") -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = []
        for name, digest, source, context in sets:
            of = Dataset(name, digest[:DIGEST], "local", json.dumps({"uri": source}), profile=profile or None)
            inputs.append(DatasetInput(of, [InputTag("mlflow.data.context", context)]))
        client.log_inputs(run.id, inputs)

    if sets:
        sender.ask(log)


def log_whole(sender: Sender, run: Handle, metrics: Mapping[str, Row], at: int) -> None:
    """Log every stage's metrics, `metrics` by stage; `download`'s among them say how many images there are."""
    splits = metrics.get("download", {})
    images = {split: splits[split]["images"] for split in CONTEXTS if split in splits}
    values = {key: x for stage, found in metrics.items() for key, x in numbers(found, stage, images).items()}
    sender.log(run, metrics=points(values, at), tags={"complete": "true"})


def upload(sender: Sender, run: Handle, folder: str, tables: Mapping[str, str]) -> None:
    """Make artifacts of the files of `folder`, and of `tables`, texts by their names."""
    sender.ask(lambda client: client.log_artifacts(run.id, folder, Path(folder).name))

    def log_tables(client: "MlflowClient") -> None:
        for name, text in tables.items():
            client.log_text(run.id, text, name)

    sender.ask(log_tables)


def points(values: Mapping[str, float], at: int, step: int = 0) -> list[Point]:
    """As `Sender.log` takes them; `at` in milliseconds."""
    return [(key, value, at, step) for key, value in values.items()]
