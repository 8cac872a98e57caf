"""What experiments were made of, and where that differs: values, code, data, versions, machines; and what they cost."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.report.experiments import Experiment, values
from src.report.numbers import listed
from src.report.revisions import WORKSPACE, git
from src.report.sides import Side

NOTHING = "–"  # where an experiment has no such thing
SHORT = 8  # characters of a digest
TIMES = ("seconds", "peak_memory_mb")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing, what it is on each side, and the stages that it is about, where not of all."""

    what: str
    sides: Sequence[str]
    stages: Sequence[str] = ()


def parameters(sides: Sequence[Side]) -> list[Difference]:
    """Values of params.yaml that are not the same everywhere; the seeds of a side all together."""
    own = [values(side.head.params) for side in sides]
    for side, found in zip(sides, own, strict=True):
        if len(side.members) > 1:
            found["seed"] = [each.seed for each in side.members]
    names = dict.fromkeys(name for found in own for name in found)
    rows = {name: [_shown(found.get(name, NOTHING)) for found in own] for name in names}
    return [Difference(what=name, sides=row) for name, row in rows.items() if len(set(row)) > 1]


def code(sides: Sequence[Side]) -> list[Difference]:
    """Files of code that some stage's result was made by, and that differ, as dvc.lock has them."""
    return _files(sides, lambda path: path.startswith(("src/", "stages/")))


def data(sides: Sequence[Side]) -> list[Difference]:
    """Images, weights and sources that differ, as dvc.lock has them, and the SHA-256 of a source elsewhere."""
    given = _files(sides, lambda path: path.startswith(("data/source", "weights")))
    made = _rows(
        [{path: md5 for path, md5 in side.head.outputs("download").items() if "/images/" in path} for side in sides]
    )
    facts = _rows([_facts(side.head, lambda name: name.endswith("sha256")) for side in sides])
    return [*given, *made, *facts]


def versions(sides: Sequence[Side]) -> list[Difference]:
    """Versions, devices and threads that differ."""
    return _rows(
        [_versions(side.head) | _facts(side.head, lambda name: name in ("device", "threads")) for side in sides]
    )


def commits(sides: Sequence[Side]) -> list[str]:
    """Which commit each side is based on, and what git has between two, a sentence each."""
    bases = {side.label: side.head.revision.baseline for side in sides}
    if len(set(bases.values())) == 1:
        return [f"All are based on commit {_short(next(iter(bases.values())))}."]
    found = [f"{name} is based on commit {_short(base)}." for name, base in bases.items()]
    first = next(iter(bases.values()))
    for name, base in list(bases.items())[1:]:
        subjects = git("log", "--format=%s", f"{first}..{base}").splitlines()
        if subjects:
            found.append(f"{name} has {len(subjects)} more: {'; '.join(subjects[:5])}{'; …' * (len(subjects) > 5)}.")
    return found


def cost(sides: Sequence[Side]) -> list[tuple[str, list[Mapping[str, float] | None]]]:
    """Of each stage, what it took on each side, `seconds` and `peak_memory_mb`; mean over the members."""
    stages = dict.fromkeys(stage for side in sides for stage in side.head.records)
    return [(stage, [_cost(side, stage) for side in sides]) for stage in stages]


def same_run(sides: Sequence[Side], stage: str) -> bool:
    """Whether one run of the stage is on record for all of them: DVC restored it."""
    records = [each.records.get(stage) for side in sides for each in side.members]
    return all(each == records[0] for each in records)


def stale(of: Experiment) -> list[str]:
    """Why the results of `of` are not those of its params.yaml and code, a sentence each; none where they are."""
    behind: dict[str, list[str]] = {}
    for stage, entry in of.lock.items():
        then = entry.get("params", {}).get("params.yaml", {})
        for name, value in then.items():
            if _at(of.params, name) != value:
                behind.setdefault(f"{name} is another in params.yaml now", []).append(stage)
        if of.name == WORKSPACE:
            for path, digest in of.inputs(stage).items():
                if path.endswith(".py") and _md5(path) != digest:
                    behind.setdefault(f"{path} is another now", []).append(stage)
    return [
        f"{of.name}: {why} than {listed(stages)} ran with; `dvc repro` brings it up to date"
        for why, stages in behind.items()
    ]


def _cost(side: Side, stage: str) -> Mapping[str, float] | None:
    found = [each.records.get(stage) for each in side.members]
    known = [each for each in found if each]
    return {key: sum(each[key] for each in known) / len(known) for key in TIMES} if known else None


def _files(sides: Sequence[Side], wanted: Callable[[str], bool]) -> list[Difference]:
    own: list[dict[str, dict[str, str]]] = []
    for side in sides:
        found: dict[str, dict[str, str]] = {}
        for stage in side.head.lock:
            for path, md5 in side.head.inputs(stage).items():
                if wanted(path):
                    found.setdefault(path, {})[stage] = md5
        own.append(found)
    rows = []
    for path in dict.fromkeys(path for found in own for path in found):
        digests = [found.get(path, {}) for found in own]
        common = [stage for stage in digests[0] if all(stage in each for each in digests)]
        stages = [stage for stage in common if len({each[stage] for each in digests}) > 1]
        gone = [not each for each in digests]
        if stages or (any(gone) and not all(gone)):
            texts = [_short(each[stages[0]] if stages else next(iter(each.values()), NOTHING)) for each in digests]
            rows.append(
                Difference(what=path, sides=texts, stages=stages or sorted({s for each in digests for s in each}))
            )
    return rows


def _rows(own: Sequence[Mapping[str, str]]) -> list[Difference]:
    """Of mappings of names, perhaps with `name (stage)`, what differs."""
    names = dict.fromkeys(name for found in own for name in found)
    rows = {name: [found.get(name, NOTHING) for found in own] for name in names}
    return [Difference(what=name, sides=[_digest(x) for x in row]) for name, row in rows.items() if len(set(row)) > 1]


def _versions(of: Experiment) -> dict[str, str]:
    """Every version of each package that some stage ran under."""
    found: dict[str, dict[str, None]] = {}
    for record in of.records.values():
        for name, version in record.get("versions", {}).items():
            found.setdefault(name, {})[str(version)] = None
    return {name: ", ".join(own) for name, own in found.items()}


def _facts(of: Experiment, wanted: Callable[[str], bool]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for record in of.records.values():
        for name, value in record.get("facts", {}).items():
            if wanted(name) and value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(own) for name, own in found.items()}


def _at(settings: Any, name: str) -> Any:
    for part in name.split("."):
        settings = settings.get(part, NOTHING) if isinstance(settings, Mapping) else NOTHING
    return settings


def _md5(path: str) -> str:
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest() if Path(path).is_file() else ""


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[" + ", ".join(map(_shown, value)) + "]" if isinstance(value, list) else str(value)


def _digest(text: str) -> str:
    return _short(text) if len(text) >= 32 and " " not in text else text


def _short(digest: str) -> str:
    return digest[:SHORT]
