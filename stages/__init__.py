"""Stages, one script each. Started by another Python than the project's, a stage says so instead of a traceback."""

import sys
from importlib.util import find_spec

missing = [name for name in ("torch", "torchvision", "mlflow", "pandas", "psutil") if find_spec(name) is None]
if missing:
    mend = "put .venv/bin first on PATH (source .venv/bin/activate), or use `make run`"
    sys.stderr.write(f"{sys.executable} has no {', '.join(missing)}: {mend}\n")
    raise SystemExit(2)
