"""The grid over the paper's coefficients: the distinct networks that about double the cost of the base at phi = 1."""

from dataclasses import dataclass
from functools import cache
from itertools import product

from src.interface.params import Scaling, ScalingSearch
from src.models.efficientnet import BASES, layout
from src.scaling.arithmetic import check_resolution, multiply_adds, suitable
from src.scaling.equations import Coefficients

TARGET = 2.0  # of alpha * beta**2 * gamma**2: eq. 3 of arXiv:1905.11946
NAMED = 3  # how many excluded candidates a message names


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Coefficients, and the network that they give at phi = 1.

    Attributes:
        depth, width: multipliers relative to the study's base.
        resolution: pixels per side.
        multiply_adds: for one image.
    """

    coefficients: Coefficients
    depth: float
    width: float
    resolution: int
    multiply_adds: int


def candidates(search: ScalingSearch, scaling: Scaling, *, classes: int) -> list[Candidate]:
    """The distinct networks of the grid over alpha, beta, gamma in [1, 2], ordered by these.

    A candidate's growth alpha * beta**2 * gamma**2 is within `search.tolerance` of 2, its cost at most
    `search.max_multiply_adds`. Of coefficients that round to the same network at the same resolution, those with the
    growth nearest to 2 stand for all, then the smallest.

    Raises:
        ValueError: no candidate is left, or a base resolution that the strides do not allow.
    """
    check_resolution(scaling.base_resolution, stem_stride=scaling.stem_stride, name="scaling.base_resolution")
    grid = _grid(search.step)
    near = [coefficients for coefficients in grid if _distance(coefficients) <= search.tolerance + 1e-9]
    if not near:
        raise ValueError(_too_tight(search, grid))
    found = _distinct(near, scaling, classes=classes)
    limit = search.max_multiply_adds
    affordable = [candidate for candidate in found if limit is None or candidate.multiply_adds <= limit]
    if not affordable:
        raise ValueError(_too_dear(search, found))
    return affordable


def _grid(step: float) -> list[Coefficients]:
    values = [round(1 + i * step, 10) for i in range(int(1 / step + 1e-9) + 1)]
    return [Coefficients(alpha=alpha, beta=beta, gamma=gamma) for alpha, beta, gamma in product(values, repeat=3)]


def _distance(coefficients: Coefficients) -> float:
    return round(abs(coefficients.growth - TARGET), 10)  # 1.9 - 2 and 2.1 - 2 differ in their last digit


def _distinct(near: list[Coefficients], scaling: Scaling, *, classes: int) -> list[Candidate]:
    depth, width = BASES[scaling.base]
    layout_of = cache(lambda alpha, beta: layout(depth * alpha, width * beta))
    best: dict[object, tuple[Coefficients, int]] = {}
    for coefficients in sorted(near, key=_distance):  # stable: of equals, the smallest coefficients first
        resolution = suitable(
            scaling.base_resolution * coefficients.gamma, base=scaling.base_resolution, stem_stride=scaling.stem_stride
        )
        network = layout_of(coefficients.alpha, coefficients.beta)
        best.setdefault((network, resolution), (coefficients, resolution))
    return [
        Candidate(
            coefficients=coefficients,
            depth=coefficients.alpha,
            width=coefficients.beta,
            resolution=resolution,
            multiply_adds=multiply_adds(
                depth=depth * coefficients.alpha,
                width=width * coefficients.beta,
                resolution=resolution,
                stem_stride=scaling.stem_stride,
                classes=classes,
            ),
        )
        for coefficients, resolution in sorted(best.values(), key=lambda pair: _numbers(pair[0]))
    ]


def _numbers(coefficients: Coefficients) -> tuple[float, float, float]:
    return coefficients.alpha, coefficients.beta, coefficients.gamma


def _too_tight(search: ScalingSearch, grid: list[Coefficients]) -> str:
    nearest = sorted(grid, key=_distance)[:NAMED]
    named = ", ".join(f"{_numbers(coefficients)} with {coefficients.growth:.4g}" for coefficients in nearest)
    return (
        f"scaling_search.tolerance: {search.tolerance} leaves no candidate on the grid of step {search.step}; nearest "
        f"(alpha, beta, gamma) by their alpha * beta^2 * gamma^2: {named}; "
        f"allowed: at least {_distance(nearest[0]):.10g}, or a smaller scaling_search.step"
    )


def _too_dear(search: ScalingSearch, found: list[Candidate]) -> str:
    cheapest = sorted(found, key=lambda candidate: candidate.multiply_adds)[:NAMED]
    named = ", ".join(f"{_numbers(each.coefficients)} with {each.multiply_adds}" for each in cheapest)
    return (
        f"scaling_search.max_multiply_adds: {search.max_multiply_adds} leaves no candidate; nearest "
        f"(alpha, beta, gamma) by their multiply-adds: {named}; allowed: at least {cheapest[0].multiply_adds}, or null"
    )
