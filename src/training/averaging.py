"""Averaged weights: what validation judges when `ema_decay` is on."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class MovingAverage:
    """An exponential moving average of a network's weights and batch-norm statistics.

    The first update copies; at update n (from 0) the decay is (1 + n) / (10 + n), at most `decay`. Without that rise, a
    run of a few hundred steps keeps mostly its random start. As in TensorFlow's ExponentialMovingAverage(num_updates),
    which EfficientNet's training used. torch's AveragedModel groups all tensors anew at each update, which takes a
    small network more time than the average itself.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._averaged = copy.deepcopy(model)
        tensors = [[*network.parameters(), *network.buffers()] for network in (self._averaged, model)]
        self._mine, self._theirs = ([t for t in side if t.is_floating_point()] for side in tensors)
        self._counters = [(a, b) for a, b in zip(*tensors, strict=True) if not a.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model's present weights."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        torch._foreach_lerp_(self._mine, self._theirs, 1 - kept)
        self.updates += 1

    @property
    def model(self) -> nn.Module:
        """The averaged network; counters, which have no average, are the model's own."""
        for averaged, current in self._counters:
            averaged.copy_(current)
        return self._averaged

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "model": self.model.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]
        self._averaged.load_state_dict(state["model"])
