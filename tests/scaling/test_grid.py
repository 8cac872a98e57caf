"""The grid over the coefficients: every distinct network of the constraint, each once, and none beyond the limit."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
import torch
from torchvision.models.efficientnet import MBConvConfig

from src.interface import params
from src.interface.scaling_params import Scaling, ScalingSearch
from src.models import cost
from src.models.efficientnet import B0_TABLE, BASES, build, layout
from src.scaling import arithmetic
from src.scaling.equations import Coefficients
from src.scaling.grid import Candidate, candidates

Base = Literal["efficientnet_b0", "efficientnet_pico"]
SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")


def study(resolution: int = 64, stem_stride: int = 2, base: Base = "efficientnet_b0") -> Scaling:
    return replace(SHIPPED.scaling, base=base, base_resolution=resolution, stem_stride=stem_stride)


def search(**changes: object) -> ScalingSearch:
    return replace(SHIPPED.scaling_search, **{"step": 0.05, "tolerance": 0.2, "max_multiply_adds": None} | changes)  # type: ignore[arg-type]


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


def realised(point: tuple[float, float, float], scaling: Scaling) -> tuple[float, float, float]:
    """Layers, channels of the stages and pixels over the base's, by torchvision's own rounding."""
    (shapes, side), (base, pixels) = network(point, scaling), network((1.0, 1.0, 1.0), scaling)
    layers, channels = (sum(row[i] for row in shapes) / sum(row[i] for row in base) for i in (2, 1))
    return layers, channels, side / pixels


@pytest.mark.parametrize(
    ("base", "resolution", "stem_stride", "parts", "networks"),
    [("efficientnet_b0", 64, 2, 20, 8), ("efficientnet_b0", 64, 2, 10, 3), ("efficientnet_pico", 32, 1, 20, 9)],
)
def test_the_candidates_are_the_distinct_networks_of_about_twice_the_cost_that_scale_two_axes(
    base: Base, resolution: int, stem_stride: int, parts: int, networks: int
) -> None:
    """Of the whole grid, each network by torchvision and its cost by thop; what it realises names it."""
    scaling = study(resolution, stem_stride, base)
    groups: dict[object, list[tuple[float, float, float]]] = {}
    for whole in product(range(parts, 2 * parts + 1), repeat=3):
        point = tuple(each / parts for each in whole)
        groups.setdefault(network(point, scaling), []).append(point)
    one = built_cost((1.0, 1.0, 1.0), scaling, resolution)
    several = found(scaling, step=1 / parts)
    expected = set()
    for (_, side), points in groups.items():
        grown = realised(points[0], scaling)
        cost_of_point = multiply_adds_of(points[0], scaling, side)
        if sum(each > 1 for each in grown) > 1 and abs(cost_of_point / one - 2) <= 0.2:
            away = [round(sum(abs(math.log(r / c)) for r, c in zip(grown, p, strict=True)), 6) for p in points]
            expected.add(points[away.index(min(away))])
    assert {numbers(each.coefficients) for each in several} == expected
    assert len(several) == networks
    for each in several:
        assert each.realised == pytest.approx(realised(numbers(each.coefficients), scaling))
        assert each.cost == each.multiply_adds / one
        assert (each.depth, each.width) == (each.coefficients.alpha, each.coefficients.beta)
    away_from_two = [abs(each.cost - 2) for each in several]
    assert away_from_two == sorted(away_from_two)


def multiply_adds_of(point: tuple[float, float, float], scaling: Scaling, side: int) -> int:
    depth, width = (own * factor for own, factor in zip(BASES[scaling.base], point, strict=False))
    return arithmetic.multiply_adds(
        depth=depth, width=width, resolution=side, stem_stride=scaling.stem_stride, classes=10
    )


def built_cost(point: tuple[float, float, float], scaling: Scaling, side: int) -> int:
    depth, width = (own * factor for own, factor in zip(BASES[scaling.base], point, strict=False))
    with torch.device("meta"):
        built = build(depth=depth, width=width, classes=10, dropout=0.2, stem_stride=scaling.stem_stride)
    return cost.multiply_adds(built, side)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("resolution", "stem_stride"), [(32, 1), (64, 2), (224, 2)])
def test_the_default_grid_has_8_to_40_candidates_within_a_tenth_of_twice_the_cost(
    base: Base, resolution: int, stem_stride: int
) -> None:
    default = SHIPPED.scaling_search
    assert (default.step, default.tolerance, default.max_multiply_adds) == (0.05, 0.2, None)
    several = candidates(default, study(resolution, stem_stride, base), classes=10)
    assert 8 <= len(several) <= 40
    assert all(1.8 <= each.cost <= 2.2 and each.axes >= 2 for each in several)


def test_coefficients_that_come_to_nothing_are_not_named() -> None:
    """gamma = 1.1 trains at 64 pixels as gamma = 1 does; alpha = 1.05 adds as many layers as 1.25."""
    for each in found():
        alpha, beta, gamma = numbers(each.coefficients)
        assert [value > 1 for value in (alpha, beta, gamma)] == [value > 1 for value in each.realised]
    assert {each.coefficients.gamma for each in found() if each.resolution == 64} == {1.0}


def test_every_depth_above_1_up_to_1_25_is_one_network() -> None:
    """Rows of B0's table have at most 4 layers, and one layer more is at least a fourth."""
    assert len({layout(1 + k / 100, 1.0) for k in range(1, 26)}) == 1
    assert len({layout(alpha, 1.0) for alpha in (1.0, 1.25, 1.26)}) == 3
    seen = [(each.width, each.resolution) for each in found(tolerance=0.8) if 1 < each.depth <= 1.25]
    assert len(set(seen)) == len(seen) > 2


def test_a_step_that_never_reaches_2_leaves_it_out() -> None:
    values = {value for each in found(step=0.3, tolerance=1.0) for value in numbers(each.coefficients)}
    assert values <= {1.0, 1.3, 1.6, 1.9}


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
    for each in found(study(resolution, stem_stride, base))[::3]:
        with torch.device("meta"):
            built = build(
                depth=depth * each.depth, width=width * each.width, classes=10, dropout=0.2, stem_stride=stem_stride
            )
        assert cost.multiply_adds(built, each.resolution) == each.multiply_adds


def test_the_limit_leaves_the_candidates_that_cost_no_more() -> None:
    everything = found()
    costs = sorted(each.multiply_adds for each in everything)
    limited = found(max_multiply_adds=float(costs[4]))
    assert limited == [each for each in everything if each.multiply_adds <= costs[4]]
    assert len(limited) == 5


def test_an_empty_grid_names_the_nearest_candidates_and_the_setting_that_excludes_them() -> None:
    with pytest.raises(ValueError, match=r"^scaling_search\.tolerance: 0\.01 ") as caught:
        found(step=0.3, tolerance=0.01)
    message = str(caught.value)
    assert "\n" not in message
    assert "step 0.3; nearest (alpha, beta, gamma) by their cost over the base's, of those that scale two" in message
    least = float(message.partition("allowed: at least ")[2].partition(",")[0])
    nearest = found(step=0.3, tolerance=least)[0]  # as the message says
    assert f"all: {numbers(nearest.coefficients)} with {nearest.cost:.4g}, " in message
    with pytest.raises(ValueError, match="leaves no candidate"):
        found(step=0.3, tolerance=least - 0.002)


def test_where_no_tolerance_would_do_only_a_smaller_step_is_proposed() -> None:
    with pytest.raises(ValueError, match=r"with 9\.502; allowed: a smaller scaling_search\.step$"):
        found(step=0.7, tolerance=1.0)


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
