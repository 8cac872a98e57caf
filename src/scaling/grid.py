"""The grid over the paper's coefficients: the distinct networks that about double the cost of the base at phi = 1.

What counts is the cost that a network has, not what its coefficients promise (equation 3 of arXiv:1905.11946): layers
are rounded up, channels to multiples of 8 and resolutions to half the strides, so that coefficients with a product of 2
give 1.7 to 3.1 times the cost of B0 at 64 pixels.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import product

from src.interface.scaling_params import Scaling, ScalingSearch
from src.models.efficientnet import BASES, Layout, layout
from src.scaling.arithmetic import check_resolution, multiply_adds, suitable
from src.scaling.equations import Coefficients

TARGET = 2.0  # times the base's cost: of alpha * beta**2 * gamma**2, eq. 3 of arXiv:1905.11946
NAMED = 3  # how many excluded candidates a message names
FEWEST_AXES = 2  # that grow: with one, compound would be that axis, and be compared with itself


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Coefficients, and the network that they give at phi = 1.

    Attributes:
        depth, width: multipliers relative to the study's base.
        resolution: pixels per side.
        multiply_adds: for one image.
        cost: `multiply_adds` over those of the base.
        realised: what depth, width and resolution came to: layers, channels (summed over stages) and pixels per side
            over those of the base.
    """

    coefficients: Coefficients
    depth: float
    width: float
    resolution: int
    multiply_adds: int
    cost: float
    realised: tuple[float, float, float]

    @property
    def axes(self) -> int:
        """How many of depth, width and resolution grow."""
        return sum(multiplier > 1 for multiplier in self.realised)


def candidates(search: ScalingSearch, scaling: Scaling, *, classes: int) -> list[Candidate]:
    """The distinct networks of the grid over alpha, beta, gamma in [1, 2], those of nearly twice the base's cost first.

    A candidate's cost is within `search.tolerance` of 2 times the base's, and at most `search.max_multiply_adds`. At
    least two axes grow. Of coefficients that round to the same network at the same resolution, those stand for all that
    are nearest to what it realises.

    Raises:
        ValueError: no candidate is left, or a base resolution that the strides do not allow.
    """
    check_resolution(scaling.base_resolution, stem_stride=scaling.stem_stride, name="scaling.base_resolution")
    found = [each for each in _distinct(search, scaling, classes=classes) if each.axes >= FEWEST_AXES]
    found.sort(key=lambda each: (_distance(each), _numbers(each.coefficients)))
    near = [each for each in found if _distance(each) <= search.tolerance + 1e-9]
    if not near:
        raise ValueError(_too_tight(search, found))
    limit = search.max_multiply_adds
    affordable = [candidate for candidate in near if limit is None or candidate.multiply_adds <= limit]
    if not affordable:
        raise ValueError(_too_dear(search, near))
    return affordable


def _distance(candidate: Candidate) -> float:
    return abs(candidate.cost - TARGET)


def _distinct(search: ScalingSearch, scaling: Scaling, *, classes: int) -> list[Candidate]:
    """Every network of the grid once, the base among them."""
    depth, width = BASES[scaling.base]
    base, pixels = layout(depth, width), scaling.base_resolution
    values = [round(1 + i * search.step, 10) for i in range(int(1 / search.step + 1e-9) + 1)]
    resolutions: dict[int, list[float]] = {}
    for gamma in values:
        fitting = suitable(pixels * gamma, base=pixels, stem_stride=scaling.stem_stride)
        resolutions.setdefault(fitting, []).append(gamma)
    layouts: dict[Layout, list[tuple[float, float]]] = {}
    for alpha, beta in product(values, repeat=2):
        layouts.setdefault(layout(depth * alpha, width * beta), []).append((alpha, beta))
    count = partial(multiply_adds, stem_stride=scaling.stem_stride, classes=classes)
    cost, found = count(depth=depth, width=width, resolution=pixels), []
    for (network, pairs), (resolution, gammas) in product(layouts.items(), resolutions.items()):
        layers, channels, side = realised = (*_growth(network, base), resolution / pixels)
        alpha, beta = min(pairs, key=lambda pair: _apart(pair[0], layers) + _apart(pair[1], channels))
        gamma = min(gammas, key=lambda gamma: _apart(gamma, side))
        total = count(depth=depth * alpha, width=width * beta, resolution=resolution)
        found.append(
            Candidate(
                coefficients=Coefficients(alpha=alpha, beta=beta, gamma=gamma),
                depth=alpha,
                width=beta,
                resolution=resolution,
                multiply_adds=total,
                cost=total / cost,
                realised=realised,
            )
        )
    return found


def _growth(network: Layout, base: Layout) -> tuple[float, float]:
    """Layers, and channels summed over stages, over those of `base`."""
    layers, channels = (
        sum(getattr(stage, name) for stage in network.stages) / sum(getattr(stage, name) for stage in base.stages)
        for name in ("layers", "output_channels")
    )
    return layers, channels


def _apart(coefficient: float, realised: float) -> float:
    return round(abs(math.log(realised / coefficient)), 9)  # of equals, the smallest coefficient


def _numbers(coefficients: Coefficients) -> tuple[float, float, float]:
    return coefficients.alpha, coefficients.beta, coefficients.gamma


def _too_tight(search: ScalingSearch, found: list[Candidate]) -> str:
    named = ", ".join(f"{_numbers(each.coefficients)} with {each.cost:.4g}" for each in found[:NAMED])
    least = math.ceil(1000 * _distance(found[0])) / 1000
    wider = f"at least {least:g}, or " if least <= 1 else ""  # params.yaml takes no more
    return (
        f"scaling_search.tolerance: {search.tolerance} leaves no candidate on the grid of step {search.step}; nearest "
        f"(alpha, beta, gamma) by their cost over the base's, of those that scale two axes or all: {named}; "
        f"allowed: {wider}a smaller scaling_search.step"
    )


def _too_dear(search: ScalingSearch, found: list[Candidate]) -> str:
    cheapest = sorted(found, key=lambda candidate: candidate.multiply_adds)[:NAMED]
    named = ", ".join(f"{_numbers(each.coefficients)} with {each.multiply_adds}" for each in cheapest)
    return (
        f"scaling_search.max_multiply_adds: {search.max_multiply_adds} leaves no candidate; nearest "
        f"(alpha, beta, gamma) by their multiply-adds: {named}; allowed: at least {cheapest[0].multiply_adds}, or null"
    )
