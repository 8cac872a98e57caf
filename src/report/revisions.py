"""An experiment, a revision or the workspace, as DVC and git keep it: the only module that asks DVC.

What is read is what that state of the project was filed with, not what lies in the workspace.
"""

import difflib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.utils.serialize import parse_yaml

from src.base import artifacts

WORKSPACE = "workspace"
NAMED = 8  # experiments that a message names


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A state of the project.

    Attributes:
        name: as a person called it.
        commit: its SHA-1 in git; None: the workspace.
        baseline: the commit that an experiment was started from; of others the commit itself, of the workspace HEAD.
    """

    name: str
    commit: str | None
    baseline: str

    @cached_property
    def _system(self) -> Any:
        return DVCFileSystem(rev=self.commit)

    def read(self, path: str) -> bytes | None:
        """The file `path` from git or DVC's cache or remote; None where none of them has it."""
        if self.commit is None:
            return Path(path).read_bytes() if Path(path).is_file() else None
        try:
            with self._system.open(path, "rb") as file:
                content: bytes = file.read()
        except (OSError, DvcException):
            return None
        return content

    def load(self, path: str) -> dict[str, Any] | None:
        """Tensors that a stage left in `path`, as `artifacts.load` reads them.

        Raises:
            ValueError: they are damaged, or no tensors.
        """
        if self.commit is None:
            return artifacts.load(path) if Path(path).is_file() else None
        content = self.read(path)
        if content is None:
            return None
        with TemporaryDirectory() as folder:
            copy = Path(folder, Path(path).name)
            copy.write_bytes(content)
            return artifacts.load(copy)

    def yaml(self, path: str) -> dict[str, Any]:
        """A YAML file as DVC reads it; empty where there is none."""
        content = self.read(path)
        return dict(parse_yaml(content.decode(), path)) if content else {}


def find(names: Sequence[str]) -> list[Revision]:
    """The states that people call so: an experiment, anything that git takes for a commit, or `workspace`.

    Raises:
        ValueError: a name means nothing, or several things; or two names mean the same.
    """
    known = _experiments()
    found = [_one(name, known) for name in names]
    for place, each in enumerate(found):
        for other in found[:place]:
            if each.commit == other.commit:
                raise ValueError(f"{other.name} and {each.name} are the same; allowed: two that differ, or more")
    return found


def _one(name: str, known: Mapping[str, Sequence[tuple[str, str]]]) -> Revision:
    head = git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if name == WORKSPACE:
        return Revision(name=name, commit=None, baseline=head)
    own = known.get(name, ())
    if len(own) > 1:  # one from each of several commits
        own = [each for each in own if each[1] == head] or own
    if len(own) > 1:
        commits = ", ".join(commit[:7] for commit, _ in own)
        raise ValueError(f"{name} is the name of {len(own)} experiments; allowed: one of their commits, {commits}")
    if own:
        return Revision(name=name, commit=own[0][0], baseline=own[0][1])
    commit = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") if not name.startswith("-") else ""
    if commit:
        return Revision(name=name, commit=commit, baseline=commit)
    close = difflib.get_close_matches(name, [*known, WORKSPACE], 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    listed = ", ".join(list(known)[:NAMED]) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")
    raise ValueError(
        f"{name} is no experiment and no revision; allowed: {WORKSPACE}, a commit, branch or tag of git, or an "
        f"experiment ({listed or 'there is none yet: `make run` makes one'}){hint}"
    )


def _experiments() -> dict[str, list[tuple[str, str]]]:
    """Commit and baseline of DVC's experiments, by name, the latest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    listed = git("for-each-ref", "--sort=-committerdate", "--format=%(refname) %(objectname)", "refs/exps")
    for line in listed.splitlines():
        reference, commit = line.split()
        parts = reference.split("/")
        if len(parts) == 5 and len(parts[2] + parts[3]) == 40:  # the others are what DVC works on
            found.setdefault(parts[4], []).append((commit, parts[2] + parts[3]))
    return found


def git(*command: str) -> str:
    """What git says; nothing where it says no."""
    whole = ["git", *command]
    done = subprocess.run(whole, capture_output=True, text=True)  # noqa: S603 - git's own words
    return done.stdout.strip() if done.returncode == 0 else ""
