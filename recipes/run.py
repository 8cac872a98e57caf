"""Run a recipe as the DVC experiment of its name, and leave it in the workspace: `python -m recipes.run sample`.

A recipe is a file of `key=value` lines; empty lines and those that start with # are left out.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from dvc.cli import main as dvc

AFTERWARDS = """
The report: open reports/report.html in a browser. Then change one value, and see what it changes:

  source .venv/bin/activate{identity}
  dvc exp run -n hot -S lr=0.001
  dvc metrics diff {name} hot
  DO_NOT_TRACK=true mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1
"""
IDENTITY = """
  git config user.name "Your Name" && git config user.email you@example.org   # DVC commits experiments with it"""


def overrides(recipe: str | Path) -> list[str]:
    """The `key=value` lines of a recipe, in order."""
    lines = (line.strip() for line in Path(recipe).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def has_identity() -> bool:
    return not any(
        subprocess.run(["git", "config", f"user.{key}"], capture_output=True).returncode for key in ("name", "email")
    )


def lend_identity() -> None:
    """Give this process a name to commit experiments with, and leave git's settings alone."""
    for role in ("AUTHOR", "COMMITTER"):
        os.environ.setdefault(f"GIT_{role}_NAME", "nobody")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "nobody@localhost")


def free(name: str) -> None:
    """Remove an earlier experiment of this name; its stages stay in DVC's cache and need not run again."""
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True)
    if name in listed.stdout.split():
        subprocess.run(["dvc", "exp", "remove", "--quiet", name], check=True)


def run(name: str) -> int:
    """Run `recipes/<name>.txt`; DVC's exit status."""
    known = has_identity()
    if not known:
        lend_identity()
    free(name)
    if not Path("dvc.lock").exists():  # the first run: DVC would warn of every output that is still to be made
        logging.getLogger("dvc_data.index.checkout").disabled = True
    settings = [part for line in overrides(f"recipes/{name}.txt") for part in ("--set-param", line)]
    status: int = dvc(["exp", "run", "--name", name, *settings])
    if status == 0:
        print(AFTERWARDS.format(name=name, identity="" if known else IDENTITY))
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv[1]))
