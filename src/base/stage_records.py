"""How a stage ran: what it was set to, what it took, under which versions. `data/runs/<stage>.json` holds it."""

import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from src.base import artifacts

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "optuna", "pandas", "pillow", "dvc", "mlflow")
SOMETIMES = ("timm",)  # what only some networks come from: named where it was imported


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """How a stage ran; no id of an MLflow run: one restored from DVC's cache makes none, and this must still be true.

    Attributes:
        stage: its name, or `family@member`.
        params: the sections and values of params.yaml that it was given, by their dotted names.
        seconds: that it took.
        peak_memory_mb: of its process, MiB.
        versions: of what can change a result.
        facts: what else may differ between runs: device, threads, images_per_second, ...
    """

    stage: str
    params: Mapping[str, Any]
    seconds: float
    peak_memory_mb: int
    versions: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def conditions(self) -> dict[str, Any]:
        """Versions and facts, by name."""
        return {**self.versions, **self.facts}


class Recorder:
    """Makes the record of `stage`; its clock starts when it is made."""

    def __init__(self, stage: str, params: Mapping[str, Any]) -> None:
        self.stage, self.params = stage, params
        self._facts = dict[str, Any]()
        self._began = time.monotonic()

    def note(self, **facts: Any) -> None:
        """Facts that may differ between runs: device, threads, images_per_second, ..."""
        self._facts.update(facts)

    def record(self) -> StageRecord:
        """How the stage ran until now."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
        return StageRecord(
            stage=self.stage,
            params=dict(self.params),
            seconds=round(time.monotonic() - self._began, 1),
            peak_memory_mb=round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            versions=versions(),
            facts=dict(self._facts),
        )

    def values(self) -> dict[str, Any]:
        """The record, for its file."""
        return asdict(self.record())


def read(path: str | Path) -> StageRecord:
    """What a stage wrote."""
    return StageRecord(**artifacts.read_json(path))


def versions() -> dict[str, str]:
    """Versions of what can change a result, read without importing it."""
    installed = {dist: metadata.version(dist) for dist in PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **installed, **imported()}


def imported() -> dict[str, str]:
    """Versions of SOMETIMES, as far as this process uses them."""
    return {dist: metadata.version(dist) for dist in SOMETIMES if dist in sys.modules}
