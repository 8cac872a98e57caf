"""Optimizers: each name is torch's of that name, or RMSProp as TensorFlow has it."""

import pytest
import torch
from torch import nn

from src.training.optimizers import EPSILON, build_optimizer
from src.training.rmsprop import RMSProp


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
    ],
)
def test_an_optimizer_steps_as_torchs_own_of_that_name(name: str, reference) -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4)) for _ in range(2))
    group = {"params": [ours], "name": "head", "lr": 0.01, "weight_decay": 0.1}
    optimizers = build_optimizer(name, [group], epsilon=0.5), reference([theirs])
    for step in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            ((parameter - step) ** 2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_rmsprop_is_set_as_the_code_of_the_efficientnet_paper_sets_it() -> None:
    optimizer = build_optimizer("rmsprop", [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1}], epsilon=EPSILON)
    assert isinstance(optimizer, RMSProp)
    [group] = optimizer.param_groups
    assert (group["decay"], group["momentum"], group["epsilon"]) == (0.9, 0.9, 0.001)


def test_the_epsilon_of_the_settings_is_rmsprops() -> None:
    """One step from a mean square of 1 and a gradient of 1: lr / sqrt(1 + epsilon)."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.ones(1)
    build_optimizer("rmsprop", [{"params": [weight], "lr": 1.0}], epsilon=0.5625).step()
    assert weight.item() == pytest.approx(-0.8)


def test_an_unknown_optimizer_is_named_with_those_allowed() -> None:
    group = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.1}]
    with pytest.raises(ValueError, match=r"^optimizer: 'adamm' is not known; allowed: adam, adamw, sgd, rmsprop$"):
        build_optimizer("adamm", group, epsilon=EPSILON)


def test_sgd_takes_torchs_own_steps_to_the_bit_though_its_momenta_are_there_from_the_start() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 101)) for _ in range(2))
    group = {"params": [ours], "lr": 0.01, "weight_decay": 0.1}
    optimizers = (
        build_optimizer("sgd", [group], epsilon=EPSILON),
        torch.optim.SGD([theirs], lr=0.01, momentum=0.9, weight_decay=0.1, fused=True),
    )
    for step in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.sin(step + parameter.detach())
            optimizer.step()
    assert torch.equal(ours, theirs)
