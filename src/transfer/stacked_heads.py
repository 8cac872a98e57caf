"""Heads of one classifier trained as one: their weights lie behind each other, and a step takes all of them.

Each head takes the steps that it would take alone under the same seed, but for the rounding of sums. Of a deep head,
batch norm takes away the bias before it, whose gradient is rounding alone: Adam makes full steps of that, here as
alone, and the running mean lags behind them, so that validation may differ by an image or two.

Alone, every head draws its dropout from the seed of the step, so heads of one probability have one mask: here it is
drawn once for all of them. On the CPU it is the mask that each has alone; a GPU's own dropout may draw another. Batch
norm counts over the images of a batch, for each head by itself.

N images, M heads, D feature width, H hidden width, K classes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads import Head, build_head
from src.training.optimizers import EPSILON, build_optimizer
from src.training.schedules import learning_rate_factor


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What a step found of each head, float32 (M,) on the device: as `training.steps.Step` for one.

    Attributes:
        loss: nats per image.
        correct: images whose label was the head's answer while training.
        norm: of the gradient.
    """

    loss: Tensor
    correct: Tensor
    norm: Tensor


class StackedHeads:
    """New heads of one classifier, with one start, ready to be trained for a number of steps.

    Args:
        heads: those of equal dropout beside each other.
        width: D.
        classes: K.
        seed: of the initial weights.
        steps: of the whole training, over which schedules fall.
        class_weights: by which each class counts in the loss, float32 (K,); None: all 1.
    """

    def __init__(
        self,
        heads: Sequence[Head],
        *,
        width: int,
        classes: int,
        seed: int,
        steps: int,
        device: torch.device,
        class_weights: Tensor | None = None,
    ) -> None:
        self.heads, self._steps, self._class_weights = tuple(heads), steps, class_weights
        first = build_head(heads[0].classifier, width=width, classes=classes, dropout=0.0, seed=seed).to(device)
        self._norm = next((module for module in first if isinstance(module, nn.BatchNorm1d)), None)
        self._weights = {
            name: _repeated(parameter, len(heads)).requires_grad_() for name, parameter in first.named_parameters()
        }
        self._statistics = {
            name: _repeated(buffer, len(heads)) for name, buffer in first.named_buffers() if buffer.ndim
        }
        self._last = len(first) - 1  # of its layers, the one that gives logits
        self._runs = [(rate, len(list(run))) for rate, run in groupby(head.dropout for head in heads)]
        self._parts = {name: [nn.Parameter(part) for part in each.detach()] for name, each in self._weights.items()}
        self._optimizers = self._build_optimizers()

    def step(self, inputs: Tensor, labels: Tensor, *, number: int, seed: int) -> Steps:
        """Move every head by the gradient of its mean loss over inputs (N, D) with labels (N,).

        Args:
            number: of the step, from 0.
            seed: of dropout.
        """
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                factor = learning_rate_factor(group["schedule"], number, total=self._steps, warmup=0)
                group["lr"] = group["initial_lr"] * factor
        logits = self._forward(inputs, seed)
        losses = _losses(logits, labels)
        if self._class_weights is not None:
            losses = losses * self._class_weights[labels].unsqueeze(1)
        loss = losses.mean(0)
        loss.sum().backward()
        norm = self._hand_out_gradients()
        for optimizer in self._optimizers:
            optimizer.step()
        correct = (logits.detach().argmax(2) == labels.unsqueeze(1)).sum(0)
        return Steps(loss=loss.detach(), correct=correct.float(), norm=norm)

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """float32 (N, M, K) of inputs (N, D), as a head in eval mode gives them."""
        return self._forward(inputs, None)

    def rates(self) -> list[float]:
        """Learning rate of each head in the last step."""
        place = {
            id(parameter): group["lr"]
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        return [place[id(part)] for part in self._parts[f"{self._last}.weight"]]

    def state(self, index: int) -> dict[str, Tensor]:
        """Weights and running statistics of one head, by the names that `build_head` gives them."""
        return {name: each.detach()[index].clone() for name, each in (self._weights | self._statistics).items()}

    def _build_optimizers(self) -> list[torch.optim.Optimizer]:
        """One of each kind; in it, two groups for all heads of equal settings: what decays, and what does not."""
        alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for index, head in enumerate(self.heads):
            alike[head.optimizer, head.learning_rate, head.weight_decay, head.schedule].append(index)
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for (optimizer, rate, decay, schedule), indices in alike.items():
            parts = [each[index] for index in indices for each in self._parts.values()]
            for own, members in ((decay, [p for p in parts if p.ndim > 1]), (0.0, [p for p in parts if p.ndim <= 1])):
                common = {"lr": rate, "initial_lr": rate, "schedule": schedule, "weight_decay": own}
                groups[optimizer].append({"params": members} | common)
        return [build_optimizer(name, own, epsilon=EPSILON) for name, own in groups.items()]

    def _hand_out_gradients(self) -> Tensor:
        """Give each head's parameters their part of the gradient; its norm, (M,)."""
        squares = torch.zeros(len(self.heads), device=next(iter(self._weights.values())).device)
        for name, each in self._weights.items():
            gradient = each.grad
            assert gradient is not None  # noqa: S101 - all weights take part in all logits
            squares += torch.linalg.vector_norm(gradient.flatten(1), dim=1).square()
            for part, own in zip(self._parts[name], gradient.unbind(), strict=True):
                part.grad = own
            each.grad = None
        return squares.sqrt()

    def _forward(self, inputs: Tensor, seed: int | None) -> Tensor:
        """(N, M, K) of inputs (N, D), in training where there is a `seed`, of dropout."""
        last = self._weights[f"{self._last}.weight"], self._weights[f"{self._last}.bias"]
        masks = self._masks(inputs, seed)
        if self._norm is None:
            return _from_shared(inputs, masks, *last, sizes=[count for _, count in self._runs])
        hidden = _linear(inputs, self._weights["0.weight"], self._weights["0.bias"]).flatten(1)  # (N, M * H)
        mean, variance = (self._statistics[f"1.{name}"].view(-1) for name in ("running_mean", "running_var"))
        weight, bias = (self._weights[f"1.{name}"].view(-1) for name in ("weight", "bias"))
        momentum, epsilon = self._norm.momentum or 0.0, self._norm.eps
        normed = F.batch_norm(hidden, mean, variance, weight, bias, seed is not None, momentum, epsilon)
        active = F.silu(normed).unflatten(1, (len(self.heads), -1))  # (N, M, H)
        if seed is not None:
            parts = active.split([count for _, count in self._runs], dim=1)
            active = torch.cat([part * mask.unsqueeze(1) for part, mask in zip(parts, masks, strict=True)], dim=1)
        weights, biases = last
        return torch.baddbmm(biases.unsqueeze(1), active.transpose(0, 1), weights.transpose(1, 2)).transpose(0, 1)

    def _masks(self, inputs: Tensor, seed: int | None) -> list[Tensor]:
        """What dropout multiplies the inputs of the last layer by, (N, D or H), for each run of equal dropout."""
        if seed is None:
            return []
        whole = torch.ones(len(inputs), self._weights[f"{self._last}.weight"].shape[-1], device=inputs.device)
        masks = []
        for rate, _ in self._runs:
            torch.manual_seed(seed)
            masks.append(F.dropout(whole, rate))
        return masks


def score(stack: StackedHeads, features: Tensor, labels: Tensor, batch_size: int) -> tuple[list[float], list[float]]:
    """Accuracy (fraction) and mean cross-entropy (nats) of each head, on features (N, D) with labels (N,)."""
    correct, loss = torch.zeros(2, len(stack.heads), device=labels.device, dtype=torch.float64).unbind()
    for own, theirs in zip(features.split(batch_size), labels.split(batch_size), strict=True):
        logits = stack.logits(own.float())
        correct += (logits.argmax(2) == theirs.unsqueeze(1)).sum(0)
        loss += _losses(logits, theirs).sum(0)
    return (correct / len(labels)).tolist(), (loss / len(labels)).tolist()


def _repeated(tensor: Tensor, count: int) -> Tensor:
    return tensor.detach().expand(count, *tensor.shape).contiguous()


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (N, M) of logits (N, M, K)."""
    chosen = labels.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
    return -logits.log_softmax(2).gather(2, chosen).squeeze(2)


def _linear(inputs: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """All heads' outputs for the same inputs by one product: (N, D), (M, K, D), (M, K) -> (N, M, K)."""
    whole: Tensor = F.linear(inputs, weights.flatten(0, 1), biases.flatten())
    return whole.view(len(inputs), *biases.shape)


def _from_shared(
    inputs: Tensor, masks: Sequence[Tensor], weights: Tensor, biases: Tensor, *, sizes: Sequence[int]
) -> Tensor:
    """As `_linear`; with masks, each run of `sizes` heads has the inputs that its own leaves."""
    if not masks:
        return _linear(inputs, weights, biases)
    runs = zip(masks, weights.split(list(sizes)), biases.split(list(sizes)), strict=True)
    return torch.cat([_linear(inputs * mask, *own) for mask, *own in runs], dim=1)
