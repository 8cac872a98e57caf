"""What a stage was given: its declared parameters, code and inputs, noted before anything of `src` is imported.

DVC reads parameters and dependencies after a stage's command has ended, and files what it finds then as what made the
result. So a stage compares, when it ends, what it began with and what stands there now.
"""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

PIPELINE, PARAMS, IGNORED = "dvc.yaml", "params.yaml", ".dvcignore"
SMALL = 2**20  # bytes of a file that is read again at the end, however untouched it looks, if dvc.yaml names it
NAMED = 3  # differences that a message names
Stamp = tuple[int, int, int]  # inode, time of change, size: by these DVC, too, tells that a file is the one it knew
T = TypeVar("T")


class Given:
    """What the stage `name`, or the member of a family (`scaling_ablation@width`), was given when this was made.

    Code is read at once; inputs, which may be large, by a thread beside the imports.

    Attributes:
        content: of params.yaml.
        agree: what gives each of many processes the first one's value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.agree: Callable[[Any], Any] = lambda value: value
        self.content = Path(PARAMS).read_bytes()
        declared = _declared(name)
        self._names, self._paths = declared["params"], declared["deps"]
        self._ignored = _ignored()
        self._stamps = self._found()
        self._digests = {path: _digest(path) for path in self._stamps if path.endswith(".py")}
        self._known = dict[str, tuple[Stamp, str | None]]()  # what a file last was, so that it is read once a change
        self._warned: list[str] = []
        self._reading = threading.Thread(target=self._read_inputs, daemon=True)
        self._reading.start()

    @cached_property
    def sections(self) -> dict[str, Any]:
        """The declared sections and values of params.yaml, by their dotted names."""
        return self._sections_of(self.content)

    def identity(self, *others: Path | None) -> dict[str, Any]:
        """All of it in a form that can be compared: values, and the SHA-256 of each file, of `others` as well."""
        self._reading.join()
        digests = self._digests | {str(path): _digest(str(path)) for path in others if path}
        return {"params": self.sections, "files": digests}

    def settle(self) -> None:
        """To be called when all code is imported and all inputs are in memory: later edits cannot change what runs.

        Raises:
            ValueError: a file was touched before that, so that nobody knows which state of it was read; or this process
                of many was given other things than the first.
        """
        from src.base import ranks

        self._reading.join()
        found = self._found()
        for path in {**self._stamps, **found}:
            if self._stamps.get(path) != found.get(path):
                raise ValueError(f"{path} changed while this stage was starting: run it again")
        if ranks.processes() == 1:
            return
        own, first = self.identity(), self.agree(self.identity())
        if differences := [*_differing(first["params"], own["params"]), *_changed_files(first["files"], own["files"])]:
            raise ValueError(f"not given what the first process was: {_listed(differences)}; allowed: the same in each")

    def watch(self, _: object = None) -> None:
        """Warn where something is not as it was; say so once, and again when it is put back."""
        from src.base import ranks
        from src.interface import console

        found = self._differences() if ranks.leads() else []
        if found and found != self._warned:
            console.warn(f"{_listed(found)}: put it back before the stage ends, or its result will not count")
        elif self._warned and not found:
            console.say(f"{self.name}: all is again as it was at the start; its result counts")
        self._warned = found

    def watching(self, callback: Callable[[T], None], *, seconds: float = 0.0) -> Callable[[T], None]:
        """`callback`, and after it `watch`, but not within so many seconds of the last time."""
        last = time.monotonic()

        def both(value: T) -> None:
            nonlocal last
            callback(value)
            if time.monotonic() - last >= seconds:
                self.watch()
                last = time.monotonic()

        return both

    def confirm(self) -> None:
        """To be called before any output is put in place; the first process decides, and all end alike.

        Raises:
            ValueError: a parameter, code or an input is not what it was.
        """
        from src.base import ranks

        found = self.agree(self._differences(thoroughly=True) if ranks.leads() else None)
        if not found:
            return
        if not ranks.leads():
            sys.exit(2)
        raise ValueError(
            f"{_listed(found)}, so nothing was written: put it back and run this again, and this run counts "
            "(what was trained is kept)"
        )

    def _differences(self, *, thoroughly: bool = False) -> list[str]:
        """What is not as it was, in words; `thoroughly` reads small files again, however untouched they look."""
        content = Path(PARAMS).read_bytes() if Path(PARAMS).exists() else b""
        values = []
        if content != self.content:
            try:
                values = _differing(self.sections, self._sections_of(content))
            except ValueError as error:  # half written, perhaps
                values = [str(error)]
        return values + _changed_files(self._digests, self._digests_now(thoroughly))

    def _digests_now(self, thoroughly: bool) -> dict[str, str | None]:
        self._reading.join()
        now = dict[str, str | None]()
        for path, stamp in self._found().items():
            known, digest = self._known.get(path) or (self._stamps.get(path), self._digests.get(path))
            if stamp != known or (thoroughly and path in self._paths and stamp[2] <= SMALL):
                digest = _digest(path)
                self._known[path] = stamp, digest
            now[path] = digest
        return now

    def _sections_of(self, content: bytes) -> dict[str, Any]:
        from src.interface import checking

        values = checking.parse(content, PARAMS)
        return {name: value for name in self._names if (value := _value(values, name)) is not _NOTHING}

    def _found(self) -> dict[str, Stamp]:
        """Every file of the declared paths, by its name."""
        files = (file for path in self._paths for file in _files(path, self._ignored))
        return {file: (found.st_ino, found.st_mtime_ns, found.st_size) for file, found in files}

    def _read_inputs(self) -> None:
        for path in self._stamps:
            if path not in self._digests:
                self._digests[path] = _digest(path)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML has it: ten times as fast
_NOTHING = object()
_noted: Given | None = None


def note(name: str, member: str = "") -> None:
    """Note what the stage is given that this process was started for (`python -m stages.<name>`)."""
    global _noted
    try:
        if _declared(name)["deps"]:
            _noted = Given(f"{name}@{member}" if member else name)
    except (OSError, ValueError, yaml.YAMLError):  # the stage meets it again, and says it in one line
        return


def of(name: str, agree: Callable[[Any], Any] | None = None) -> Given:
    """What the stage `name` was given: as noted at the start of this process, or, in a process for another, now.

    Args:
        agree: `distributed.from_leader`, of a stage that many processes may run.
    """
    noted = _noted if _noted and _noted.name == name else Given(name)
    noted.agree = agree or noted.agree
    return noted


def _declared(name: str) -> dict[str, list[str]]:
    """The params and deps that dvc.yaml declares for a stage or a family's member; none where there is no dvc.yaml."""
    family, _, member = name.partition("@")
    stage = pipeline().get(family, {})
    try:
        stage = stage.get("do", stage)
        return {kind: [each.replace("${key}", member) for each in stage.get(kind, [])] for kind in ("params", "deps")}
    except (TypeError, AttributeError) as error:
        raise _unreadable(error) from None


@cache  # by content: a stage asks several times before it begins
def _stages(content: bytes) -> dict[str, Any]:
    return dict(yaml.load(content, Loader=_Loader)["stages"])  # noqa: S506 - a safe loader


def pipeline() -> dict[str, Any]:
    """The stages of dvc.yaml by their names, families as it writes them; none where there is no dvc.yaml.

    Raises:
        ValueError: it cannot be read; in one line.
    """
    try:
        return _stages(Path(PIPELINE).read_bytes() if Path(PIPELINE).exists() else b"stages: {}")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> ValueError:
    return ValueError(f"{PIPELINE} cannot be read: {' '.join(str(error).split())}")


def _ignored() -> frozenset[str]:
    """The names that DVC leaves out wherever they occur."""
    lines = Path(IGNORED).read_text(encoding="utf-8").splitlines() if Path(IGNORED).exists() else []
    return frozenset(line for line in lines if line and line[0] not in "#/")


def _files(path: str, ignored: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The file `path`, or all files below the folder `path`; linked folders in it are not entered, as by DVC."""
    if not os.path.isdir(path):
        if os.path.exists(path):
            yield path, os.stat(path)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name not in ignored)
        for name in sorted(files):
            file = os.path.join(folder, name)
            if name not in ignored and os.path.exists(file):
                yield file, os.stat(file)


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:  # the stage, or DVC, meets it again
        return None


def _value(values: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _NOTHING
        values = values[part]
    return values


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    from src.base.artifacts import leaves

    old, new = (dict(leaves(each)) | {name: {} for name in each if each[name] == {}} for each in (before, now))
    return [
        f"{key} was {_shown(old, key)} when this stage began and is {_shown(new, key)} now"
        for key in old | new
        if old.get(key, _NOTHING) != new.get(key, _NOTHING)
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "missing"
    return "null" if values[key] is None else str(values[key])


def _changed_files(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[str]:
    return [
        f"{path} was {_short(before.get(path))} when this stage began and is {_short(now.get(path))} now"
        for path in {**before, **now}
        if before.get(path) != now.get(path)
    ]


def _short(digest: str | None) -> str:
    return f"SHA-256 {digest[:8]}" if digest else "missing"


def _listed(found: Iterable[str]) -> str:
    found = list(found)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more
