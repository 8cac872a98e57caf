"""Compound scaling: B0...B7 against torchvision's, any other network against a computation of its own."""

import math
import random
from fractions import Fraction
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import StochasticDepth

from src.interface import scaling_params
from src.models import efficientnet
from src.scaling import arithmetic, equations
from tests.builders.small import same_state

B7 = "efficientnet_b7"
PARAMETERS = {  # the published counts
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    B7: 66_347_960,
}
WEIGHTS = [weights for name in PARAMETERS for weights in torchvision.models.get_model_weights(name)]
# Table 1 of the paper: operator's expansion and kernel, stride, channels, layers; before them a stem of 32 channels.
TABLE_1 = [(1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4)]
TABLE_1 += [(6, 3, 1, 320, 1)]


def slow_unless_in(few: set[str]) -> list[Any]:
    """The published networks: those of other dropout or epsilon are among the `few`, the rest are larger."""
    return [name if name in few else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def draw_networks(count: int) -> list[tuple[Fraction, Fraction, int, int, int]]:
    """Depth and width of two digits, resolution, the stem's stride and classes, all at random."""
    generator = random.Random(0)
    return [
        (
            Fraction(generator.randint(20, 250), 100),
            Fraction(generator.randint(20, 250), 100),
            generator.randint(32, 300),
            generator.choice([1, 2]),
            generator.choice([2, 10, 1000]),
        )
        for _ in range(count)
    ]


def counted(depth: Fraction, width: Fraction, resolution: int, stem_stride: int, classes: int) -> tuple[int, int]:
    """Parameters and multiply-adds, layer by layer from Table 1 in exact fractions, apart from src/scaling."""

    def channels(base: int) -> int:
        near = 8 * max(1, math.floor(base * width / 8 + Fraction(1, 2)))
        return near + 8 if near < base * width * Fraction(9, 10) else near

    stem, last = channels(32), channels(1280)
    side = math.ceil(Fraction(resolution, stem_stride))
    layers = [(9 * 3 * stem, side**2, 2 * stem)]  # weights, the places where they are applied, BatchNorm or bias
    before = stem
    for expansion, kernel, stride, base, repeats in TABLE_1:
        for layer in range(math.ceil(depth * repeats)):
            wide, squeezed = before * expansion, before // 4
            if expansion > 1:
                layers.append((before * wide, side**2, 2 * wide))
            side = math.ceil(Fraction(side, 1 if layer else stride))
            layers.append((kernel**2 * wide, side**2, 2 * wide))
            layers += [(wide * squeezed, 1, squeezed), (squeezed * wide, 1, wide)]
            before = channels(base)
            layers.append((wide * before, side**2, 2 * before))
    layers += [(before * last, side**2, 2 * last), (last * classes, 1, classes)]
    return sum(weights + other for weights, _, other in layers), sum(weights * places for weights, places, _ in layers)


@pytest.mark.parametrize("name", slow_unless_in({"efficientnet_b0", "efficientnet_b2", "efficientnet_b5"}))
def test_at_the_published_multipliers_it_is_torchvisions_network_key_by_key(name: str) -> None:
    with torch.device("meta"):  # shapes alone
        ours, theirs = efficientnet.build_published(name), torchvision.models.get_model(name)
    assert parameters(ours) == PARAMETERS[name]
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs), "another stride, epsilon, momentum, dropout or stochastic depth"


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_multiply_adds_are_torchvisions_published_figure_to_the_printed_digit(
    weights: torchvision.models.Weights,
) -> None:
    name = type(weights).__name__.removesuffix("_Weights").lower()
    published, resolution = efficientnet.PUBLISHED[name], weights.transforms().crop_size[0]
    cost = arithmetic.multiply_adds(depth=published.depth, width=published.width, resolution=resolution, classes=1000)
    assert round(cost / 1e9, 3) == weights.meta["_ops"]


def test_the_published_resolutions_are_those_of_the_weights_but_for_b2() -> None:
    crops = {
        name: torchvision.models.get_model_weights(name).IMAGENET1K_V1.transforms().crop_size[0] for name in PARAMETERS
    }
    assert {name: row.resolution for name, row in efficientnet.PUBLISHED.items()} == crops | {"efficientnet_b2": 260}


def outputs(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits in train mode, in eval mode after it, a gradient, and what train mode left in the buffers."""
    torch.manual_seed(1)  # dropout and stochastic depth draw from it
    trained = network.train()(images)
    trained.square().sum().backward()
    with torch.no_grad():
        judged = network.eval()(images)
    return [trained.detach(), judged, network.features[0][0].weight.grad, *network.buffers()]


@pytest.mark.parametrize("name", slow_unless_in({"efficientnet_b0", "efficientnet_b5"}))
def test_with_one_state_dict_it_computes_bit_by_bit_what_torchvisions_network_does(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name)
    with torch.device("meta"):
        ours = efficientnet.build_published(name)
    ours.load_state_dict({key: value.clone() for key, value in theirs.state_dict().items()}, strict=True, assign=True)
    images = torch.rand(2, 3, 32, 32)
    expected, found = outputs(theirs, images), outputs(ours, images)
    assert all(value.isfinite().all() for value in expected)
    assert not torch.equal(expected[0], expected[1]), "nothing was dropped: train mode would show no difference"
    assert all(torch.equal(value, other) for value, other in zip(expected, found, strict=True))


def test_random_weights_under_one_seed_are_torchvisions() -> None:
    torch.manual_seed(3)
    theirs = torchvision.models.efficientnet_b0(num_classes=7)
    torch.manual_seed(3)
    assert same_state(efficientnet.build_published("efficientnet_b0", classes=7).state_dict(), theirs.state_dict())


@pytest.mark.parametrize(
    ("depth", "width", "resolution", "stem_stride", "classes"),
    [pytest.param(*drawn, marks=[pytest.mark.slow] * (place >= 4)) for place, drawn in enumerate(draw_networks(20))],
    ids=str,
)
def test_a_network_at_any_multipliers_is_the_one_that_table_1_describes(
    depth: Fraction, width: Fraction, resolution: int, stem_stride: int, classes: int
) -> None:
    expected = counted(depth, width, resolution, stem_stride, classes)
    d, w = float(depth), float(width)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network = efficientnet.build(depth=d, width=w, classes=classes, dropout=0.2, stem_stride=stem_stride).eval()
        assert network(torch.empty(1, 3, resolution, resolution)).shape == (1, classes)
    cost = arithmetic.multiply_adds(depth=d, width=w, resolution=resolution, stem_stride=stem_stride, classes=classes)
    assert (parameters(network), cost) == expected
    assert counter.get_total_flops() == 2 * cost, "torch's own count of what the network did"


@pytest.mark.parametrize("name", efficientnet.BASES)
def test_the_bases_are_the_backbones_of_those_names(name: str) -> None:
    depth, width = efficientnet.BASES[name]
    with torch.device("meta"):
        network = efficientnet.build(depth=depth, width=width, classes=10, dropout=0.2)
    features, head = {"efficientnet_b0": (4_007_548, 1280), "efficientnet_pico": (657_120, 640)}[name]
    assert parameters(network) == features + head * 10 + 10


def test_equal_layouts_are_equal_networks_and_different_ones_differ() -> None:
    """To B0's one to four layers, any depth in (1, 1.25] adds one each, and 1.26 a second to the four."""
    assert len({efficientnet.layout(1 + step / 100, 1) for step in range(1, 26)}) == 1
    several = {(1.0, 1.0), (1.01, 1.0), (1.25, 1.0), (1.26, 1.0), (1.0, 1.003), (1.0, 1.1), (1.05, 1.1)}
    networks = {}
    for depth, width in several:
        with torch.device("meta"):
            built = efficientnet.build(depth=depth, width=width, classes=10, dropout=0.2)
        networks[depth, width] = tuple((key, value.shape) for key, value in built.state_dict().items())
    for first in several:
        for second in several:
            assert (efficientnet.layout(*first) == efficientnet.layout(*second)) == (
                networks[first] == networks[second]
            )
    assert len(set(networks.values())) == 5


def test_noise_of_floats_adds_no_layer_and_moves_no_channel() -> None:
    assert math.sqrt(2) ** 2 > 2, "the trap: as a depth, this would make three layers of one"
    assert efficientnet.layout(math.sqrt(2) ** 2, 1) == efficientnet.layout(2, 1)
    tie = 1.15  # 80 channels become 92, half-way between 88 and 96
    assert efficientnet.layout(1, math.nextafter(tie, 0)) == efficientnet.layout(1, tie)
    assert efficientnet.layout(1, tie).stages[3].output_channels == 96


def test_channels_stay_multiples_of_eight_and_keep_nine_tenths() -> None:
    """0.7 of 16 channels are 11.2, whose nearest multiple of 8 would lose more than a tenth; 0.1 of 16 are 1.6."""
    assert efficientnet.layout(1, 0.7).stages[0].output_channels == 16
    assert efficientnet.layout(1, 0.1).stages[0].output_channels == 8
    for step in range(10, 300):
        for stage, base in zip(efficientnet.layout(1, step / 100).stages, TABLE_1, strict=True):
            assert stage.output_channels % 8 == 0
            assert stage.output_channels >= 0.9 * base[3] * step / 100


def test_the_papers_coefficients_double_the_cost_with_each_step_of_phi() -> None:
    """Equation 3 with the numbers of section 4: alpha beta² gamma² is about 2, here 1.2 · 1.21 · 1.3225 = 1.92."""
    assert equations.PAPER.growth == pytest.approx(1.2 * 1.21 * 1.3225) == pytest.approx(1.92, abs=0.001)
    assert equations.factors(equations.PAPER, 0) == (1, 1, 1)
    assert equations.factors(equations.PAPER, 1) == (1.2, 1.1, 1.15)
    assert equations.factors(equations.PAPER, 2) == pytest.approx((1.44, 1.21, 1.3225))
    depth, width, resolution = equations.factors(equations.PAPER, 2.5)
    assert depth * width**2 * resolution**2 == pytest.approx(equations.PAPER.growth**2.5)


@pytest.mark.parametrize(("axis", "expected"), [("depth", 2), ("width", 4), ("resolution", 4)])
def test_doubling_depth_doubles_the_cost_and_doubling_width_or_resolution_quadruples_it(
    axis: str, expected: int
) -> None:
    """Section 3.3 of the paper; a tenth apart, since the stem, the head and the depthwise layers follow other laws."""
    base = {"depth": 1, "width": 1, "resolution": 224}
    cost = arithmetic.multiply_adds(**base, classes=1000)
    assert arithmetic.multiply_adds(**base | {axis: 2 * base[axis]}, classes=1000) / cost == pytest.approx(
        expected, rel=0.1
    )


def test_a_stem_of_stride_1_sees_an_image_as_another_sees_one_twice_as_large() -> None:
    assert [arithmetic.total_stride(stem_stride) for stem_stride in (1, 2)] == [16, 32]
    assert arithmetic.total_stride(1) == scaling_params.STRIDES, "what params.yaml is checked by"
    sides = {}
    for stem_stride, resolutions in ((1, (32, 16)), (2, (64, 32))):
        with torch.device("meta"):
            network = efficientnet.build(depth=1, width=1, classes=10, dropout=0.2, stem_stride=stem_stride).eval()
            for side in resolutions:
                sides[stem_stride, side] = network.features(torch.empty(1, 3, side, side)).shape[-1]
        assert parameters(network) == 4_007_548 + 12_810
    assert sides == {(1, 32): 2, (2, 64): 2, (1, 16): 1, (2, 32): 1}
    cost = {"depth": 1.3, "width": 0.8, "classes": 10}
    assert arithmetic.multiply_adds(**cost, resolution=40, stem_stride=1) == arithmetic.multiply_adds(
        **cost, resolution=80
    )


def test_dropout_and_stochastic_depth_are_what_was_asked_for() -> None:
    with torch.device("meta"):
        network = efficientnet.build(depth=0.5, width=0.5, classes=10, dropout=0.35, stochastic_depth=0.1)
    blocks = [module.p for module in network.modules() if isinstance(module, StochasticDepth)]
    assert network.classifier[0].p == 0.35
    assert blocks == pytest.approx([0.1 * block / 10 for block in range(10)])


@pytest.mark.parametrize(
    ("resolution", "base", "stem_stride", "expected"),
    [
        (70.4, 64, 2, 64),  # 1.1 and 1.2 times the base of the quick study
        (76.8, 64, 2, 80),
        (72, 64, 2, 80),  # half-way: up
        (36.8, 32, 1, 40),
        (35.2, 32, 1, 32),
        (224 * 1.15, 224, 2, 256),
        (225, 225, 2, 225),  # the base itself, though no multiple
        (226, 225, 2, 225),
        (239, 225, 2, 240),
        (3, 64, 2, 32),  # never below S
        (3, 32, 1, 16),
        (30, 30, 2, 32),  # not even for a base that check_resolution refuses
    ],
)
def test_the_suitable_resolution_is_the_nearest(resolution: float, base: int, stem_stride: int, expected: int) -> None:
    assert arithmetic.suitable(resolution, base=base, stem_stride=stem_stride) == expected


def test_no_suitable_resolution_is_nearer_and_all_maps_but_the_last_are_whole() -> None:
    generator = random.Random(1)
    for _ in range(500):
        stem_stride, wanted = generator.choice([1, 2]), generator.uniform(1, 500)
        stride = 16 * stem_stride
        base = generator.randint(stride, 300)
        every = {base, *range(stride, 600, stride // 2)}
        found = arithmetic.suitable(wanted, base=base, stem_stride=stem_stride)
        assert found in every
        assert abs(found - wanted) == min(abs(choice - wanted) for choice in every)
        assert arithmetic.suitable(found, base=base, stem_stride=stem_stride) == found
        arithmetic.check_resolution(found, stem_stride=stem_stride, name="scaling.base_resolution")


@pytest.mark.parametrize(("stem_stride", "stride"), [(1, 16), (2, 32)])
def test_a_resolution_below_the_total_stride_is_refused_in_one_line(stem_stride: int, stride: int) -> None:
    arithmetic.check_resolution(stride, stem_stride=stem_stride, name="scaling.base_resolution")
    with pytest.raises(ValueError, match=r"^scaling\.base_resolution: ") as caught:
        arithmetic.check_resolution(stride - 1, stem_stride=stem_stride, name="scaling.base_resolution")
    assert str(caught.value) == (
        f"scaling.base_resolution: {stride - 1} is too small; allowed: {stride} or more, since the network's strides, "
        f"the stem's of {stem_stride} among them, make one pixel out of {stride}"
    )
