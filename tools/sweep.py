"""`make sweep KEY=lr VALUES="0.0005 0.001"`: an experiment for each value, one after another, then their comparison.

A plain loop, because DVC's queue skips or hangs experiments. Each runs in a copy of what git tracks, so the workspace
stays as it is. `python -m tools.sweep lr 0.0005 0.001`
"""

import re
import subprocess
import sys
from pathlib import Path

from recipes.run import changed
from src.interface import console, params

PARAMS, LOCK, WORKSPACE = "params.yaml", "dvc.lock", "workspace"
LONGEST = 100  # letters of a value in a name, which git makes a file's
ALLOWED = "values separated by spaces, of a key of params.yaml"
USAGE = 'allowed: a key of params.yaml and its values, as in `make sweep KEY=lr VALUES="0.0005 0.001"`'


def named(key: str, values: list[str]) -> dict[str, str]:
    """Each value by the name of its experiment: what was changed, and to what.

    Raises:
        ValueError: two values would have one name.
    """
    found: dict[str, str] = {}
    for value in values:
        text = re.sub(r"([^A-Za-z0-9.+-]|[.]{2,})+", "_", value).strip("_.")[:LONGEST]
        name = re.sub(r"[.](lock)?$", r"_\1", f"{key}_{text}")  # git allows no such end, nor `..`
        if name in found:
            raise ValueError(f"{found[name]} and {value} would both be the experiment {name}; allowed: one of them")
        found[name] = value
    return found


def check(key: str, value: str) -> None:
    """Raises ValueError, in one line: params.yaml has no such key, or may not have this value."""
    params.parse(changed(Path(PARAMS).read_bytes(), [f"{key}={value}"], ALLOWED))


def run(key: str, value: str, name: str) -> bool:
    """Whether the experiment ran to its end; one that has the name already is replaced."""
    console.say(f"sweep: {key}={value}, experiment {name}")
    options = ("--temp", "--name", name, "--set-param", f"++{key}={value}")
    return subprocess.run([sys.executable, "-m", "tools.experiment", *options]).returncode == 0  # noqa: S603 - checked, and no shell reads it


def main() -> None:
    key, *values = sys.argv[1:] or [""]
    if not key[:1].isalpha() or not values:  # + and ~ are Hydra's
        raise ValueError(f"{' '.join(sys.argv[1:]) or 'nothing to sweep'}: {USAGE}")
    names = named(key, values)
    for value in values:
        check(key, value)
    done = [name for name, value in names.items() if run(key, value, name)]
    sides = [WORKSPACE] * Path(LOCK).exists() + done
    status = 0
    if len(sides) > 1:
        status = subprocess.run([sys.executable, "-m", "stages.compare", *sides]).returncode  # noqa: S603 - our own names
    if failed := [name for name in names if name not in done]:
        raise ValueError(f"{', '.join(failed)} did not end; what each said stands above")
    if status:  # the comparison has said why
        sys.exit(status)


if __name__ == "__main__":
    console.run(main)
