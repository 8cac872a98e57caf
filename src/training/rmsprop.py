"""RMSProp as TensorFlow has it, with which EfficientNet was trained."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class RMSProp(torch.optim.Optimizer):
    """With the gradient g, the mean square s (ones at first), and the momentum m (zeros at first), a step is

        s <- decay * s + (1 - decay) * g^2
        m <- momentum * m + lr * g / sqrt(s + epsilon)
        w <- w - m

    The weight decay is added to the gradient: g + weight_decay * w. This is tf.train.RMSPropOptimizer, which the code
    of the EfficientNet paper (arXiv:1905.11946) calls with decay 0.9, momentum 0.9 and epsilon 0.001.
    torch.optim.RMSprop differs in three ways: s is zero at first, which makes the first steps up to 1 / sqrt(1 - decay)
    times longer; epsilon is added outside the root; and the rate multiplies m as a whole instead of entering it, so
    that a change of rate acts on the steps of the past as well.

    A parameter without a gradient is left alone, and so is its state.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float = 0.01,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)
        return loss

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients: Any = [parameter.grad for parameter in parameters]
        if group["weight_decay"]:
            gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
        squares = [self._state_of(parameter)["mean_square"] for parameter in parameters]
        momenta = [self._state_of(parameter)["momentum"] for parameter in parameters]
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["decay"])
        roots = torch._foreach_add(squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_addcdiv_(momenta, gradients, roots, value=group["lr"])
        torch._foreach_sub_(parameters, momenta)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
            state["momentum"] = torch.zeros_like(parameter)
        return state
