"""Where a stage that was killed finds what it had done: `.resume/`, keyed by all that could change the result."""

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from src import artifacts

OBSERVERS = {"src.params", "src.console", "src.tracking"}  # their code cannot change a result


def folder(stage: str, settings: Mapping[str, Any], inputs: Sequence[str]) -> Path:
    """The directory for the state of `stage` under these settings, input files, code, versions, threads and processor.

    It lies in the main checkout (DVC_ROOT), outside DVC's outputs, which DVC deletes before a stage runs.
    """
    code = {
        name: artifacts.sha256(module.__file__)
        for name, module in sorted(sys.modules.items())
        if name.startswith("src.") and name not in OBSERVERS and module.__file__
    }
    identity = {
        "settings": settings,
        "inputs": {path: artifacts.sha256(path) for path in inputs},
        "code": code,
        "versions": [platform.python_version(), torch.__version__],
        "machine": [torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()],
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=vars).encode()).hexdigest()
    return artifacts.main_checkout() / ".resume" / stage / digest[:16]
