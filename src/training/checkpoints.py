"""States of a training run on disk, of which a kill, a full disk or a torn write cannot take the last good one."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from src.base import artifacts, distributed
from src.interface import console

KEPT = 2  # the newest, and the one before it for when the newest turns out to be damaged


class Checkpoints:
    """The states that one run leaves in `folder`, the newest of them read at once.

    A file is written under a temporary name, synced and renamed, and its final name ends in the SHA-256 of its bytes,
    so a file that is not what was written shows. Of many processes the leading one reads and writes; the others are
    given what it read.

    Args:
        folder: where they lie; None: nothing is found, and nothing is kept.

    Attributes:
        state: the newest state that is whole, on the CPU, or None.
        path: the file that holds it, or the one written last.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.path: Path | None = None
        found = self._newest() if folder is not None and distributed.leads() else None
        self.state: dict[str, Any] | None = distributed.from_leader(found)

    @property
    def images(self) -> int:
        """How many images had been trained on when the newest state was written."""
        return int(self.state["images"]) if self.state else 0

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep `state`, a tree of tensors and plain values, and the one before it.

        Raises:
            OSError: the disk is full, say; earlier states stay as they are.
        """
        if self.folder is None or not distributed.leads():
            return
        file = io.BytesIO()
        torch.save(dict(state), file)
        content = file.getbuffer()
        number = 1 + max((int(path.name.split(".")[1]) for path in self._files()), default=0)
        path = self.folder / f"checkpoint.{number:08d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
        with artifacts.replacing(path) as target:
            target.write(content)
        self.path = path
        for old in self._files()[:-KEPT]:
            old.unlink()

    def _files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("checkpoint.*.pt")) if self.folder is not None else []

    def _newest(self) -> dict[str, Any] | None:
        for path in reversed(self._files()):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest()[:16] == path.name.split(".")[2]:
                self.path = path
                state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                return state
            console.warn(f"{path} is damaged and left out")
            path.unlink()
        return None
