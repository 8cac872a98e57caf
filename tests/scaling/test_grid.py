"""The grid over the coefficients: every distinct network of the constraint, each once, and none beyond the limit."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from torchvision.models.efficientnet import MBConvConfig

from src.interface import params
from src.interface.params import Scaling, ScalingSearch
from src.models import cost
from src.models.efficientnet import B0_TABLE, BASES, build, layout
from src.scaling.equations import Coefficients
from src.scaling.grid import Candidate, candidates

Base = Literal["efficientnet_b0", "efficientnet_pico"]
SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")


def study(resolution: int = 64, stem_stride: int = 2, base: Base = "efficientnet_b0") -> Scaling:
    return replace(SHIPPED.scaling, base=base, base_resolution=resolution, stem_stride=stem_stride)


def search(**changes: object) -> ScalingSearch:
    return replace(SHIPPED.scaling_search, **{"step": 0.1, "tolerance": 0.1, "max_multiply_adds": None} | changes)  # type: ignore[arg-type]


def found(scaling: Scaling | None = None, **changes: object) -> list[Candidate]:
    return candidates(search(**changes), scaling or study(), classes=10)


def numbers(coefficients: Coefficients) -> tuple[float, float, float]:
    return coefficients.alpha, coefficients.beta, coefficients.gamma


def network(point: tuple[float, float, float], scaling: Scaling) -> tuple[object, ...]:
    """The base, scaled by torchvision's own rounding, and the multiple of half the strides' pixels that is nearest."""
    alpha, beta, gamma = point
    depth, width = BASES[scaling.base]
    rows = [MBConvConfig(*row, width_mult=width * beta, depth_mult=depth * alpha) for row in B0_TABLE]
    shapes = tuple((row.input_channels, row.out_channels, row.num_layers) for row in rows)
    half = 8 * scaling.stem_stride
    return shapes, half * math.floor(scaling.base_resolution * gamma / half + 0.5)


@pytest.mark.parametrize(
    ("base", "resolution", "stem_stride", "parts", "points", "networks"),
    [
        ("efficientnet_b0", 64, 2, 10, 21, 18),
        ("efficientnet_b0", 32, 1, 10, 21, 18),
        ("efficientnet_pico", 224, 2, 10, 21, 16),
        ("efficientnet_b0", 224, 2, 20, 109, 58),
    ],
)
def test_the_candidates_are_the_distinct_networks_of_the_grid(
    base: Base, resolution: int, stem_stride: int, parts: int, points: int, networks: int
) -> None:
    """In exact arithmetic, with the network of each point by torchvision; the nearest to 2 stands for equals."""
    scaling = study(resolution, stem_stride, base)
    groups: dict[object, list[tuple[Fraction, tuple[float, float, float]]]] = {}
    for whole in product(range(parts, 2 * parts + 1), repeat=3):
        alpha, beta, gamma = (Fraction(each, parts) for each in whole)
        distance = abs(alpha * beta**2 * gamma**2 - 2)
        if distance <= Fraction(1, 10):
            point = (float(alpha), float(beta), float(gamma))
            groups.setdefault(network(point, scaling), []).append((distance, point))
    several = found(scaling, step=1 / parts)
    assert [numbers(each.coefficients) for each in several] == sorted(min(group)[1] for group in groups.values())
    assert [network(numbers(each.coefficients), scaling)[1] for each in several] == [
        each.resolution for each in several
    ]
    assert (sum(map(len, groups.values())), len(several)) == (points, networks)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("resolution", "stem_stride"), [(32, 1), (64, 2), (224, 2)])
def test_the_default_grid_has_10_to_20_candidates(base: Base, resolution: int, stem_stride: int) -> None:
    default = SHIPPED.scaling_search
    assert (default.step, default.tolerance, default.max_multiply_adds) == (0.1, 0.1, None)
    assert 10 <= len(candidates(default, study(resolution, stem_stride, base), classes=10)) <= 20


def test_every_depth_above_1_up_to_1_25_is_one_network() -> None:
    """Rows of B0's table have at most 4 layers, and one layer more is at least a fourth."""
    assert len({layout(1 + k / 100, 1.0) for k in range(1, 26)}) == 1
    assert len({layout(alpha, 1.0) for alpha in (1.0, 1.25, 1.26)}) == 3
    for step in (0.1, 0.05):
        seen = [
            (candidate.width, candidate.resolution) for candidate in found(step=step) if 1 < candidate.depth <= 1.25
        ]
        assert len(set(seen)) == len(seen) > 2


@pytest.mark.parametrize("step", [0.05, 0.1, 0.2, 0.25])
@pytest.mark.parametrize("tolerance", [0.0, 0.05, 0.1, 0.5])
def test_candidates_are_distinct_points_of_the_grid_that_satisfy_the_constraint(step: float, tolerance: float) -> None:
    scaling = study(224)
    several = found(scaling, step=step, tolerance=tolerance)
    allowed = {round(1 + i * step, 10) for i in range(round(1 / step) + 1)}
    for each in several:
        alpha, beta, gamma = numbers(each.coefficients)
        assert {alpha, beta, gamma} <= allowed
        assert abs(alpha * beta**2 * gamma**2 - 2) <= tolerance + 1e-8
        assert (each.depth, each.width) == (alpha, beta)
        assert each.resolution == 224 or each.resolution % 16 == 0
        assert abs(each.resolution - 224 * gamma) <= 8  # half of the 16 pixels from one to the next
    assert len({(layout(each.depth, each.width), each.resolution) for each in several}) == len(several)


def test_the_ends_of_the_tolerance_belong_to_it() -> None:
    """1.9 and 2.1 are no exact floats."""
    assert (2.0, 1.0, 1.0) in [numbers(each.coefficients) for each in found(tolerance=0.0)]
    assert len(found(step=0.1, tolerance=0.1)) == len(found(step=0.1, tolerance=0.1001))
    ends = [numbers(each.coefficients) for each in found(step=0.3, tolerance=0.1)]
    assert (1.9, 1.0, 1.0) in ends


def test_a_step_that_never_reaches_2_leaves_it_out() -> None:
    values = {value for each in found(step=0.3, tolerance=1.0) for value in numbers(each.coefficients)}
    assert values == {1.0, 1.3, 1.6, 1.9}


def test_fine_steps_make_no_noise() -> None:
    """1 + 7 * 0.1 is 1.7000000000000002."""
    for each in found(step=0.02, tolerance=0.02):
        assert numbers(each.coefficients) == tuple(round(value, 2) for value in numbers(each.coefficients))


@pytest.mark.parametrize(
    ("base", "resolution", "stem_stride"), [("efficientnet_b0", 64, 2), ("efficientnet_pico", 32, 1)]
)
def test_a_built_candidate_costs_what_the_table_says(base: Base, resolution: int, stem_stride: int) -> None:
    """Counted by thop."""
    depth, width = BASES[base]
    for each in found(study(resolution, stem_stride, base))[::6]:
        built = build(
            depth=depth * each.depth, width=width * each.width, classes=10, dropout=0.2, stem_stride=stem_stride
        )
        assert cost.multiply_adds(built, each.resolution) == each.multiply_adds


def test_the_limit_leaves_the_candidates_that_cost_no_more() -> None:
    everything = found()
    costs = sorted(each.multiply_adds for each in everything)
    limited = found(max_multiply_adds=float(costs[8]))
    assert limited == [each for each in everything if each.multiply_adds <= costs[8]]
    assert len(limited) == 9


def test_an_empty_grid_names_the_nearest_candidates_and_the_setting_that_excludes_them() -> None:
    with pytest.raises(ValueError, match=r"^scaling_search\.tolerance: 0\.01 ") as caught:
        found(step=0.7, tolerance=0.01)
    message = str(caught.value)
    assert "\n" not in message
    assert "(1.7, 1.0, 1.0) with 1.7, (1.0, 1.0, 1.7) with 2.89, (1.0, 1.7, 1.0) with 2.89" in message
    assert "step 0.7" in message
    assert "allowed: at least 0.3," in message
    assert found(step=0.7, tolerance=0.3)  # as the message says


def test_a_limit_below_all_candidates_names_the_cheapest() -> None:
    cheapest = sorted(found(), key=lambda each: each.multiply_adds)[:3]
    with pytest.raises(ValueError, match=r"^scaling_search\.max_multiply_adds: 1000000\.0 ") as caught:
        found(max_multiply_adds=1e6)
    message = str(caught.value)
    assert "\n" not in message
    assert ", ".join(f"{numbers(each.coefficients)} with {each.multiply_adds}" for each in cheapest) in message
    assert found(max_multiply_adds=float(cheapest[0].multiply_adds)) == cheapest[:1]


def test_a_base_resolution_below_the_strides_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^scaling\.base_resolution: 31 "):
        found(study(31))
