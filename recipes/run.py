"""Run a recipe as the DVC experiment of its name, and leave it in the workspace: `python -m recipes.run sample`.

A recipe is a file of `key=value` lines, as `dvc exp run -S` takes them: what it does otherwise than params.yaml as
committed, whatever ran last. Empty lines and those that start with # are left out. Lines from `[if installed: MODULE
...]` to `[else]` count where Python has all these modules, those from there to `[end]` where it has not. `[keep:
SECTION ...]` takes these sections from params.yaml as it is now. More `key=value` lines may follow the recipe's name:
`python -m recipes.run backbones_cifar10 dataset.source=cifar-10-python.tar.gz`.
"""

import logging
import os
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from omegaconf.errors import OmegaConfBaseException
from ruamel.yaml.error import YAMLError

from src.interface import checking, params
from src.interface.tracking_names import written
from tools import experiment

PARAMS = "params.yaml"
IF, KEEP = "[if installed:", "[keep:"
ALLOWED = "key=value, of one value, or ~key"

AFTERWARDS = """
The report: open reports/report.html in a browser.
Then change one value, and see what it changes:

  source .venv/bin/activate{identity}
  dvc exp run -n gentle -S lr=0.001
  make compare A={name} B=gentle
  make ui
"""
IDENTITY = """
  git config user.name "Your Name"      # DVC commits experiments with it
  git config user.email you@example.org"""


def overrides(recipe: str | Path) -> list[str]:
    """The `key=value` lines of a recipe that count here, in order."""
    found, counts = [], True
    for line in map(str.strip, Path(recipe).read_text(encoding="utf-8").splitlines()):
        if line.startswith(IF):
            counts = all(find_spec(module) for module in line.removeprefix(IF).rstrip("]").split())
        elif line in ("[else]", "[end]"):
            counts = line == "[end]" or not counts
        elif counts and line and not line.startswith(("#", KEEP)):
            found.append(line)
    return found


def keeps(recipe: str | Path) -> set[str]:
    """The sections that a recipe takes from params.yaml as it is now."""
    lines = map(str.strip, Path(recipe).read_text(encoding="utf-8").splitlines())
    return {section for line in lines if line.startswith(KEEP) for section in line[len(KEEP) :].rstrip("]").split()}


def kept(recipe: str | Path) -> list[str]:
    """The `key=value` lines that leave those sections as they are."""
    path = Path(PARAMS)
    now = _values(path.read_bytes()) if path.exists() else {}
    values = {section: now[section] for section in sorted(keeps(recipe)) if section in now}
    return [f"{key}={written(value)}" for key, value in _leaves(values) if not isinstance(value, dict)]


def has_identity() -> bool:
    return not any(
        subprocess.run(["git", "config", f"user.{key}"], capture_output=True).returncode for key in ("name", "email")
    )


def lend_identity() -> None:
    """Give this process a name to commit experiments with, and leave git's settings alone."""
    for role in ("AUTHOR", "COMMITTER"):
        os.environ.setdefault(f"GIT_{role}_NAME", "nobody")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "nobody@localhost")


def applied(name: str, base: bytes, more: Sequence[str] = ()) -> bytes:
    """params.yaml under `recipes/<name>.txt` and then the lines `more`, from what `base` says.

    Raises:
        ValueError: in one line, a key or a value that params.yaml cannot have.
    """
    recipe = Path("recipes", f"{name}.txt")
    now, own = kept(recipe), overrides(recipe)
    try:
        return _checked(base, [*now, *own, *more])
    except ValueError as error:
        at_fault = _allowed(base, now) and not _allowed(base, [*now, *own])
        raise ValueError(f"{recipe}: {error}" if at_fault else str(error)) from None


def _checked(content: bytes, lines: Sequence[str]) -> bytes:
    content = changed(content, lines)
    params.parse(content)
    return content


def _allowed(content: bytes, lines: Sequence[str]) -> bool:
    with suppress(ValueError):
        return bool(_checked(content, lines))
    return False


def changed(content: bytes, lines: Sequence[str], allowed: str = ALLOWED) -> bytes:
    """What params.yaml, which says `content`, says under `key=value` lines; values are not checked.

    Raises:
        ValueError: in one line, the first line that is none, and what is `allowed`; or `content` itself is at fault.
    """
    found = _overridden(content, lines)
    if found is None:
        checking.parse(content, PARAMS)
        counts = range(len(lines) + 1)
        count = bisect_left(counts, True, key=lambda count: _overridden(content, lines[:count]) is None)
        at_fault = f"{lines[count - 1]!r}: allowed: {allowed}" if count else f"{PARAMS}: allowed: no text with ${{"
        raise ValueError(at_fault)
    return found


def _overridden(content: bytes, lines: Sequence[str]) -> bytes | None:
    """The same; None where Hydra does not take a line."""
    # `++` takes unknown keys too, of which the check of params.yaml has a better word to say than Hydra.
    added = [line if line.startswith(("+", "~")) else f"++{line}" for line in lines]
    with TemporaryDirectory() as folder, suppress(DvcException, OmegaConfBaseException, YAMLError):
        path = Path(folder, PARAMS)
        path.write_bytes(content)
        apply_overrides(path, added)
        return path.read_bytes()
    return None


def refuse_to_lose(base: bytes, stay: Set[str] = frozenset()) -> None:
    """Stop where params.yaml has values that would be lost: neither committed, nor an experiment's, nor a recipe's.

    `stay`: sections that the next recipe keeps.
    """
    path = Path(PARAMS)
    if not path.exists():
        return
    now = _values(path.read_bytes(), stay)
    if any(now == _values(content, stay) for content in _had_again(base)):
        return
    committed, present = dict(_leaves(_values(base, stay))), dict(_leaves(now))
    edits = [
        f"{key}={present.get(key, 'missing')} (committed: {committed.get(key, 'missing')})"
        for key in committed | present
        if committed.get(key) != present.get(key)
        and not (isinstance(committed.get(key), dict) and isinstance(present.get(key), dict))
    ]
    raise ValueError(
        f"{PARAMS} has edits that no experiment has, and a recipe would overwrite them: {', '.join(edits)}; keep them "
        f"(dvc exp run -n NAME), or drop them (git restore {PARAMS})"
    )


def _had_again(base: bytes) -> Iterator[bytes]:
    """Every params.yaml that can be had again: the committed one, those of experiments, those under recipes."""
    yield base
    for reference in _git("for-each-ref", "--format=%(refname)", "refs/exps").decode().split():
        if reference.startswith("refs/exps/exec/"):  # what DVC works on
            continue
        yield _git("show", f"{reference}:{PARAMS}")
    for recipe in Path("recipes").glob("*.txt"):
        with suppress(ValueError):  # of a section that it keeps
            yield applied(recipe.stem, base)


def _git(*command: str) -> bytes:
    return subprocess.run(["git", *command], capture_output=True, check=True).stdout


def _values(content: bytes, without: Set[str] = frozenset()) -> dict[str, Any]:
    """What params.yaml says in `content`, by section."""
    found = checking.parse(content, PARAMS)
    return {key: value for key, value in found.items() if key not in without} if isinstance(found, dict) else {}


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their dotted keys, sections that arms are themselves among them."""
    for key, value in values.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")


def run(name: str = "", *more: str) -> int:
    """Run `recipes/<name>.txt`, with the lines `more` besides; DVC's exit status.

    An earlier experiment of this name is replaced once all has run.
    """
    known = sorted(path.stem for path in Path("recipes").glob("*.txt"))
    if name not in known:
        raise ValueError(f'no recipe "{name}"; allowed: {", ".join(known)}')
    base = _git("show", f"HEAD:{PARAMS}")
    path, content = Path(PARAMS), applied(name, base, more)
    if not path.exists() or path.read_bytes() != content:  # or the same command failed, or was stopped, before
        refuse_to_lose(base, keeps(Path("recipes", f"{name}.txt")))
    path.write_bytes(content)
    identity = has_identity()
    if not identity:
        lend_identity()
    if not Path("dvc.lock").exists():  # the first run: DVC would warn of every output that is still to be made
        logging.getLogger("dvc_data.index.checkout").disabled = True
    status = experiment.run("--name", name)
    if status == 0:
        print(AFTERWARDS.format(name=name, identity="" if identity else IDENTITY))
    return status


if __name__ == "__main__":
    try:
        sys.exit(run(*sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"recipes: {error}")
