"""Backbones: the published networks without their classifiers."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from src.images.augmentation import View
from src.interface.kinds import BACKBONES
from src.models import backbones, lite
from src.transfer import features
from tests.builders.small import PICO, SHIPPED, backbone_settings, load, same_state

# Feature width and native resolution, from the papers and torchvision's documentation.
PUBLISHED = {
    "efficientnet_b0": (1280, 224),
    "efficientnet_b1": (1280, 240),
    "efficientnet_b2": (1408, 288),
    "efficientnet_b3": (1536, 300),
    "efficientnet_b4": (1792, 380),
    "efficientnet_b5": (2048, 456),
    "efficientnet_b6": (2304, 528),
    "efficientnet_b7": (2560, 600),
    "resnet18": (512, 224),
    "resnet50": (2048, 224),
    "resnet152": (2048, 224),
    "densenet201": (1920, 224),
}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_every_published_backbone_of_the_parameters_is_in_the_table_below() -> None:
    assert set(BACKBONES) == {PICO, *PUBLISHED, *lite.RESOLUTIONS}


KINDS = ("efficientnet_b0", "resnet18", "densenet201")  # the others: more of the same layers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in PUBLISHED]
)
def test_a_backbone_is_the_published_network_without_its_classifier(name: str) -> None:
    width, resolution = PUBLISHED[name]
    meta = torchvision.models.get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):  # shapes alone: nothing is computed
        backbone = load(name)
        produced = backbone.network.eval()(torch.empty(2, 3, 64, 64))
    classifier = width * len(meta["categories"]) + len(meta["categories"])
    assert parameters(backbone.network) == meta["num_params"] - classifier
    assert produced.shape == (2, backbone.width) == (2, width)
    assert backbone.view == View(resolution=resolution, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18"])
def test_a_backbone_computes_what_torchvisions_network_does_up_to_the_classifier(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(name, num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    seen: list[Tensor] = []
    classifier = whole.fc if name == "resnet18" else whole.classifier
    classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 64, 64)
    whole(images)
    ours = features.freeze(load(name, tmp_path / "whole.pth").network)(images)
    torch.testing.assert_close(ours, seen[0], atol=1e-5, rtol=1e-5)


def test_efficientnet_pico_is_b0s_table_at_half_width_and_half_depth() -> None:
    """Against B0 as torchvision builds it: the same kinds of blocks, half as many; channels rounded as in the paper."""
    pico, reference = load().network, torchvision.models.efficientnet_b0()
    assert parameters(pico) == 657_120
    assert pico(torch.rand(2, 3, 64, 64)).shape == (2, 640)
    assert [len(stage) for stage in pico.features[1:8]] == [1, 1, 1, 2, 2, 2, 1]
    assert pico.features[0][0].out_channels == 16
    assert pico.features[8][0].out_channels == 640
    for ours, theirs in zip(pico.features[1:8], reference.features[1:8], strict=True):
        kinds = [[type(module) for module in stage[0].modules()] for stage in (ours, theirs)]
        kernels = [[m.kernel_size for m in stage[0].modules() if isinstance(m, nn.Conv2d)] for stage in (ours, theirs)]
        assert kinds[0] == kinds[1]
        assert kernels[0] == kernels[1]
    norms = [module for module in pico.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}


def test_random_weights_depend_on_the_seed_alone() -> None:
    first = load(seed=1).network.state_dict()
    state = torch.get_rng_state()
    assert same_state(load(seed=1).network.state_dict(), first)
    assert not same_state(load(seed=2).network.state_dict(), first)
    assert torch.equal(torch.get_rng_state(), state), "building a network drew from the global generator"


def test_a_resolution_in_the_settings_comes_before_the_native_one() -> None:
    assert backbones.load_backbone(backbone_settings(weights=SHIPPED, resolution=40), seed=0).view.resolution == 40
