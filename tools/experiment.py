"""`dvc exp run` that replaces an experiment of its name once it has succeeded, and runs only what changed.

DVC's `--force` replaces one, but runs every stage again; without it, the earlier one has to go first, and is lost where
the new one fails. `python -m tools.experiment --name gentle --set-param lr=0.001`
"""

import sys
from typing import Any
from unittest.mock import patch

from dvc.cli import main as dvc
from dvc.repo.experiments.executor.base import BaseExecutor


def run(*options: str) -> int:
    """Run `dvc exp run` with these options; DVC's exit status."""
    reproduce = BaseExecutor._repro_and_track  # of a stage

    def unforced(stage: Any, **how: Any) -> Any:
        return reproduce(stage, **{**how, "force": False})

    with patch.object(BaseExecutor, "_repro_and_track", staticmethod(unforced)):
        status: int = dvc(["exp", "run", "--force", *options])
    return status


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
