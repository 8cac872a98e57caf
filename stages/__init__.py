"""Stages, one script each. Started by another Python than the project's, a stage says so instead of a traceback.

Python imports this before the stage's script, and so before anything of `src`: what the stage is given is noted here.
"""

import sys
from importlib.util import find_spec

missing = [name for name in ("yaml", "torch", "torchvision", "mlflow", "pandas", "psutil") if find_spec(name) is None]
if missing:
    mend = "put .venv/bin first on PATH (source .venv/bin/activate), or use `make run`"
    sys.stderr.write(f"{sys.executable} has no {', '.join(missing)}: {mend}\n")
    raise SystemExit(2)

from stages import given  # noqa: E402 - only now is it known that there is a yaml to import

given.note()
