"""The networks of the scaling study: of the cost that is planned, as published, their weights decided by the seed."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from src.interface.scaling_params import OWN_ARMS, REFERENCES, Arm, ScalingAblation
from src.models import cost
from src.models.efficientnet import PUBLISHED
from src.scaling import arms, networks
from src.scaling.equations import PAPER
from src.scaling.networks import Model, Plan
from tests.builders.small import PICO, same_state, scaling_settings

B0 = "efficientnet_b0"
DEFAULT = {"base": B0, "base_resolution": 64, "stem_stride": 2}
TENTHS = {"dropout": 0.1, "stochastic_depth": 0.1}


def ablation(budget: float = 4.0) -> ScalingAblation:
    return ScalingAblation(match="multiply_adds", budget=budget, phi=2.0, seeds=(0, 1), epochs=2)


def specified(name: str, arm: Arm | None = None, *, budget: float = 4.0, classes: int = 10, **settings: Any) -> Model:
    return arms.specify(name, arm or Arm(), scaling_settings(**settings), ablation(budget), PAPER, classes=classes)


def hollow(model: Model) -> nn.Module:
    """The network without its weights, in no time."""
    with torch.device("meta"):
        return model.make()


def costs(model: Model) -> int:
    """By thop, of the network that is built."""
    return cost.multiply_adds(hollow(model), model.resolution)


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def chances(network: nn.Module) -> tuple[float, list[float]]:
    """Of dropout before the classifier, and of leaving out each block."""
    (dropout,) = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    return dropout, [module.p for module in network.modules() if isinstance(module, StochasticDepth)]


@pytest.mark.parametrize(
    ("settings", "budget", "scaled"),
    [
        pytest.param(DEFAULT, 4.0, OWN_ARMS[1:], marks=pytest.mark.slow),
        ({"base_resolution": 64}, 4.03, OWN_ARMS[1:]),
        (DEFAULT | {"base_resolution": 32, "stem_stride": 1}, 4.0, ("compound",)),
        pytest.param(DEFAULT | {"base_resolution": 224}, 4.0, ("resolution", "compound"), marks=pytest.mark.slow),
    ],
    ids=["B0 at 64", "pico at 64", "B0 at 32 with a stem of stride 1", "B0 at 224"],
)
def test_every_scaled_arm_costs_the_budget_when_it_is_built(
    settings: dict[str, Any], budget: float, scaled: tuple[str, ...]
) -> None:
    baseline = costs(specified("baseline", budget=budget, **settings))
    for name in scaled:
        assert costs(specified(name, budget=budget, **settings)) / baseline == pytest.approx(budget, rel=0.02)


def test_an_axis_grows_that_axis_alone() -> None:
    models = {name: specified(name, **DEFAULT) for name in OWN_ARMS}
    baseline = models["baseline"]
    assert (baseline.resolution, baseline.factors) == (64, {"depth": 1.0, "width": 1.0})
    grown = {
        name: [
            axis
            for axis, value in (model.factors | {"resolution": model.resolution / 64}).items()
            if value > 1  # and none is smaller, or the arm would not cost the budget
        ]
        for name, model in models.items()
    }
    single = {name: [name] for name in ("depth", "width", "resolution")}
    assert grown == {"baseline": [], "compound": ["depth", "width", "resolution"]} | single


def test_the_stride_of_the_stem_reaches_the_network() -> None:
    """At twice the pixels, a stride of 2 instead of 1 makes the same maps behind the stem."""
    small = specified("baseline", base_resolution=32, stem_stride=1, budget=4.03)
    large = specified("baseline", base_resolution=64, stem_stride=2, budget=4.03)
    assert (small.resolution, large.resolution) == (32, 64)
    network = hollow(large)
    assert costs(small) == cost.multiply_adds(network, 64) > 2 * cost.multiply_adds(network, 32)


KINDS = (PICO, B0, "efficientnet_lite0", "resnet18", "densenet201", "small_cnn")  # the others: more of the same layers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in REFERENCES]
)
def test_every_reference_gives_logits_of_its_classes(name: str) -> None:
    model = specified(name, classes=7)
    assert (model.resolution, model.factors) == (64, {})
    with torch.device("meta"):
        assert hollow(model).eval()(torch.empty(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize("name", [PICO, B0, "resnet18", "small_cnn"])
def test_a_reference_is_built_with_weights_and_at_a_resolution_of_its_own(name: str) -> None:
    model = specified(name, Arm(resolution=32), classes=7)
    assert model.resolution == 32
    with torch.no_grad():
        logits = model.build(seed=0).eval()(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    assert not torch.equal(*logits)


@pytest.mark.parametrize(("base", "budget"), [(B0, 4.0), (PICO, 4.03)])
def test_a_base_as_a_reference_is_the_baseline(base: str, budget: float) -> None:
    reference, baseline = (hollow(specified(name, base=base, budget=budget)) for name in (base, "baseline"))
    assert shapes(reference) == shapes(baseline)
    assert cost.multiply_adds(reference, 64) == cost.multiply_adds(baseline, 64)


def test_a_reference_is_as_published_whatever_the_base_has_and_whatever_the_axes_can_meet() -> None:
    published = hollow(specified("efficientnet_b4", budget=1.001, dropout=0.7, stochastic_depth=0.0, stem_stride=1))
    dropout, left_out = chances(published)
    assert dropout == PUBLISHED["efficientnet_b4"].dropout == 0.4
    assert 0.15 < max(left_out) < 0.2
    assert sum(value.numel() for value in published.parameters()) == 19_341_616 - 990 * 1793  # 10 of 1000 classes


def layers(network: nn.Module, kind: type[nn.Module]) -> int:
    return [type(module) for module in network.modules()].count(kind)


def test_the_small_network_has_four_convolutions_of_so_many_parameters_and_multiply_adds() -> None:
    """By hand: kernels 3 x 3, two blocks of 32 and 64 channels, 8 x 8 positions, a hidden layer of 512."""
    network = hollow(specified("small_cnn"))
    assert (layers(network, nn.Conv2d), layers(network, nn.Linear)) == (4, 2)
    convolutions = [9 * 3 * 32, 9 * 32 * 32, 9 * 32 * 64, 9 * 64 * 64]
    linear = [8 * 8 * 64 * 512, 512 * 10]
    biases = 32 + 32 + 64 + 64 + 512 + 10
    assert cost.parameters(network) == sum(convolutions) + sum(linear) + biases == 2_168_362
    places = [32 * 32, 32 * 32, 16 * 16, 16 * 16]
    products = sum(kernel * count for kernel, count in zip(convolutions, places, strict=True))
    assert cost.multiply_adds(network, 32) == products + sum(linear) == 26_579_968
    assert cost.multiply_adds(network, 64) == 4 * products + sum(linear)


def test_at_32_pixels_the_last_pooling_of_the_small_network_changes_nothing() -> None:
    network = specified("small_cnn").build(seed=0).eval()
    without = nn.Sequential(*(module for module in network if not isinstance(module, nn.AdaptiveAvgPool2d)))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), without(images))
        assert network(torch.rand(2, 3, 64, 64)).shape == network(torch.rand(2, 3, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", ["baseline", "small_cnn"])
def test_the_seed_alone_decides_the_weights_and_the_global_generator_is_left_alone(name: str) -> None:
    model = specified(name, budget=4.03)
    before = torch.get_rng_state()
    first = model.build(seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert same_state(model.build(seed=0).state_dict(), first.state_dict())
    other = model.build(seed=1).state_dict()
    assert not any(
        torch.equal(v, other[k]) for k, v in first.state_dict().items() if k.endswith("weight") and v.ndim > 1
    )
    kernel = next(value for value in first.parameters() if value.ndim == 4 and value.shape[1] > 1)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_dropout_and_stochastic_depth_grow_with_the_doublings_of_cost() -> None:
    baseline = hollow(specified("baseline", budget=4.03))
    unscaled = cost.multiply_adds(baseline, 64)
    assert chances(baseline)[0] == 0.2
    for name in ("resolution", "compound"):
        model = specified(name, budget=4.03)
        network = hollow(model)
        dropout, left_out = chances(network)
        doublings = math.log2(cost.multiply_adds(network, model.resolution) / unscaled)
        assert dropout == pytest.approx(0.2 * (1 + 0.2143 * doublings))
        assert dropout == pytest.approx(0.2 * (1 + 0.2143 * 2), rel=0.01)
        # The first block always stays, the others' chance rises evenly, and would reach the whole behind the last.
        assert left_out == pytest.approx([dropout * block / len(left_out) for block in range(len(left_out))])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dropout": 0.0}, (0.0, 0.143)),
        ({"stochastic_depth": 0.0}, (0.143, 0.0)),
        ({"regularization_growth": 0.0}, (0.1, 0.1)),
        ({"regularization_growth": 1.0}, (0.3, 0.3)),
    ],
)
def test_dropout_and_stochastic_depth_have_a_start_each_and_grow_together(
    changes: dict[str, float], expected: tuple[float, float]
) -> None:
    settings = scaling_settings(**TENTHS | changes)
    plan = Plan(depth=1.0, width=1.0, resolution=128, phi=None)  # twice the side: about 4 times the cost
    dropout, left_out = chances(hollow(networks.scaled(plan, settings, classes=10)))
    found = (dropout, max(left_out) * len(left_out) / (len(left_out) - 1))
    assert found == pytest.approx(expected, rel=0.02)


def test_a_smaller_network_than_the_base_has_less_of_both_but_never_less_than_none() -> None:
    plan = Plan(depth=1.0, width=1.0, resolution=32, phi=None)  # about a quarter of the cost
    for growth, expected in ((0.2, 0.06), (5.0, 0.0)):
        settings = scaling_settings(**TENTHS, regularization_growth=growth)
        assert chances(hollow(networks.scaled(plan, settings, classes=10)))[0] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("dropout", "stochastic_depth"), [(0.5, 0.1), (0.1, 0.5)])
def test_dropout_or_stochastic_depth_of_1_is_refused(dropout: float, stochastic_depth: float) -> None:
    settings = scaling_settings(dropout=dropout, stochastic_depth=stochastic_depth, regularization_growth=0.6)
    plan = Plan(depth=1.0, width=1.0, resolution=128, phi=None)
    plain = hollow(networks.scaled(plan, scaling_settings(), classes=10))
    times = cost.multiply_adds(plain, 128) / cost.multiply_adds(plain, 64)
    growth = 1 + 0.6 * math.log2(times)
    with pytest.raises(ValueError, match=r"^scaling\.regularization_growth: ") as caught:
        networks.scaled(plan, settings, classes=10)
    assert str(caught.value) == (
        f"scaling.regularization_growth: 0.6 makes dropout {dropout * growth:.3g} and stochastic depth "
        f"{stochastic_depth * growth:.3g} at {times:.3g} times the base's cost; allowed: what keeps both below 1"
    )
    networks.scaled(replace(plan, resolution=64), settings, classes=10)


ARMS = {"baseline": Arm(), "resnet18": Arm()}


def test_a_stage_trains_the_one_arm_that_its_command_line_names() -> None:
    assert arms.named(ARMS, ["resnet18"]) == "resnet18"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no arm"),
        (["baseline", "resnet18"], "baseline resnet18"),
        (["depth"], "depth"),
        (["--help"], "--help"),
        ([""], "no arm"),
    ],
)
def test_no_arm_several_or_an_unknown_one_are_one_line_with_those_there_are(arguments: list[str], said: str) -> None:
    for known, allowed in ((ARMS, "baseline, resnet18"), ({}, "none, scaling_arms is empty")):
        with pytest.raises(ValueError, match="allowed") as caught:
            arms.named(known, arguments)
        assert str(caught.value) == f"{said}: allowed: one of scaling_arms in params.yaml ({allowed})"


@pytest.mark.parametrize("name", ["resnet50", "densenet201", PICO, "efficientnet_b7"])
def test_a_resolution_below_the_strides_of_a_reference_is_refused_under_the_key_that_says_it(name: str) -> None:
    why = (
        "is too small; allowed: 32 or more, since the network's strides, the stem's of 2 among them, "
        "make one pixel out of 32"
    )
    for arm, settings, key in (
        (Arm(resolution=31), {}, f"scaling_arms.{name}.resolution: 31"),
        (Arm(), {"base_resolution": 16, "stem_stride": 1}, "scaling.base_resolution: 16"),
    ):
        with pytest.raises(ValueError, match="too small") as caught:
            specified(name, arm, **settings)
        assert str(caught.value) == f"{key} {why}"
    assert specified(name, Arm(resolution=32), base_resolution=16, stem_stride=1).resolution == 32


@pytest.mark.parametrize("name", OWN_ARMS)
@pytest.mark.parametrize(("resolution", "stem_stride", "least"), [(31, 2, 32), (15, 1, 16)])
def test_a_base_resolution_below_the_strides_is_refused_for_every_axis(
    name: str, resolution: int, stem_stride: int, least: int
) -> None:
    with pytest.raises(ValueError, match="too small") as caught:
        specified(name, base_resolution=resolution, stem_stride=stem_stride)
    assert str(caught.value) == (
        f"scaling.base_resolution: {resolution} is too small; allowed: {least} or more, since the network's strides, "
        f"the stem's of {stem_stride} among them, make one pixel out of {least}"
    )


@pytest.mark.parametrize("name", OWN_ARMS)
def test_a_budget_that_an_axis_cannot_meet_is_refused_for_every_axis_and_the_proposal_is_met(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be met") as caught:
        specified(name)
    assert str(caught.value) == (
        "scaling_ablation.budget: 4.0 cannot be met within 2 % by depth (nearest 4.11 times the baseline); "
        "all arms can meet 4.03"
    )
    assert specified(name, budget=4.03).factors
