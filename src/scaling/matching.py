"""Arms of equal cost: how far to scale depth, width, resolution, or all three, for a given number of multiply-adds.

Multipliers are relative to the study's base; costs are multiply-adds relative to those of the base at its resolution.
R: pixels per side.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from src.interface.scaling_params import Scaling, ScalingAblation
from src.scaling.arithmetic import check_resolution, suitable, total_stride
from src.scaling.equations import Coefficients, factors
from src.scaling.networks import Plan, cost_of

OWN_ARMS = ("baseline", "depth", "width", "resolution", "compound")
SCALED = OWN_ARMS[1:]
FACTORS_OF_TABLE_7 = {
    "depth": 4.0,
    "width": 2.0,
    "resolution": 2.0,
}  # of arXiv:1905.11946
COMPOUND_OF_TABLE_7 = {"depth": 1.4, "width": 1.2, "resolution": 1.3}
TOLERANCE = 0.02  # of the budget, that an arm's cost may be off
# Largest |log| of R or width over what the coefficients and phi say: as far as R itself may be rounded at S pixels, the
# smallest base (from 1.25 S, between S and 1.5 S, to S), and as from 64 pixels to 80.
NEAR = math.log(1.25)
BISECTIONS = 18
RESOLUTIONS = 8  # on each side of the compound curve that are tried


Point = Callable[[float], Plan]


def plan_arms(
    scaling: Scaling, ablation: ScalingAblation, coefficients: Coefficients, *, classes: int
) -> dict[str, Plan]:
    """The plans of all OWN_ARMS, by `ablation.match`.

    - multiply_adds: each scaled arm costs `ablation.budget` times the baseline, within TOLERANCE. Compound takes the
      suitable R and, at it, the phi of depth and width that meet the budget with R nearest to gamma**phi: layers,
      channels and R are whole numbers, and no point of the curve itself need meet the budget. Where even that R is
      farther than NEAR, the width makes up the difference and departs from beta**phi instead, no farther than NEAR.
    - paper: Table 7 of arXiv:1905.11946.
    - phi: each of depth, width and resolution alone at `ablation.phi`, compound all three.

    Raises:
        ValueError: a base resolution that the strides do not allow, or a budget that not all arms can meet.
    """
    check_resolution(scaling.base_resolution, stem_stride=scaling.stem_stride, name="scaling.base_resolution")
    study = _Study(
        base=scaling.base_resolution,
        stem_stride=scaling.stem_stride,
        coefficients=coefficients,
        cost=cost_of(scaling, classes=classes),
    )
    if ablation.match == "paper":
        plans = {axis: study.plan(**{axis: factor}) for axis, factor in FACTORS_OF_TABLE_7.items()}
        plans["compound"] = study.plan(**COMPOUND_OF_TABLE_7)
    elif ablation.match == "phi":
        plans = _at_phi(study, ablation.phi)
    else:
        plans = {arm: _solve(study, arm, ablation.budget) for arm in SCALED}
        if not all(study.meets(plan, ablation.budget) for plan in plans.values()):
            raise ValueError(_refusal(study, plans, ablation.budget))
    return {"baseline": study.plan()} | plans


@dataclass(frozen=True, kw_only=True)
class _Study:
    """The base, how it is scaled, and what a plan costs relative to it."""

    base: int
    stem_stride: int
    coefficients: Coefficients
    cost: Callable[[Plan], float]

    def plan(
        self, *, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0, phi: float | None = None
    ) -> Plan:
        """The plan of three multipliers, with the suitable resolution that is nearest."""
        pixels = suitable(self.base * resolution, base=self.base, stem_stride=self.stem_stride)
        return Plan(depth=depth, width=width, resolution=pixels, phi=phi)

    def miss(self, plan: Plan, budget: float) -> float:
        return abs(self.cost(plan) / budget - 1)

    def meets(self, plan: Plan, budget: float) -> bool:
        """Whether `plan` costs `budget`, and is near the compound curve if it has a phi; never so for the baseline."""
        return self.miss(plan, budget) <= TOLERANCE and self.cost(plan) > 1 and self.departure(plan) <= NEAR

    def departure(self, plan: Plan) -> float:
        """How far resolution and width are from gamma**phi and beta**phi, as natural logarithms; 0 without a phi."""
        if plan.phi is None:
            return 0.0
        wanted = math.log(self.base) + plan.phi * math.log(self.coefficients.gamma)
        width = plan.phi * math.log(self.coefficients.beta)
        return abs(math.log(plan.resolution) - wanted) + abs(math.log(plan.width) - width)


def _at_phi(study: _Study, phi: float) -> dict[str, Plan]:
    depth, width, resolution = factors(study.coefficients, phi)
    return {
        "depth": study.plan(depth=depth, phi=phi),
        "width": study.plan(width=width, phi=phi),
        "resolution": study.plan(resolution=resolution, phi=phi),
        "compound": _on_curve(study, phi),
    }


def _solve(study: _Study, arm: str, budget: float) -> Plan:
    """The plan of a scaled arm whose cost is nearest to `budget`; for compound, see plan_arms."""
    if arm == "compound":
        return _compound(study, budget)
    # Cost is about linear in depth and quadratic in width and resolution, so these are where to look first.
    high = 1 + (budget if arm == "depth" else math.sqrt(budget))
    plans = _around(study, budget, lambda factor: study.plan(**{arm: factor}), high=high, low=1.0)
    return min(plans, key=lambda plan: study.miss(plan, budget))


def _compound(study: _Study, budget: float) -> Plan:
    growth = study.coefficients.growth
    if growth <= 1:
        return study.plan(phi=0.0)
    # On the curve, cost grows as (alpha * beta^2 * gamma^2)^phi, roundings aside: phi = log(budget) / log(growth) meets
    # the budget. First the curve's own phi is sought, then an R beside it, then a width beside it.
    curve = partial(_on_curve, study)
    ends = _around(study, budget, curve, low=0.0, high=_exponent(growth, budget))
    for plans in (_at_resolutions(study, budget, ends[0]), _at_widths(study, budget, ends[0])):
        met = [plan for plan in plans if study.meets(plan, budget)]
        if met:
            return min(met, key=lambda plan: (round(study.departure(plan), 9), study.miss(plan, budget)))
    return min(ends, key=lambda plan: study.miss(plan, budget))


def _exponent(growth: float, budget: float) -> float:
    """Where growth**phi is the budget, roundings aside; above 0 for a budget below 1, too, to be searched upwards."""
    return math.log(max(budget, 2.0)) / math.log(growth)


def _on_curve(study: _Study, phi: float) -> Plan:
    depth, width, resolution = factors(study.coefficients, phi)
    return study.plan(depth=depth, width=width, resolution=resolution, phi=phi)


def _at_resolutions(study: _Study, budget: float, start: Plan) -> Iterator[Plan]:
    """At each suitable resolution near that of `start`: the phi of depth and width on both sides of the budget."""
    alpha, beta, gamma = study.coefficients.alpha, study.coefficients.beta, study.coefficients.gamma
    for resolution in _resolutions(study, start.resolution):
        if alpha == beta == 1:
            yield _on_curve(study, math.log(resolution / study.base) / math.log(gamma))
        else:
            high = _exponent(alpha * beta**2, budget)
            yield from _around(study, budget, partial(_at_resolution, study, resolution), low=0.0, high=high)


def _at_resolution(study: _Study, resolution: int, phi: float) -> Plan:
    depth, width, _ = factors(study.coefficients, phi)
    return Plan(depth=depth, width=width, resolution=resolution, phi=phi)


def _at_widths(study: _Study, budget: float, start: Plan) -> Iterator[Plan]:
    """Where the curve is at a suitable resolution, or meets the budget: the widths on both sides of the budget."""
    phis = [start.phi or 0.0]
    if study.coefficients.gamma > 1:
        gamma = math.log(study.coefficients.gamma)
        phis += [math.log(pixels / study.base) / gamma for pixels in _resolutions(study, start.resolution)]
    for phi in phis:
        width = study.coefficients.beta**phi
        low, high = width * math.exp(-NEAR), width * math.exp(NEAR)
        yield from _around(study, budget, partial(_at_width, study, phi), low=low, high=high, grow=False)


def _at_width(study: _Study, phi: float, width: float) -> Plan:
    depth, _, resolution = factors(study.coefficients, phi)
    return study.plan(depth=depth, width=width, resolution=resolution, phi=phi)


def _resolutions(study: _Study, near: int) -> list[int]:
    """Suitable resolutions about `near`, none below the base's; the base's alone where gamma does not scale it."""
    if study.coefficients.gamma == 1:
        return [study.base]
    step = total_stride(study.stem_stride) // 2
    wanted = [near + k * step for k in range(-RESOLUTIONS, RESOLUTIONS + 1)]
    found = {study.base} | {suitable(pixels, base=study.base, stem_stride=study.stem_stride) for pixels in wanted}
    # At one farther away, the phi that meets the budget is that of a curve which passes farther than NEAR.
    return sorted(pixels for pixels in found if pixels >= study.base and abs(math.log(pixels / near)) <= 2 * NEAR)


def _around(
    study: _Study, budget: float, at: Point, *, low: float, high: float, grow: bool = True
) -> tuple[Plan, Plan]:
    """The plans just below and just above `budget`, by bisection: the cost of `at` rises with its argument, in steps.

    `grow`: move a `high` that costs too little until it does not.
    """
    while grow and study.cost(at(high)) < budget:
        low, high = high, 2 * high - low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if study.cost(at(middle)) < budget:
            low = middle
        else:
            high = middle
    return _shortened(study, at, low, math.floor), _shortened(study, at, high, math.ceil)


def _shortened(study: _Study, at: Point, value: float, to_integer: Callable[[float], int]) -> Plan:
    """The plan of `value`, or of as short a number as costs the same: a person reads it."""
    wanted = study.cost(at(value))
    for digits in range(2, 8):
        short = at(to_integer(value * 10**digits) / 10**digits)
        if study.cost(short) == wanted:
            return short
    return at(value)


def _refusal(study: _Study, plans: dict[str, Plan], budget: float) -> str:
    missed = [
        f"{arm} (nearest {study.cost(plan):.3g} times the baseline)"
        for arm, plan in plans.items()
        if not study.meets(plan, budget)
    ]
    refused = f"scaling_ablation.budget: {budget} cannot be met within {100 * TOLERANCE:g} % by {' and '.join(missed)}"
    for other in _budgets_around(budget):
        if all(study.meets(_solve(study, arm, other), other) for arm in SCALED):
            return f"{refused}; all arms can meet {other}"
    return (
        f"{refused}, nor any budget from half to twice that by all arms; "
        "allowed: another scaling.base or scaling.base_resolution, or scaling_ablation.match: paper or phi"
    )


def _budgets_around(budget: float) -> list[float]:
    """Budgets of three digits above 1, from half to twice `budget`, the nearest first."""
    digits = 2 - math.floor(math.log10(budget))
    unit = 10.0**-digits
    found = (round(k * unit, digits) for k in range(math.ceil(budget / 2 / unit), math.floor(2 * budget / unit) + 1))
    return sorted((other for other in found if other > 1), key=lambda other: abs(other - budget))
