"""Cost: torch's own counter, published figures and hand computations are the oracles; the network is left as it was."""

import copy
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import psutil
import pytest
import torch
import torchvision
from thop import profile
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

from src.interface import kinds, params
from src.models import cost, lite, speed
from src.models.backbones import load_backbone
from tests.builders.small import PICO, convolutional, same_state

CPU = torch.device("cpu")
RATES = ("training_images_per_second", "inference_images_per_second")


KINDS = (PICO, "efficientnet_b0", "efficientnet_lite0", "resnet18", "densenet201")  # the others: more of the same


def slow_unless_in(few: tuple[str, ...], names: Iterable[str]) -> list[Any]:
    return [name if name in few else pytest.param(name, marks=pytest.mark.slow) for name in names]


@cache
def build(name: str) -> nn.Module:
    """In train mode, with shapes and no values, and with 1000 classes but for the pico, which has none."""
    if name == PICO:
        settings = params.Backbone(name=PICO, weights="random", resolution="native")
        return load_backbone(settings, seed=0).network.to("meta")
    with torch.device("meta"):
        return lite.build(name) if name in lite.RESOLUTIONS else torchvision.models.get_model(name)


def flops(network: nn.Module, resolution: int) -> int:
    """torch's own count of floating-point operations: a multiply-add is two."""
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, resolution, resolution, device=next(network.parameters()).device))
    network.train()
    return counter.get_total_flops()


def plain() -> nn.Sequential:
    """Three kinds of convolution, and every kind of layer that thop knows a rule for and the paper does not count."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.PReLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2)),
        *(nn.Conv2d(8, 16, 1, groups=2, bias=False), nn.Softmax(1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.LayerNorm(16), nn.Dropout(0.5), nn.Linear(16, 5)),
    )


@pytest.mark.parametrize("name", slow_unless_in(KINDS, kinds.BACKBONES))
def test_multiply_adds_are_exactly_half_of_the_operations_that_torch_counts(name: str) -> None:
    network = build(name)
    assert 2 * cost.multiply_adds(network, 64) == flops(network, 64)


@pytest.mark.parametrize("resolution", [32, 75, 224])
def test_they_agree_at_sides_that_strides_divide_and_at_those_that_they_do_not(resolution: int) -> None:
    network = build("efficientnet_b0")
    assert 2 * cost.multiply_adds(network, resolution) == flops(network, resolution)


@pytest.mark.parametrize(
    "name", slow_unless_in(KINDS, [name for name in kinds.BACKBONES if name not in (PICO, *lite.RESOLUTIONS)])
)
def test_multiply_adds_are_the_published_ones_to_the_last_digit_that_is_published(name: str) -> None:
    """torchvision's metadata: 10^9 multiply-adds with three decimals, at the crop size of the first weights' recipe."""
    weights = get_model_weights(name).IMAGENET1K_V1
    counted = cost.multiply_adds(build(name), weights.transforms().crop_size[0])
    assert round(counted / 1e9, 3) == weights.meta["_ops"]


def test_the_baseline_of_the_paper_costs_what_the_paper_says() -> None:
    """Table 2 of arXiv:1905.11946: 5.3 million parameters, 0.39 billion multiply-adds."""
    assert cost.describe(build("efficientnet_b0"), 224) == {
        "parameters": 5_288_548,
        "multiply_adds": 385_814_752,
        "activations": 6_747_036,
    }


def test_rules_are_set_because_those_of_thop_add_six_to_eight_percent() -> None:
    network = build("efficientnet_b0")
    theirs, _ = profile(copy.deepcopy(network), inputs=(torch.empty(1, 3, 224, 224, device="meta"),), verbose=False)
    assert 1.06 < theirs / cost.multiply_adds(network, 224) < 1.08


def test_a_plain_network_costs_what_a_hand_computes() -> None:
    found = cost.describe(plain(), 12)
    first, depthwise, grouped = 12 * 12 * 8, 6 * 6 * 8, 6 * 6 * 16  # elements that each convolution gives
    assert found["multiply_adds"] == first * 3 * 9 + depthwise * 9 + grouped * 4 + 16 * 5
    assert found["activations"] == first + depthwise + grouped
    convolutions, norms = (8 * 27 + 8) + (8 * 9 + 8) + 16 * 4, 2 * 8 + 1 + 2 * 16
    assert found["parameters"] == convolutions + norms + (16 * 5 + 5)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 8, 3, 2), nn.ConvTranspose2d(3, 8, 3, 2), nn.ConvTranspose2d(3, 6, 2, groups=3)]
)
def test_a_network_of_one_convolution_is_counted_transposed_or_not(layer: nn.Module) -> None:
    assert 2 * cost.multiply_adds(layer, 9) == flops(layer, 9)


def test_a_convolution_of_a_class_of_its_own_counts_as_one() -> None:
    """thop looks up the exact type: a subclass would cost nothing."""

    class Padded(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(nn.functional.pad(images, (0, 1, 0, 1)))

    network = nn.Sequential(Padded(3, 4, 2), nn.ReLU())
    assert cost.multiply_adds(network, 5) == 4 * 25 * 3 * 4
    assert cost.activations(network, 5) == 4 * 25


def test_a_layer_that_runs_twice_costs_twice_and_has_its_parameters_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(self.layer(images))

    assert cost.describe(Twice(), 4) == {"parameters": 9, "multiply_adds": 2 * 16 * 9, "activations": 2 * 16 * 3}


@pytest.mark.parametrize("name", slow_unless_in((PICO, "resnet18"), [PICO, "resnet18", "densenet201"]))
def test_activations_are_the_elements_that_hooks_on_the_convolutions_see(name: str) -> None:
    seen = []
    network = copy.deepcopy(build(name)).eval()
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape.numel()))
    network(torch.empty(1, 3, 64, 64, device="meta"))
    assert cost.activations(build(name), 64) == sum(seen)


def attached(network: nn.Module) -> list[int]:
    """How many hooks and buffers each module has."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_buffers")
    return [len(getattr(module, kind)) for module in network.modules() for kind in kinds]


def measured(network: nn.Module, batch_size: int = 4, **changes: Any) -> dict[str, float]:
    return speed.measure(network, 8, **{"batch_size": batch_size, "classes": 4, "device": CPU, "steps": 2} | changes)


def described(network: nn.Module) -> dict[str, int]:
    return cost.describe(network, 8)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("run", [described, measured])
def test_the_network_is_left_as_it_was(
    run: Callable[[nn.Module], object], training: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its mode and that of its layers, names, bits, hooks, buffers, gradients, the random state; and silently."""
    network = convolutional(dropout=0.5).train(training)
    network[0][1].train(not training)
    network[0][0].weight.requires_grad_(False)
    state = network.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    modes, extras, random = [module.training for module in network.modules()], attached(network), torch.get_rng_state()
    run(network)
    assert same_state(before, network.state_dict())
    assert [module.training for module in network.modules()] == modes
    assert attached(network) == extras
    places = zip(state.values(), network.state_dict().values(), strict=True)
    assert all(old.data_ptr() == new.data_ptr() and new.device == CPU for old, new in places)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()][:2] == [False, True]
    assert torch.equal(torch.get_rng_state(), random)
    assert capfd.readouterr() == ("", "")


def test_a_network_on_the_meta_device_can_be_described_again_and_again() -> None:
    network = build(PICO)
    assert cost.describe(network, 64) == cost.describe(network, 64)
    assert {value.device.type for value in network.state_dict().values()} == {"meta"}


class Limited(nn.Module):
    """Logits for 4 classes that run out of memory, in training only, with more than `limit` images; notes its calls."""

    def __init__(self, limit: int = 10**6, first: float = 0.0) -> None:
        super().__init__()
        self.layer, self.limit, self.first, self.seen = nn.Linear(3 * 8 * 8, 4), limit, first, Notes()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.layer(images.flatten(1))
        self.seen.append((self.training, len(images), logits.dtype))
        if self.training and len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        time.sleep(self.first if len(self.seen) == 1 else 0.01)
        return logits


class Notes(list[tuple[bool, int, torch.dtype]]):
    """A list that the copies of a module share."""

    def __deepcopy__(self, _memo: object) -> "Notes":
        return self


def test_a_backbone_gives_every_figure_and_all_are_positive() -> None:
    network = load_backbone(params.Backbone(name=PICO, weights="random", resolution="native"), seed=0).network
    found = speed.measure(network, 64, batch_size=4, classes=10, device=CPU, steps=2)
    assert set(found) == {*RATES, "peak_memory_mb", "measured_batch_size"}
    assert all(value > 0 for value in found.values())


def test_rates_are_images_over_seconds_without_the_first_step() -> None:
    """A step that sleeps 10 ms does at most 100 a second; with the first one's 2 s in it, fewer than 12 images."""
    network = Limited(first=2.0)
    found = measured(network, batch_size=8, steps=3)
    assert all(8 * 3 / 2.0 < found[rate] <= 8 / 0.01 for rate in RATES)
    assert [training for training, _, _ in network.seen] == [True] * 4 + [False] * 4


def test_out_of_memory_the_batch_is_halved_and_the_record_says_so() -> None:
    network = Limited(limit=4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = measured(network, batch_size=13)
    assert found["measured_batch_size"] == 4
    assert [count for _, count, _ in network.seen] == [13, 7] + [4] * 6
    assert all(0 < found[rate] <= 4 / 0.01 for rate in RATES)
    assert same_state(before, network.state_dict())


def test_out_of_memory_with_two_images_is_an_error() -> None:
    network = Limited(limit=1)
    with pytest.raises(torch.OutOfMemoryError):
        measured(network, batch_size=8)
    assert [count for _, count, _ in network.seen] == [8, 4, 2]


def test_any_other_error_is_no_reason_to_try_again() -> None:
    network = Limited()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measured(nn.Sequential(network, nn.Linear(5, 4)), batch_size=8)
    assert len(network.seen) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_both_rates_are_taken_in_the_precision_that_is_asked_for(precision: str) -> None:
    network = Limited()
    measured(network, precision=precision)
    assert {dtype for _, _, dtype in network.seen} == {getattr(torch, precision)}


def test_peak_memory_is_in_mebibytes_of_the_process() -> None:
    now, all_there_is = psutil.Process().memory_info().rss / 2**20, psutil.virtual_memory().total / 2**20
    assert 0.9 * now < measured(convolutional())["peak_memory_mb"] < all_there_is


@pytest.mark.gpu
def test_peak_memory_is_that_of_the_device_where_there_is_one() -> None:
    """At least the weights and the images; and 4 times the images need more than twice the memory."""
    network, device = torchvision.models.efficientnet_b0(), torch.device("cuda")
    arguments = {"classes": 1000, "device": device, "precision": "bfloat16", "steps": 2}
    small, large = (speed.measure(network, 64, batch_size=count, **arguments) for count in (64, 256))
    assert 4 * cost.parameters(network) / 2**20 < small["peak_memory_mb"] < large["peak_memory_mb"] / 2
    assert {value.device for value in network.state_dict().values()} == {CPU}
