"""Where a stage that was killed finds what it had done: `.resume/`, keyed by all that could change the result."""

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from src import artifacts, console, devices, distributed

OBSERVERS = {"src.params", "src.checking", "src.console", "src.tracking"}  # their code cannot change a result
PACKAGES = ("torch", "torchvision", "numpy", "optuna")
NAMED = 3  # changes that a message names
DONE = "done"  # marks the state of a stage that ended well


@contextmanager
def held(
    stage: str, settings: Mapping[str, Any], inputs: Sequence[str | Path | None], device: torch.device
) -> Iterator[Path]:
    """The folder for the state of `stage` under these settings, inputs, code, versions and machine, for one process.

    It lies in the main checkout (DVC_ROOT), outside DVC's outputs, which DVC deletes before a stage runs. It is kept
    until the stage next starts under another key, so that a kill between the stage's end and DVC's own bookkeeping
    loses nothing. Of many processes, the leading one holds it; the others get the folder above it, and leave it alone.

    Args:
        settings: sections and values of params.yaml.
        inputs: paths of the files that the stage reads; None for one that there is not.

    Raises:
        ValueError: another process works there.
    """
    home = artifacts.main_checkout() / ".resume" / stage
    if not distributed.leads():
        yield home
        return
    identity = _identity(settings, inputs, device)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder = home / digest[:16]
    with ExitStack() as locks:
        with artifacts.locked(home / "lock", wait=True):  # while folders come and go
            locks.enter_context(artifacts.locked(folder / "lock"))
            _clear(home, folder, identity)
        artifacts.write_json(identity, folder / "identity.json")
        (folder / DONE).unlink(missing_ok=True)
        yield folder
        artifacts.write_text("", folder / DONE)


def _identity(settings: Mapping[str, Any], inputs: Sequence[str | Path | None], device: torch.device) -> dict[str, Any]:
    modules = {name: module.__file__ for name, module in sorted(sys.modules.items()) if name.startswith("src.")}
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main and main.name.startswith("stages."):
        modules[main.name] = main.origin
    identity = {
        "settings": settings,
        "inputs": {str(path): artifacts.sha256(path) for path in inputs if path},
        "code": {name: artifacts.sha256(path) for name, path in modules.items() if name not in OBSERVERS and path},
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "machine": devices.describe(device)
        | {"capability": torch.backends.cpu.get_cpu_capability(), "processes": distributed.processes()},
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=vars))
    return plain


def _clear(home: Path, folder: Path, identity: Mapping[str, Any]) -> None:
    """Delete the states under other keys, and what a kill left half-written under this one."""
    for other in home.glob("*/identity.json"):
        if other.parent == folder:
            continue
        try:
            with artifacts.locked(other.parent / "lock"):
                _say_what_changed(other, identity)
                shutil.rmtree(other.parent)
        except ValueError:  # a process works there, an experiment beside this one
            continue
    for torn in folder.glob(".*.tmp"):
        torn.unlink()


def _say_what_changed(path: Path, identity: Mapping[str, Any]) -> None:
    if (path.parent / DONE).exists():
        return
    before, now = dict(_flat(artifacts.read_json(path))), dict(_flat(identity))
    changed = [key for key in now | before if before.get(key) != now.get(key)]
    shown = ", ".join(changed[:NAMED]) + (f" and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
    console.say(f"starts over: an unfinished run was under other conditions; changed: {shown}")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
