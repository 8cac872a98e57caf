"""What a stage checks and says before it imports torch, which takes seconds: values, inputs, and what begins.

No stage depends on this file: it can end a stage, and change nothing that one computes.
"""

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from src.interface import console, params
from src.interface.params import Params
from stages import given

WIDTH = 80  # columns
KEY = "KEY"  # of a member of a family of stages, in words
REMOVABLE = re.compile(r"\w+\.(?=.*[A-Z-])[A-Za-z_][\w-]*", re.ASCII)  # a key that DVC's `-S '~...'` takes for a text


def begin(name: str, *arguments: str) -> None:
    """Explain the stage and end, where `--help` asks for that; otherwise check what it needs, and say what begins."""
    if not _script(name).is_file():
        return  # which Python says itself
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(explanation(name))
        sys.exit(0)
    console.run(lambda: check(name, *arguments))


def explanation(name: str) -> str:
    """What the stage `name` is, reads and writes, from its docstring and dvc.yaml."""
    stage, section = given.pipeline().get(name, {}), _section(name)
    stage = stage.get("do", stage)
    lines = [f"python -m stages.{name}{f' {KEY}' if section else ''}", ""]
    for paragraph in _docstring(name).split("\n\n"):
        lines += [*textwrap.wrap(paragraph, WIDTH), ""]
    for title, paths in {
        "values": stage.get("params", []),
        "reads": [path for path in stage.get("deps", []) if not path.endswith(".py")],
        "writes": _written(stage),
    }.items():
        text = ", ".join(paths).replace("${key}", KEY)
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{title:8}", subsequent_indent=" " * 8)
    if stage:
        lines += ["", _command(name, section)]
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, section: str) -> str:
    """What runs the stage, in a sentence. Of an empty family DVC has no stage, and would run all others."""
    if not section:
        return f"`dvc repro {name}` runs it, and first what it needs."
    with suppress(OSError, ValueError):  # help needs no values
        if not getattr(params.load(), section):
            return f"{section} is empty: nothing to run."
    return f"`dvc repro {name}@{KEY}` runs one entry, and first what it needs."


def check(name: str, *arguments: str) -> None:
    """Raises ValueError, in one line: a value or an argument is not allowed, or an input is not there."""
    try:
        cfg = params.load()
    except ValueError as error:
        back = way_back(str(error))
        between = "" if not back else " " if str(error).endswith("?") else "; "
        raise ValueError(f"{error}{between}{back}") from None
    member = _member(name, arguments, cfg)
    label = f"{name}@{member}" if member else name
    if missing := _missing(name, member, cfg):
        raise ValueError(_complaint(missing, label))
    if name in given.pipeline():
        task = _docstring(name).partition("\n")[0].rstrip(".")
        console.say(f"{label}: {task[0].lower()}{task[1:]}")


def way_back(problem: str) -> str:
    """How params.yaml gets rid of the value that `problem` names; nothing where a copy of it is at fault."""
    if Path(os.environ.get("DVC_ROOT", ".")).resolve() != Path.cwd():
        return ""  # a queued or temporary experiment: the next one starts from another params.yaml
    key, _, said = problem.partition(": ")
    changed = ["git", "status", "--porcelain", "--", given.PARAMS]
    found = subprocess.run(changed, capture_output=True).stdout  # noqa: S603 - a constant
    if not found or found.startswith(b"??"):
        return ""  # as it is committed, never committed, or no git
    restore = f"`git restore {given.PARAMS}` goes back to the committed values"
    if said.startswith("unknown") or (said.startswith("not allowed as a key") and REMOVABLE.fullmatch(key)):
        return f"{given.PARAMS} holds it until `dvc exp run -S '~{key}'` removes it, or {restore}"
    if key.startswith(given.PARAMS) or said.startswith(("missing", "not allowed as a key")) or " is no section" in said:
        return restore
    key = key.partition("[")[0]
    return f"{given.PARAMS} holds it until `dvc exp run -S {key}=...` sets another, or {restore}"


def _section(name: str) -> str:
    """The section of params.yaml whose keys are the members of the family `name`; empty where it is no family."""
    return str(given.pipeline().get(name, {}).get("foreach", "")).strip("${}")


def _member(name: str, arguments: Sequence[str], cfg: Params) -> str:
    """The member of a family that the command line names; empty where it is no family, and has none to name.

    Raises:
        ValueError: none, several or one that params.yaml does not have; an argument of a stage that takes none.
    """
    if name not in given.pipeline():
        return ""  # no stage of DVC's: what follows it is its own to read
    section, said = _section(name), " ".join(arguments)
    if said and not section:
        raise ValueError(f"{said}: not allowed; allowed: nothing behind the name of this stage")
    if not section:
        return ""
    members = getattr(cfg, section)
    if not members:
        raise ValueError(f"{section} is empty: nothing to run")
    if len(arguments) != 1 or arguments[0] not in members:
        allowed = ", ".join(members)
        raise ValueError(f"{said or 'no entry'}: allowed: one of {section} in {given.PARAMS} ({allowed})")
    return arguments[0]


def _missing(name: str, member: str, cfg: Params) -> dict[str, str]:
    """Inputs of a stage that other stages make and that are not there, each with the stage that makes it."""
    stage = given.pipeline().get(name, {})
    deps = [path.replace("${key}", member) for path in stage.get("do", stage).get("deps", [])]
    below = tuple(f"{path}/" for path in deps)
    needed = {p: maker for p, maker in made(cfg) if p in deps or p.startswith(below)}
    return {p: maker for p, maker in needed.items() if maker.partition("@")[0] != name and not Path(p).exists()}


def made(cfg: Params) -> Iterator[tuple[str, str]]:
    """Every path that a stage makes, with the stage, members of families by their own names."""
    for name, stage in given.pipeline().items():
        members = getattr(cfg, section) if (section := _section(name)) else [""]
        for member in members:
            for path in _written(stage.get("do", stage)):
                yield path.replace("${key}", member), f"{name}@{member}" if member else name


def _complaint(missing: Mapping[str, str], label: str) -> str:
    path, *others = missing
    makers = list(dict.fromkeys(missing.values()))
    what = f"{path} and {len(others)} more do" if others else f"{path} does"
    them = "them" if others else "it"
    who = f"stage {makers[0]} makes {them}" if len(makers) == 1 else f"stages {_listed(makers)} make {them}"
    return f"{what} not exist: {who}; `dvc repro {label}` runs what is needed"


def _listed(names: list[str]) -> str:
    return ", ".join(names[: given.NAMED]) + (f" and {len(names) - given.NAMED} more" * (len(names) > given.NAMED))


def _written(stage: Mapping[str, Any]) -> list[str]:
    entries: Iterable[Any] = (entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, []))
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _docstring(name: str) -> str:
    """Of a stage's script, without its command; read, not imported."""
    text = ast.get_docstring(ast.parse(_script(name).read_text(encoding="utf-8"))) or ""
    return "\n\n".join(part.partition("  `python -m")[0] for part in text.split("\n\n"))


def _script(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.py")
