"""Compound scaling (Tan & Le, arXiv:1905.11946): the equations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """The paper's equation 3: the bases of depth alpha**phi, width beta**phi and resolution gamma**phi."""

    alpha: float
    beta: float
    gamma: float

    @property
    def growth(self) -> float:
        """What one step of phi multiplies the cost by, roundings aside; the paper wants about 2."""
        return self.alpha * self.beta**2 * self.gamma**2


PAPER = Coefficients(alpha=1.2, beta=1.1, gamma=1.15)


def factors(coefficients: Coefficients, phi: float) -> tuple[float, float, float]:
    """Depth, width and resolution relative to the base (equation 3)."""
    return coefficients.alpha**phi, coefficients.beta**phi, coefficients.gamma**phi


def coefficients(values: Mapping[str, Any]) -> Coefficients:
    """What models/coefficients.json holds."""
    return Coefficients(**{name: values[name] for name in ("alpha", "beta", "gamma")})
