"""Schedules: the rate at each step is that of torch's own schedulers."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from src.training.schedules import learning_rate_factor

Build = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]
SCHEDULES = ["cosine", "step", "exponential", "one_cycle", "constant"]


def factors(schedule: str, *, total: int, warmup: int = 0) -> list[float]:
    return [learning_rate_factor(schedule, step, total=total, warmup=warmup) for step in range(total)]


def torchs(build: Build, total: int) -> list[float]:
    """The rates of torch's scheduler, whose peak is 1, at each step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = build(optimizer), []
    for step in range(total):
        if step:
            optimizer.step()
            scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    return rates


@pytest.mark.parametrize(
    ("schedule", "build"),
    [
        ("cosine", lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)),
        ("step", lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones=[20, 30], gamma=0.1)),
        ("exponential", lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / 40))),
        ("constant", lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    ],
)
def test_a_schedule_is_torchs_own_of_that_name(schedule: str, build: Build) -> None:
    assert factors(schedule, total=40) == pytest.approx(torchs(build, 40), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("total", "warmup"), [(40, 12), (100, 30), (7, 2), (500, 3), (3, 2), (20, 20)])
def test_one_cycle_is_torchs_own_whose_rise_is_the_warm_up(total: int, warmup: int) -> None:
    expected = torchs(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=total,
            pct_start=warmup / total,
            anneal_strategy="cos",
            cycle_momentum=False,
            div_factor=25,
            final_div_factor=1e4,
        ),
        total,
    )
    found = factors("one_cycle", total=total, warmup=warmup)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found[0] == pytest.approx(1 / 25)
    assert found[warmup - 1] == 1
    assert warmup == total or found[-1] == pytest.approx(1 / 250000)


def test_one_cycle_with_a_warm_up_of_one_step_or_none_falls_from_the_peak() -> None:
    """torch divides by zero for one, and for none starts a step below the peak."""
    expected = [4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(10)]
    assert factors("one_cycle", total=10, warmup=1) == pytest.approx(expected)
    assert factors("one_cycle", total=10) == pytest.approx(expected)
    assert factors("one_cycle", total=1) == factors("one_cycle", total=1, warmup=1) == [1]


def test_a_one_cycle_stays_at_its_end() -> None:
    assert [learning_rate_factor("one_cycle", step, total=9, warmup=3) for step in (8, 9, 20)] == [
        pytest.approx(4e-6)
    ] * 3


@pytest.mark.parametrize("schedule", ["cosine", "step", "exponential", "constant"])
def test_the_warm_up_rises_as_torchs_linear_one_and_the_rest_is_the_schedule(schedule: str) -> None:
    warmed = factors(schedule, total=50, warmup=10)
    rise = torchs(lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=1 / 10, total_iters=9), 10)
    assert warmed[:10] == pytest.approx(rise)
    assert warmed[10:] == factors(schedule, total=40)
    assert warmed[9] == warmed[10] == 1


def test_the_cosine_schedule_is_half_way_down_half_way_through() -> None:
    values = factors("cosine", total=100)
    assert values[50] == pytest.approx(0.5)
    assert values[25] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert values[99] < 3e-4


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_of_warm_up_alone_is_defined(schedule: str) -> None:
    assert factors(schedule, total=4, warmup=4)[3] == 1
    assert math.isfinite(learning_rate_factor(schedule, 4, total=4, warmup=4))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_rate_is_above_the_peak_or_below_zero(schedule: str) -> None:
    for total in (1, 2, 3, 17):
        for warmup in range(total + 1):
            assert all(0 < factor <= 1 for factor in factors(schedule, total=total, warmup=warmup))


def test_an_unknown_schedule_is_named_with_those_allowed() -> None:
    allowed = "cosine, step, exponential, one_cycle, constant"
    with pytest.raises(ValueError, match=rf"^schedule: 'cos' is not known; allowed: {allowed}$"):
        learning_rate_factor("cos", 3, total=10, warmup=0)
