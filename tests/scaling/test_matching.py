"""Arms of equal cost: within 2 % of the budget, nearest to what the coefficients say, or refused with a proposal."""

import math
import re
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
import torch

from src.interface import params
from src.interface.scaling_params import OWN_ARMS, Scaling, ScalingAblation
from src.models import cost
from src.models.efficientnet import BASES, build
from src.scaling.arithmetic import multiply_adds
from src.scaling.equations import PAPER, Coefficients
from src.scaling.matching import plan_arms
from src.scaling.networks import Plan, relative_cost

Base = Literal["efficientnet_b0", "efficientnet_pico"]
SHIPPED = params.load(Path(__file__).parents[2] / "params.yaml")
STUDIES = [(32, 1), (64, 2), (224, 2)]  # base resolution and stride of the stem
TENTHS = range(10, 21)
# The default grid of scaling_search, in exact arithmetic: 1.9 <= alpha * beta^2 * gamma^2 <= 2.1.
GRID = [
    Coefficients(alpha=alpha / 10, beta=beta / 10, gamma=gamma / 10)
    for alpha, beta, gamma in product(TENTHS, repeat=3)
    if Fraction(19, 10) <= Fraction(alpha * beta**2 * gamma**2, 10**5) <= Fraction(21, 10)
]
HUNDREDTHS = [k / 100 for k in range(400)]
ONE = Coefficients(alpha=1.0, beta=1.0, gamma=1.0)


def study(resolution: int = 64, stem_stride: int = 2, base: Base = "efficientnet_b0") -> Scaling:
    return replace(SHIPPED.scaling, base=base, base_resolution=resolution, stem_stride=stem_stride)


def ablation(**changes: object) -> ScalingAblation:
    matched = {"match": "multiply_adds", "budget": 4.0}
    return replace(SHIPPED.scaling_ablation, **matched | changes)  # type: ignore[arg-type]


def plans_of(scaling: Scaling, coefficients: Coefficients = PAPER, **changes: object) -> dict[str, Plan]:
    return plan_arms(scaling, ablation(**changes), coefficients, classes=10)


def refusal(scaling: Scaling, coefficients: Coefficients = PAPER, **changes: object) -> str:
    with pytest.raises(ValueError, match=r"^scaling_ablation\.budget: ") as caught:
        plans_of(scaling, coefficients, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def cost_of(plan: Plan, scaling: Scaling) -> float:
    """What relative_cost should say."""
    depth, width = BASES[scaling.base]
    scaled, base = (
        multiply_adds(
            depth=depth * deeper,
            width=width * wider,
            resolution=resolution,
            stem_stride=scaling.stem_stride,
            classes=10,
        )
        for deeper, wider, resolution in (
            (plan.depth, plan.width, plan.resolution),
            (1.0, 1.0, scaling.base_resolution),
        )
    )
    return scaled / base


def test_the_default_grid_has_21_points_and_the_paper_choice_is_none_of_them() -> None:
    assert len(GRID) == 21
    assert PAPER not in GRID


@pytest.mark.parametrize(("resolution", "stem_stride"), STUDIES)
@pytest.mark.parametrize("coefficients", [PAPER, *GRID], ids=lambda each: f"{each.alpha}-{each.beta}-{each.gamma}")
def test_every_arm_costs_4_times_the_baseline_whatever_coefficients_the_search_finds(
    coefficients: Coefficients, resolution: int, stem_stride: int
) -> None:
    scaling = study(resolution, stem_stride)
    plans = plans_of(scaling, coefficients)
    assert tuple(plans) == OWN_ARMS
    costs = {arm: cost_of(plan, scaling) for arm, plan in plans.items()}
    assert costs.pop("baseline") == 1
    assert costs == pytest.approx(dict.fromkeys(costs, 4.0), rel=0.02)
    compound = plans["compound"]
    assert compound.phi is not None
    assert compound.depth == pytest.approx(coefficients.alpha**compound.phi)
    # Beside the curve by less than a step from 64 pixels to 80.
    assert 0.8 < compound.width / coefficients.beta**compound.phi < 1.25
    assert 0.8 < compound.resolution / resolution / coefficients.gamma**compound.phi < 1.25
    # What the coefficients scale is scaled, and nothing else but the width, which may make up for the roundings.
    assert (compound.depth > 1) == (coefficients.alpha > 1)
    assert (compound.resolution > resolution) == (coefficients.gamma > 1)
    assert coefficients.beta == 1 or compound.width > 1


@pytest.mark.parametrize(("resolution", "stem_stride"), STUDIES)
def test_an_axis_alone_is_scaled_and_to_the_network_nearest_in_cost(resolution: int, stem_stride: int) -> None:
    """Nearer than each of a hundred or more others."""
    scaling = study(resolution, stem_stride)
    plans = plans_of(scaling)
    half = 8 * stem_stride
    base = Plan(depth=1.0, width=1.0, resolution=resolution, phi=None)
    others: dict[str, list[Plan]] = {
        "depth": [replace(base, depth=1 + k / 50) for k in range(250)],
        "width": [replace(base, width=1 + k / 50) for k in range(100)],
        "resolution": [replace(base, resolution=half * k) for k in range(2, 100)],
    }
    for axis, plan in plans.items():
        if axis in others:
            assert replace(plan, **{axis: getattr(base, axis)}) == base
            nearest = min(abs(cost_of(other, scaling) - 4) for other in others[axis])
            assert abs(cost_of(plan, scaling) - 4) <= nearest
    assert plans["baseline"] == base
    assert plans["resolution"].resolution % half == 0


@pytest.mark.parametrize(("resolution", "budget"), [(64, 4.0), (224, 2.5)])
def test_compound_is_at_the_resolution_nearest_to_the_curve_that_meets_the_budget(
    resolution: int, budget: float
) -> None:
    """Found by trying them all: phi in steps of 1/100 crosses the budget once at each resolution."""
    scaling = study(resolution)
    plan = plans_of(scaling, budget=budget)["compound"]
    met = []
    for pixels in range(resolution, 2 * resolution + 1, 16):
        line = [Plan(depth=1.2**phi, width=1.1**phi, resolution=pixels, phi=phi) for phi in HUNDREDTHS]
        costs = [cost_of(each, scaling) for each in line]
        crossing = sum(each < budget for each in costs)
        for k in (crossing - 1, crossing):
            if k >= 0 and abs(costs[k] / budget - 1) <= 0.02:
                met.append((abs(math.log(pixels / resolution / 1.15 ** HUNDREDTHS[k])), pixels, costs[k]))
    assert len({pixels for _, pixels, _ in met}) > 1
    assert (plan.resolution, cost_of(plan, scaling)) == min(met)[1:]


def test_compound_at_64_pixels_is_80_pixels_at_3_97_times_the_cost() -> None:
    scaling = study(64)
    plan = plans_of(scaling)["compound"]
    assert plan.resolution == 80
    assert cost_of(plan, scaling) == pytest.approx(3.974, abs=5e-4)


def test_what_the_coefficients_do_not_scale_stays_where_it_costs_too_much_or_too_little() -> None:
    """At 240 pixels instead of 224 this budget could be met by depth and width on their curve."""
    coefficients = Coefficients(alpha=1.4, beta=1.2, gamma=1.0)
    plan = plans_of(study(224, base="efficientnet_pico"), coefficients, budget=4.01)["compound"]
    assert plan.resolution == 224
    assert plan.phi is not None
    assert plan.width != pytest.approx(1.2**plan.phi, rel=0.05)


@pytest.mark.parametrize(
    ("base", "budget"), [("efficientnet_pico", 4.03), pytest.param("efficientnet_b0", 4.0, marks=pytest.mark.slow)]
)
def test_built_networks_cost_what_the_plan_says(base: Base, budget: float) -> None:
    """Counted by thop on every arm's network."""
    scaling = study(64, base=base)
    depth, width = BASES[base]
    counts = {}
    plans = plans_of(scaling, budget=budget)
    for arm, plan in plans.items():
        with torch.device("meta"):
            network = build(depth=depth * plan.depth, width=width * plan.width, classes=10, dropout=0.2)
        counts[arm] = cost.multiply_adds(network, plan.resolution)
    for arm, plan in plans.items():
        counted = counts[arm] / counts["baseline"]
        assert counted == relative_cost(plan, scaling, classes=10) == cost_of(plan, scaling)
        assert arm == "baseline" or counted == pytest.approx(budget, rel=0.02)


@pytest.mark.parametrize(
    ("base", "budget", "failing"), [("efficientnet_b0", 3.0, "resolution"), ("efficientnet_pico", 4.0, "depth")]
)
def test_a_budget_that_an_arm_cannot_meet_is_refused_with_one_that_all_can(
    base: Base, budget: float, failing: str
) -> None:
    scaling = study(64, base=base)
    message = refusal(scaling, budget=budget)
    found = re.fullmatch(
        rf"scaling_ablation\.budget: {budget} cannot be met within 2 % by {failing} "
        r"\(nearest ([\d.]+) times the baseline\); all arms can meet ([\d.]+)",
        message,
    )
    assert found
    nearest, proposed = float(found[1]), float(found[2])
    assert abs(nearest / budget - 1) > 0.02
    costs = [
        relative_cost(plan, scaling, classes=10)
        for arm, plan in plans_of(scaling, budget=proposed).items()
        if arm != "baseline"
    ]
    assert costs == pytest.approx([proposed] * 4, rel=0.02)


def test_the_proposal_is_the_nearest_that_all_arms_can_meet() -> None:
    scaling = study(64, base="efficientnet_pico")
    assert refusal(scaling, budget=4.0).endswith("all arms can meet 4.03")
    for nearer in (3.98, 3.99, 4.01, 4.02):
        assert "cannot be met" in refusal(scaling, budget=nearer)


def test_a_refusal_names_all_arms_that_cannot_meet_the_budget() -> None:
    message = refusal(study(32), Coefficients(alpha=1.3, beta=1.1, gamma=1.1))
    assert "by resolution (nearest 3.77 times the baseline) and compound (nearest " in message


def test_where_no_budget_is_met_by_all_arms_the_refusal_says_so() -> None:
    message = refusal(study(64), budget=1.5)
    assert "nor any budget from half to twice that by all arms; allowed: another scaling.base" in message


def test_coefficients_that_scale_nothing_are_refused() -> None:
    assert "compound (nearest 1 times the baseline)" in refusal(study(64), ONE, budget=1.5)


@pytest.mark.parametrize(
    "budget", [0.5, 1.0000001, *(pytest.param(budget, marks=pytest.mark.slow) for budget in (0.1, 1.0, 1.01))]
)
def test_the_baseline_again_is_no_arm_of_a_budget_beside_1(budget: float) -> None:
    """params.yaml refuses 1 and less: here no such budget may go on for ever."""
    assert "cannot be met" in refusal(study(64), budget=budget)


@pytest.mark.parametrize("budget", [8.0, 30.0, 1000.0])
def test_large_budgets_are_met_as_well(budget: float) -> None:
    scaling = study(64)
    plans = plans_of(scaling, budget=budget)
    assert [cost_of(plans[arm], scaling) for arm in OWN_ARMS[1:]] == pytest.approx([budget] * 4, rel=0.02)


def test_matching_the_paper_takes_the_multipliers_of_its_table_7_whatever_was_found() -> None:
    plans = plans_of(study(224), ONE, match="paper")
    assert {arm: (plan.depth, plan.width, plan.resolution, plan.phi) for arm, plan in plans.items()} == {
        "baseline": (1, 1, 224, None),
        "depth": (4, 1, 224, None),
        "width": (1, 2, 224, None),
        "resolution": (1, 1, 448, None),
        "compound": (1.4, 1.2, 288, None),  # 291.2 pixels
    }


def test_matching_phi_scales_each_axis_alone_and_compound_all_three() -> None:
    plans = plans_of(study(64), match="phi", phi=2.0)
    depth, width = pytest.approx(1.44), pytest.approx(1.21)
    assert {arm: (plan.depth, plan.width, plan.resolution, plan.phi) for arm, plan in plans.items()} == {
        "baseline": (1, 1, 64, None),
        "depth": (depth, 1, 64, 2.0),
        "width": (1, width, 64, 2.0),
        "resolution": (1, 1, 80, 2.0),  # 84.64 pixels
        "compound": (depth, width, 80, 2.0),
    }


@pytest.mark.parametrize("match", ["multiply_adds", "paper", "phi"])
@pytest.mark.parametrize(("resolution", "stem_stride"), [(31, 2), (15, 1)])
def test_a_base_resolution_below_the_strides_is_refused(match: str, resolution: int, stem_stride: int) -> None:
    with pytest.raises(ValueError, match=rf"^scaling\.base_resolution: {resolution} "):
        plans_of(study(resolution, stem_stride), match=match)


@pytest.mark.parametrize("resolution", [40, 50, 100])
def test_a_base_resolution_that_is_no_multiple_of_the_strides_stays_as_it_is(resolution: int) -> None:
    plans = plans_of(study(resolution, 1), match="phi")
    assert {plans[arm].resolution for arm in ("baseline", "depth", "width")} == {resolution}
    assert plans["compound"].resolution % 8 == 0
