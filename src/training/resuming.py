"""Where a stage that was killed finds what it had done: `.resume/`, keyed by all that could change the result."""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from src.base import artifacts, devices, distributed, stage_records
from src.interface import console

PACKAGES = ("torch", "torchvision", "numpy", "optuna")
KEPT = 3  # states under other conditions: what a stage was refused for, or was tried before
NAMED = 3  # changes that a message names
DONE = "done"  # marks the state of a stage that ended well


@contextmanager
def held(stage: str, given: Mapping[str, Any], device: torch.device) -> Iterator[Path]:
    """The folder for the state of `stage`, given these things, under these versions on this machine, for one process.

    It lies in the main checkout (DVC_ROOT), outside DVC's outputs, which DVC deletes before a stage runs. It is kept
    until the stage has since started under KEPT other keys, so that neither a kill between the stage's end and DVC's
    own bookkeeping, nor a value that is put back later, loses anything. Of many processes, the leading one holds it;
    the others get the folder above it, and leave it alone.

    Args:
        given: values, and digests of code and inputs.

    Raises:
        ValueError: another process works there.
    """
    home = artifacts.main_checkout() / ".resume" / stage
    if not distributed.leads():
        yield home
        return
    identity = _identity(given, device)
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


def _identity(given: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    installed = {name: metadata.version(name) for name in PACKAGES}
    versions = {"python": platform.python_version(), **installed, **stage_records.imported()}
    processor = {"capability": torch.backends.cpu.get_cpu_capability(), "processes": distributed.processes()}
    identity = {"given": given, "versions": versions, "machine": devices.describe(device) | processor}
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _clear(home: Path, folder: Path, identity: Mapping[str, Any]) -> None:
    """Delete all but the last KEPT states under other keys, and what a kill left half-written under this one."""
    found = sorted(home.glob("*/identity.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    others = [path for path in found if path.parent != folder]
    if others and others == found:
        _say_what_changed(others[0], identity)
    for other in others[KEPT:]:
        try:
            with artifacts.locked(other.parent / "lock"):
                shutil.rmtree(other.parent)
        except ValueError:  # a process works there, an experiment beside this one
            continue
    for torn in folder.glob(".*.tmp"):
        torn.unlink()


def _say_what_changed(path: Path, identity: Mapping[str, Any]) -> None:
    if (path.parent / DONE).exists():
        return
    before, now = dict(artifacts.leaves(artifacts.read_json(path))), dict(artifacts.leaves(identity))
    changed = [key for key in now | before if before.get(key) != now.get(key)]
    names = [key.removeprefix("given.params.").removeprefix("given.files.") for key in changed[:NAMED]]
    shown = ", ".join(names) + (f" and {len(changed) - NAMED} more" if len(changed) > NAMED else "")
    console.say(f"starts over, and keeps the unfinished run; since then changed: {shown}")
