"""Optimizers and schedules: what decays, which rate applies at which step, against closed forms and torch's own."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from src import finetuning
from src.heads import build_head, join
from src.optimizers import build_optimizer, learning_rate_factor, parameter_groups
from src.params import Finetune
from tests.builders import load

SETTINGS = Finetune(
    **{"epochs": 5, "batch_size": 8, "backbone_lr_ratio": 0.1, "optimizer": "adamw", "schedule": "cosine"},
    **{"warmup_epochs": 1, "weight_decay": 0.05, "label_smoothing": 0.0, "ema_decay": 0.0, "clip_norm": 0.0},
)


def network() -> nn.Sequential:
    return join(load().network, build_head("deep", width=640, classes=3, dropout=0.1, seed=0))


def test_every_parameter_is_in_exactly_one_group_and_only_kernels_decay() -> None:
    model = network()
    optimizer = finetuning.optimizer(model, SETTINGS, lr=0.01)
    placed = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = [id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    assert sorted(decayed) == sorted(map(id, weights)), "biases and norms decay, or a kernel does not"
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def test_the_backbone_learns_at_its_share_of_the_heads_rate() -> None:
    model = network()
    optimizer = finetuning.optimizer(model, replace(SETTINGS, backbone_lr_ratio=0.25), lr=0.01)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {id(p): group["name"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        part = name.split(".")[0]
        assert names[id(parameter)] == part
        assert rates[id(parameter)] == pytest.approx(0.01 if part == "head" else 0.0025)


def test_the_recipe_takes_every_value_that_the_settings_share_with_it() -> None:
    recipe = finetuning.recipe(replace(SETTINGS, ema_decay=0.9, clip_norm=2.0, label_smoothing=0.2))
    assert (recipe.epochs, recipe.batch_size, recipe.schedule, recipe.warmup_epochs) == (5, 8, "cosine", 1)
    assert (recipe.ema_decay, recipe.clip_norm, recipe.label_smoothing) == (0.9, 2.0, 0.2)


def test_finetuning_starts_from_the_trained_head_and_the_pretrained_backbone() -> None:
    trained, backbone = build_head("deep", width=640, classes=3, dropout=0.1, seed=9), load()
    best = {"classifier": "deep", "dropout": 0.1}
    model = finetuning.assemble(backbone, best, trained.state_dict(), classes=3)
    assert model.backbone is backbone.network
    assert all(torch.equal(model.head.state_dict()[key], value) for key, value in trained.state_dict().items())
    assert model.head[3].p == 0.1


def test_frozen_parameters_are_in_no_group() -> None:
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2, bias=False))
    groups = parameter_groups(model, "head", lr=1.0, weight_decay=0.1)
    assert [len(group["params"]) for group in groups] == [1]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, momentum=0.9, weight_decay=0.1)),
    ],
)
def test_an_optimizer_steps_as_torchs_own_of_that_name(name: str, reference) -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2))
    group = {"params": [ours], "name": "head", "lr": 0.01, "weight_decay": 0.1}
    optimizers = build_optimizer(name, [group]), reference([theirs])
    for step in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            ((parameter - step) ** 2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def factors(schedule: str, *, total: int, warmup: int = 0) -> list[float]:
    return [learning_rate_factor(schedule, step, total=total, warmup=warmup) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        ("cosine", lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)),
        ("step", lambda optimizer: lr_scheduler.MultiStepLR(optimizer, milestones=[20, 30], gamma=0.1)),
        ("exponential", lambda optimizer: lr_scheduler.ExponentialLR(optimizer, gamma=0.01 ** (1 / 40))),
        ("constant", lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0)),
    ],
)
def test_a_schedule_is_torchs_own_of_that_name(schedule: str, reference) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, expected = reference(optimizer), []
    for _ in range(40):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert factors(schedule, total=40) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "step", "exponential", "constant"])
def test_the_warm_up_rises_linearly_to_the_peak_and_the_rest_is_the_schedule(schedule: str) -> None:
    warmed = factors(schedule, total=50, warmup=10)
    assert warmed[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert warmed[10:] == factors(schedule, total=40)
    assert warmed[9] == warmed[10] == 1


def test_the_cosine_schedule_is_half_way_down_half_way_through() -> None:
    values = factors("cosine", total=100)
    assert values[50] == pytest.approx(0.5)
    assert values[25] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert values[99] < 3e-4


def test_a_schedule_of_warm_up_alone_is_defined() -> None:
    assert factors("cosine", total=4, warmup=4) == [0.25, 0.5, 0.75, 1.0]
    assert math.isfinite(learning_rate_factor("cosine", 4, total=4, warmup=4))


def test_an_unknown_optimizer_or_schedule_is_named_with_those_allowed() -> None:
    group = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    with pytest.raises(ValueError, match=r"^optimizer: 'adamm' is not known; allowed: adam, adamw, sgd, rmsprop$"):
        build_optimizer("adamm", group)
    with pytest.raises(
        ValueError, match=r"^schedule: 'cos' is not known; allowed: cosine, step, exponential, constant$"
    ):
        learning_rate_factor("cos", 3, total=10, warmup=0)
