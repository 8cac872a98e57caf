"""How a stage ran: what it was set to, what it took, under which versions. `data/runs/<stage>.json` holds it."""

import platform
import resource
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "optuna", "pandas", "pillow", "dvc", "mlflow")


class StageRecord:
    """What a stage tells about itself; its clock starts when it is made.

    Args:
        stage: its name, or `family@member`.
        params: the sections and values of params.yaml that it was given, by their dotted names.
    """

    def __init__(self, stage: str, params: Mapping[str, Any]) -> None:
        self.stage, self.params = stage, params
        self._noted = dict[str, Any]()
        self._began = time.monotonic()

    def note(self, **values: Any) -> None:
        """Facts that may differ between runs: device, threads, images_per_second, ..."""
        self._noted.update(values)

    def machine(self) -> dict[str, Any]:
        """What it took: seconds since its start, peak memory of this process (MiB), versions, what was noted.

        No id of an MLflow run: a stage restored from DVC's cache makes none, and the file must still be true.
        """
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
        return {
            "stage": self.stage,
            "seconds": round(time.monotonic() - self._began, 1),
            "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
            **versions(),
            **self._noted,
        }

    def values(self) -> dict[str, Any]:
        """All of it, for the file."""
        return self.machine() | {"params": dict(self.params)}


def versions() -> dict[str, str]:
    """Versions of what can change a result, read without importing it."""
    installed = {dist: metadata.version(dist) for dist in PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **installed}
