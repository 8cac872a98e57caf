"""One step of training: a batch's gradients in as many parts as memory allows, then one move of the weights.

N images, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from src.base import distributed
from src.base.batches import SMALLEST_PART
from src.base.devices import is_out_of_memory
from src.interface import console
from src.training import mixing
from src.training.precision import autocast, loss_scaler

# `dynamic=False` compiles once per shape: two batch sizes, for training alone, and again for each block that unfreezes.
COMPILED_SHAPES = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A process's part of a batch on the device.

    Attributes:
        inputs: float32 (N, ...).
        labels: int64 (N,).
        partners: labels of the images that are mixed in, int64 (N,), or None.
        kept: the share of each image that is its own, (N,), with `partners`.
    """

    inputs: Tensor
    labels: Tensor
    partners: Tensor | None = None
    kept: Tensor | None = None

    def split(self, count: int) -> list["Batch"]:
        """So many parts, whose sizes differ by at most one."""
        columns = [self.inputs, self.labels, self.partners, self.kept]
        parts = [[None] * count if column is None else column.tensor_split(count) for column in columns]
        return [Batch(inputs=i, labels=n, partners=p, kept=k) for i, n, p, k in zip(*parts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step found; scalars on the device, over all processes.

    Attributes:
        loss: nats per image.
        correct: images whose label was the network's answer while training.
        norm: of the gradient, before clipping.
    """

    loss: Tensor
    correct: Tensor
    norm: Tensor


@dataclass(kw_only=True)
class Stepper:
    """Takes steps of `optimizer`.

    A batch that does not fit the memory is tried again in parts of half the size, whose gradients add up, and so are
    all later ones; batch normalisation then sees smaller batches. Where torch.compile fails, training goes on without.
    Both are said once. A failed try leaves no trace: batch norm's running statistics are put back before the next.

    Attributes:
        part: images per forward pass over all processes, at most, or one more where one would be left over; None: all.
        compiled: whether torch.compile is in use.
        class_weights: of the loss, as `mixing.cross_entropy` takes them.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    precision: str
    label_smoothing: float
    clip_norm: float
    part: int | None
    compiled: bool
    class_weights: Tensor | None = None
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = loss_scaler(self.precision, self.device)
        self._buffers = list(self.model.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]
        self._forward: Any = self.model
        if self.compiled:
            torch._dynamo.config.recompile_limit = COMPILED_SHAPES
            self._forward = torch.compile(self.model, dynamic=False)

    def take(self, batch: Batch, *, total: int, seed: int) -> Step:
        """Move the weights by the gradient of the mean loss over the `total` images of all processes' batches.

        Args:
            seed: of dropout and stochastic depth.
        """
        loss, correct = self._gradients(batch, total, seed)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._share([loss, correct], gradients)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm(gradients)
        if self.clip_norm:
            torch._foreach_mul_(gradients, (self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self.scaler.step(self.optimizer)  # under float16, not where a gradient is not finite
        self.scaler.update()
        if self.scaler.is_enabled():  # what overflowed must not stay in the running statistics
            for buffer, before in zip(self._buffers, self._before, strict=True):
                buffer.copy_(torch.where(norm.isfinite(), buffer, before))
        return Step(loss=loss, correct=correct, norm=norm)

    def state(self) -> dict[str, Any]:
        return {"part": self.part, "scaler": self.scaler.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.part = state["part"]
        self.scaler.load_state_dict(state["scaler"])

    def _gradients(self, batch: Batch, total: int, seed: int) -> tuple[Tensor, Tensor]:
        """Leave this process's part of the gradient in the parameters; its loss and its right answers."""
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)
        while True:
            try:
                return self._try(batch, total, seed)
            except (RuntimeError, TorchDynamoException) as error:
                problem = error
            self._give_way(problem, total)

    def _try(self, batch: Batch, total: int, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        self.optimizer.zero_grad(set_to_none=True)
        loss, correct = torch.zeros(2, device=self.device).unbind()
        for part in batch.split(self._passes(total)):
            with autocast(self.precision, self.device):
                logits = self._forward(part.inputs)
            logits = logits.float()
            part_loss = mixing.cross_entropy(
                logits,
                part.labels,
                partners=part.partners,
                kept=part.kept,
                label_smoothing=self.label_smoothing,
                class_weights=self.class_weights,
            )
            self.scaler.scale(part_loss / total).backward()
            loss = loss + part_loss.detach() / total
            correct = correct + (logits.detach().argmax(1) == part.labels).sum()
        return loss, correct

    def _limit(self, total: int) -> int:
        """Images of a process per forward pass."""
        most, processes = -(-total // distributed.processes()), distributed.processes()
        return min(most, max(SMALLEST_PART, self.part // processes)) if self.part else most

    def _passes(self, total: int) -> int:
        """Forward passes, as many in every process: synchronised batch norms wait for each other.

        No pass has a single image, even where that makes one of them larger than the limit.
        """
        largest, smallest = -(-total // distributed.processes()), total // distributed.processes()
        # ceil(largest / limit) passes are enough for the largest part; with more than smallest / SMALLEST_PART of them,
        # a pass of the smallest would have a single image, whose variance batch normalisation would take to be 0.
        return max(1, min(-(-largest // self._limit(total)), smallest // SMALLEST_PART))

    def _share(self, sums: list[Tensor], gradients: list[Tensor]) -> None:
        """Sum over processes; running statistics become their mean, so that every process has the same state."""
        count = distributed.processes()
        if count == 1:
            return
        training = (module for module in self.model.modules() if module.training)
        buffers = (buffer for module in training for buffer in module.buffers(recurse=False))
        statistics = [buffer for buffer in buffers if buffer.is_floating_point()]
        if statistics:
            torch._foreach_div_(statistics, count)
        distributed.sum_over_processes([*sums, *gradients, *statistics])

    def _give_way(self, problem: Exception, total: int) -> None:
        """Undo a failed try, and change what made it fail; raise `problem` again where nothing would help."""
        out_of_memory, limit = is_out_of_memory(problem), self._limit(total)
        if not out_of_memory and not (self.compiled and isinstance(problem, TorchDynamoException)):
            raise problem
        problem.__traceback__ = None  # its frames hold the tensors that did not fit
        reason = str(problem).strip().partition("\n")[0]
        # Gradients of the failed try go when the next one begins; what its passes did to running statistics goes here.
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)
        if not out_of_memory:
            self.compiled, self._forward = False, self.model
            console.warn(f"torch.compile failed ({reason}); training goes on without it")
            return
        if distributed.processes() > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in self.model.modules()):
            raise MemoryError(f"{reason}; processes that share batch norms cannot try again: set micro_batch_size")
        # Each part's loss is a sum over images / total: however many parts, the gradients add up to the batch's.
        half = -(-limit // 2)
        if half < SMALLEST_PART:
            raise MemoryError(f"not even {limit} images at a time fit ({reason}); try a lower resolution")
        self.part = half * distributed.processes()
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()
        console.warn(
            f"out of memory with {self._size(limit)} per forward pass: at most {self._size(half)} from here on, whose "
            "gradients add up to the same batch; batch normalisation sees smaller batches"
        )

    def _size(self, count: int) -> str:
        return f"{count} images" + (" of a process" if distributed.processes() > 1 else "")
