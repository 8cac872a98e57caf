"""A model in MLflow's registry: as a package that serves itself, and beside the version that is in use.

N images of test, K classes.
"""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.base import artifacts
from src.evidence import paired
from src.images.encoding import png
from src.interface import tracking_experiments, tracking_store
from src.use.answering import Model
from src.use.answers import COLUMN, NEVER

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION = "candidate", "champion"
ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements-serve.txt"
SERVED = "src/use/served.py"
CODE = ("src/images/decoding.py", "src/use/answering.py", "src/use/answers.py")  # what it imports
TEST = "test.json"
TOP = 5  # classes of an answer, where a request says nothing else
UPLOAD_SECONDS = 120  # of one request to a server: a model is megabytes
_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
NEEDS = "needs MLflow: pip install -r requirements-serve.txt"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a version did on test.

    Attributes:
        images_sha256: of the file of these images; versions are compared on the same ones alone.
        labels, named: each image's class and the class that it was taken for, N indices.
    """

    images_sha256: str
    labels: Sequence[int]
    named: Sequence[int]

    @property
    def right(self) -> paired.Right:
        """(N,)."""
        found: paired.Right = np.asarray(self.labels) == np.asarray(self.named)
        return found


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the candidate takes the champion's place, and why, in words."""

    better: bool
    why: str


def verdict(candidate: Standing, champion: Standing) -> Verdict:
    """By the interval of the paired difference on the same images of test."""
    if candidate.images_sha256 != champion.images_sha256:
        return Verdict(better=False, why="it was measured on other test images, which settles nothing")
    found = paired.compare({CANDIDATE: candidate.right, CHAMPION: champion.right})[0]
    points = f"{100 * found.difference:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}], paired by image"
    return Verdict(better=found.low > 0, why=points)


def client(sender: tracking_store.Sender) -> "MlflowClient":
    """Of the store where the study's runs are.

    Raises:
        ValueError: MLflow is not installed.
    """
    os.environ[_TIMEOUT] = str(max(int(os.environ[_TIMEOUT]), UPLOAD_SECONDS))  # tracking_store's is for small things
    try:
        import mlflow
    except ImportError:
        raise ValueError(NEEDS) from None
    if sender.local:
        tracking_store.probe(sender.uri)
    mlflow.set_tracking_uri(sender.uri)
    mlflow.set_registry_uri(sender.uri)
    return mlflow.MlflowClient(sender.uri, sender.uri)


def choose_group(client: "MlflowClient", sender: tracking_store.Sender, dataset: str) -> None:
    """What is logged from here on goes to the experiment of this dataset's runs."""
    import mlflow

    mlflow.set_experiment(experiment_id=tracking_experiments.open_group(client, dataset, sender.artifacts))


def signature(model: Model) -> Any:
    """A column of texts in, answers out; `top` and `threshold` may be asked for."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    named = Object([Property("class", DataType.string), Property("probability", DataType.double)])
    threshold = NEVER if model.threshold is None else model.threshold
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, COLUMN)]),
        outputs=Schema([ColSpec(DataType.string, "answer", required=False), ColSpec(Array(named), "top")]),
        params=ParamSchema([ParamSpec("top", "long", TOP), ParamSpec("threshold", "double", threshold)]),
    )


def example(model: Model) -> Any:
    """A grey image of the stored size, as a request would have it."""
    import pandas as pd

    grey = np.full((3, model.size, model.size), 128, np.uint8)
    return pd.DataFrame({COLUMN: [base64.b64encode(png(grey)).decode()]})


def add(
    client: "MlflowClient", name: str, model: Model, file: str | Path, standing: Standing, tags: Mapping[str, str]
) -> str:
    """Add a version to the registered model `name`, and to the models of the dataset's experiment; its number.

    Args:
        file: of `model`.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        test = Path(folder, TEST)
        test.write_text(json.dumps(asdict(standing)))
        packed = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(ROOT / SERVED),
            artifacts={"model": str(file), "test": str(test)},
            code_paths=[str(_code(Path(folder)))],
            signature=signature(model),
            input_example=example(model),
            pip_requirements=requirements(),
            tags=dict(tags),
        )
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(name, packed.model_uri, tags=dict(tags), model_id=packed.model_id)
    return str(made.version)


def requirements() -> list[str]:
    """What a server needs, as requirements-serve.txt pins it."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def _code(folder: Path) -> Path:
    """`src` with the files that the served model imports, and no others."""
    for name in CODE:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
        for package in target.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
    return folder / "src"


def by_alias(client: "MlflowClient", name: str, alias: str) -> Any | None:
    """The version that `alias` names, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def by_digest(client: "MlflowClient", name: str, sha256: str) -> str | None:
    """The number of the version with this file, the newest first; None where there is none."""
    found = client.search_model_versions(f"name = '{name}'")
    same = [int(each.version) for each in found if each.tags.get("onnx_sha256") == sha256]
    return str(max(same)) if same else None


def standing_of(client: "MlflowClient", version: Any) -> Standing:
    """What was noted of a version when it was registered."""
    import mlflow

    source = client.get_model_version_download_uri(version.name, version.version)
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{source}/artifacts/{TEST}", dst_path=folder)
        return Standing(**artifacts.read_json(path))
