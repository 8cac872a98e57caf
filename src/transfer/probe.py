"""A linear probe: softmax regression on frozen features, along a path of regularisation from which validation chooses.

N images, D feature width, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController
from torch import Tensor

GRADIENT = 3e-5  # a fit has converged when no part of its gradient is larger
ITERATIONS = 2000  # of L-BFGS, at most, per fit
MEMORY = 10  # pairs of steps and gradients from which L-BFGS knows the curvature


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and deviation of each feature over the training images; one that never changes keeps its scale."""

    mean: Tensor  # (D,)
    deviation: Tensor  # (D,)

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        features = features.float()
        deviation, mean = torch.std_mean(features, dim=0, correction=0)
        return cls(mean=mean, deviation=torch.where(deviation > 1e-6, deviation, 1.0))

    def applied(self, features: Tensor) -> Tensor:
        """Standardised features float32 (N, D)."""
        return features.float().sub_(self.mean).div_(self.deviation)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One point of the path.

    Attributes:
        penalty: lambda.
        weights: float32 (K, D), bias: float32 (K,): of standardised features.
        objective: mean cross-entropy (nats) plus lambda / 2 times the squared weights.
        gradient: its largest part, by magnitude.
        iterations: of L-BFGS.
        converged: whether `gradient` is at most GRADIENT.
    """

    penalty: float
    weights: Tensor
    bias: Tensor
    objective: float
    gradient: float
    iterations: int

    @property
    def converged(self) -> bool:
        return self.gradient <= GRADIENT

    def logits(self, features: Tensor) -> Tensor:
        """float32 (N, K) of standardised features."""
        return torch.addmm(self.bias, features, self.weights.T)


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """Principal components of standardised features: along each, cross-entropy curves about as its variance does.

    L-BFGS goes along these directions, each scaled by its curvature: a fifth of the steps to the same optimum.
    """

    directions: Tensor  # (D, D), one a column
    variances: Tensor  # (D,)

    @classmethod
    def of(cls, features: Tensor) -> "_Basis":
        variances, directions = torch.linalg.eigh(features.T @ features / len(features))
        return cls(directions=directions, variances=variances.clamp_min(0))

    def step(self, curvature: float, penalty: float) -> Tensor:
        """(D, D): what weights (K, D) along the scaled directions are multiplied by, to be weights of features."""
        scale = (curvature * self.variances + penalty).rsqrt()
        return scale.unsqueeze(1) * self.directions.T


def fit_path(features: Tensor, labels: Tensor, penalties: Sequence[float], *, classes: int) -> Iterator[Fit]:
    """Softmax regression at each penalty in turn, each from where the one before ended.

    Minimises mean cross-entropy + lambda / 2 * |W|^2 over W and the bias, which has no penalty, by L-BFGS. As
    scikit-learn's LogisticRegression has it, C = 1 / (lambda N). Losses and steps are float64, products float32
    as long as that is enough.

    Args:
        features: standardised, float32 (N, D).
        labels: int64 (N,).
        penalties: lambda, from the strongest to the weakest: so a warm start has few steps to go.
        classes: K.
    """
    basis, weights = _Basis.of(features), torch.zeros(classes, features.shape[1], device=features.device)
    bias = torch.zeros(classes, device=features.device)
    for penalty in penalties:
        problem = _Problem(features=features, labels=labels, penalty=penalty, basis=basis)
        fit = problem.solve(weights, bias)
        weights, bias = fit.weights, fit.bias
        yield fit


@dataclass(frozen=True, kw_only=True)
class _Problem:
    features: Tensor
    labels: Tensor
    penalty: float
    basis: _Basis

    def solve(self, weights: Tensor, bias: Tensor) -> Fit:
        """From `weights` (K, D) and `bias` (K,), in float32; where its rounding ends that too early, in float64."""
        iterations = 0
        for precision in (torch.float32, torch.float64):
            descent = _Descent(self, weights.to(precision), bias.to(precision))
            iterations += descent.run()
            weights, bias = descent.weights, descent.bias
            if descent.gradient <= GRADIENT:
                break
        return Fit(
            penalty=self.penalty,
            weights=weights.float(),
            bias=bias.float(),
            objective=descent.objective,
            gradient=descent.gradient,
            iterations=iterations,
        )


@cache
def _libraries() -> ThreadpoolController:
    """The threads of scipy's linear algebra, in whose small steps there is nothing to share.

    Those of OpenBLAS wait for the next step by spinning, on the cores that torch's products want: `data_efficiency` of
    the sample took 22 s on two cores with them, and takes 4 without.
    """
    return ThreadpoolController()


class _Descent:
    """L-BFGS from one point, in one precision; afterwards its end, and how far from the optimum that is.

    Attributes:
        weights, bias: (K, D) and (K,) of the end.
        objective: there.
        gradient: the largest part of its gradient there, in the weights of features.
    """

    def __init__(self, problem: _Problem, weights: Tensor, bias: Tensor) -> None:
        precision = weights.dtype
        self._penalty, self._labels = problem.penalty, problem.labels.unsqueeze(1)
        self._features = problem.features.to(precision)
        self._start = weights, bias
        shares = torch.addmm(bias, self._features, weights.T).softmax(dim=1)
        curvature = max((shares * (1 - shares)).mean().item(), 1e-4)
        self._step = problem.basis.step(curvature, problem.penalty).to(precision)
        self._bias_step = curvature**-0.5
        self.weights, self.bias = self._start
        self.objective, self.gradient = np.inf, np.inf
        self._evaluated = np.inf

    def run(self) -> int:
        """The number of iterations."""
        limits = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "maxcor": MEMORY, "gtol": 0.0, "ftol": 0.0}
        start = np.zeros(self._start[0].numel() + len(self._start[1]))
        with _libraries().limit(limits=1, user_api="blas"):
            found = minimize(
                self._value, start, jac=True, method="L-BFGS-B", options=limits, callback=self._near_enough
            )
        self.objective, _ = self._value(found.x)
        self.gradient = self._evaluated
        self.weights, self.bias = self._at(found.x)
        return int(found.nit)

    def _near_enough(self, _: NDArray[np.float64]) -> None:
        """After each iteration, whose last evaluation was at its end."""
        if self._evaluated <= GRADIENT:
            raise StopIteration

    def _at(self, moved: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
        """Weights and bias so far from the start along the scaled directions."""
        weights, bias = self._start
        values = torch.from_numpy(moved).to(weights)
        size = weights.numel()
        return weights + values[:size].view_as(weights) @ self._step, bias + values[size:] * self._bias_step

    def _value(self, moved: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = self._at(moved)
        count = len(self._labels)
        logs = F.log_softmax(torch.addmm(bias, self._features, weights.T), dim=1)  # (N, K)
        loss = -logs.gather(1, self._labels).sum(dtype=torch.float64).item() / count
        signs = torch.full_like(self._labels, -1, dtype=logs.dtype)
        residuals = logs.exp_().scatter_add_(1, self._labels, signs).div_(count)
        slopes, bias_slopes = residuals.T @ self._features + self._penalty * weights, residuals.sum(0)
        self._evaluated = max(slopes.abs().max().item(), bias_slopes.abs().max().item())
        gradient = torch.cat([(slopes @ self._step.T).flatten(), bias_slopes * self._bias_step])
        squares = weights.square().sum(dtype=torch.float64).item()
        return loss + self._penalty / 2 * squares, gradient.double().cpu().numpy()
