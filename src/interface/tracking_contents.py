"""What goes into a run of MLflow besides its scores: the data that it was given, what a whole study found, its page."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.interface.tracking_names import of_an_epoch
from src.interface.tracking_names import whole as numbers_of_all
from src.interface.tracking_store import Handle, Point, Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = Mapping[str, Any]
DIGEST = 12  # characters of a digest, of which MLflow takes 36 and its page shows few
INTERVALS = "reports/intervals.json"  # [low, high] by name of a metric
FOLDERS = ("reports", "plots/page")  # what becomes an artifact: the page, predictions, figures and tables
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


def log_whole(
    sender: Sender, run: Handle, metrics: Mapping[str, Row], root: Path, at: int, *, complete: bool = True
) -> None:
    """Log every stage's metrics, `metrics` by stage, with intervals, and the folders of the report below `root`.

    `download`'s metrics say how many images there are; `complete`: whether these are of every stage.
    """
    splits, file = metrics.get("download", {}), root / INTERVALS
    images = {split: splits[split]["images"] for split in CONTEXTS if split in splits}
    intervals = json.loads(file.read_text()) if file.exists() else {}
    found = points(numbers_of_all(metrics, images, intervals), at)
    sender.log(run, metrics=found, tags={"complete": "true"} if complete else {})
    for folder in FOLDERS:
        if (root / folder).is_dir():
            sender.ask(partial(_log_folder, run=run, root=root, folder=folder))


def _log_folder(client: "MlflowClient", *, run: Handle, root: Path, folder: str) -> None:
    client.log_artifacts(run.id, str(root / folder), folder)


def log_curves(sender: Sender, run: Handle, curves: Mapping[str, Iterable[Mapping[Any, Any]]], at: int) -> None:
    """Log `curves`, epochs by stage, but for those of which the run has any."""
    rows = {stage: [(int(row["epoch"]), of_an_epoch(row, stage)) for row in of] for stage, of in curves.items()}

    def log(client: "MlflowClient") -> None:
        from mlflow.entities import Metric

        known = client.get_run(run.id).data.metrics
        lacking = [of for of in rows.values() if of and not known.keys() & of[0][1].keys()]
        found = [point for of in lacking for epoch, values in of for point in points(values, at, epoch)]
        client.log_batch(run.id, [Metric(*point) for point in found])

    sender.ask(log)


def points(values: Mapping[str, float], at: int, step: int = 0) -> list[Point]:
    """As `Sender.log` takes them; `at` in milliseconds."""
    return [(key, value, at, step) for key, value in values.items()]
