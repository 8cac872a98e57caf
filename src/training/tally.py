"""What the steps of an epoch leave behind, kept on the device so that no step waits for the host."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from src.training.steps import Step

STEPS_BETWEEN_CHECKS = 50  # of an accelerator, which asking after every step would stop
# float16: steps in a row that may be left out. Each halves the loss scale, which begins at 2^16: behind 16 of them it
# enlarges nothing any more, and the gradients overflow by themselves.
MOST_SKIPPED = 20


class Record:
    """Losses, right answers and gradient norms of one epoch of `steps`.

    Args:
        skips: a step whose loss or gradient is not finite was left out (float16), and is no error.

    Attributes:
        step: how many have been taken, which is the index of the next.
        skipped_before: steps in a row that were left out at the end of the epochs before.
    """

    def __init__(self, steps: int, device: torch.device, *, skips: bool) -> None:
        self.skips, self.step, self.skipped_before = skips, 0, 0
        self.losses, self.norms = torch.zeros(2, steps, device=device).unbind()
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self._interval = 1 if device.type == "cpu" else STEPS_BETWEEN_CHECKS

    def add(self, taken: Step) -> None:
        self.losses[self.step], self.norms[self.step] = taken.loss, taken.norm
        self.correct += taken.correct.long()
        self.step += 1

    @property
    def due(self) -> bool:
        """Whether it is time to look for numbers that are not finite."""
        return self.step % self._interval == 0

    def first_broken(self) -> int | None:
        """Index of the first step taken whose loss or gradient is not finite, or None.

        Where such steps are left out, it is an error only if no step of an epoch has a finite loss, on which the loss
        scale has no influence; `skipped` counts the others.
        """
        broken = ~(self.losses[: self.step].isfinite() if self.skips else self._usable())
        if (self.skips and self.step < len(self.losses)) or not (broken.all() if self.skips else broken.any()):
            return None
        return int(broken.nonzero()[0])

    @property
    def skipped(self) -> int:
        """How many steps in a row were left out until now, those of earlier epochs counted."""
        usable = self._usable().nonzero()
        return self.step - 1 - int(usable[-1]) if len(usable) else self.skipped_before + self.step

    def row(self, sizes: Sequence[int]) -> dict[str, Any]:
        """Means over the epoch's images, and the first norm, of steps not left out; `sizes` are images per step.

        Of an epoch whose steps were all left out, the loss is that of the steps that have one, and norms are unknown.
        """
        usable = self._usable().cpu()
        counted = usable if usable.any() else self.losses.isfinite().cpu()
        losses, norms = self.losses.cpu()[counted].double(), self.norms.cpu()[usable].double()  # MPS has no float64
        images = torch.tensor(sizes)[counted].double()
        skipped = {"skipped_steps": int((~usable).sum())} if self.skips else {}
        return {
            "train_loss": (losses * images / images.sum()).sum().item(),
            "train_accuracy": self.correct.item() / sum(sizes),
            "gradient_norm": norms.mean().item(),
            "first_gradient_norm": norms[:1].mean().item(),
        } | skipped

    def clear(self) -> None:
        """Begin the next epoch."""
        self.skipped_before = self.skipped if self.skips else 0
        self.step = 0
        self.correct.zero_()

    def state(self) -> dict[str, Any]:
        counts = {"step": self.step, "skipped_before": self.skipped_before}
        return counts | {"losses": self.losses, "norms": self.norms, "correct": self.correct}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.skipped_before = state["step"], state["skipped_before"]
        for name in ("losses", "norms", "correct"):
            getattr(self, name).copy_(state[name])

    def _usable(self) -> Tensor:
        taken = slice(self.step)
        return self.losses[taken].isfinite() & self.norms[taken].isfinite()
