"""Parameter groups: each parameter in one of them, at the rate that its strategy's arithmetic gives it."""

import pytest
import torch
from torch import nn

from src.interface import kinds
from src.models.backbones import load_backbone
from src.models.heads import build_head, join
from src.training.parameter_groups import check_cover, parameter_groups
from src.transfer.strategies import blocks, grouped
from tests.builders.small import backbone_settings, convolutional, finetune_settings, load

RESNET = ["conv1", "layer1", "layer2", "layer3", "layer4"]
DENSENET = [
    *("features.conv0", "features.denseblock1", "features.transition1", "features.denseblock2"),
    *("features.transition2", "features.denseblock3", "features.transition3", "features.denseblock4"),
]


def expected_blocks(name: str) -> list[str]:
    if name.startswith("efficientnet_lite"):
        return ["conv_stem", *(f"blocks.{index}" for index in range(7)), "conv_head"]
    if name.startswith("efficientnet"):
        return [f"features.{index}" for index in range(9)]
    return RESNET if name.startswith("resnet") else DENSENET


def skeleton(name: str) -> nn.Module:
    """The backbone without any numbers in its weights: even the largest takes no time and no memory."""
    with torch.device("meta"):
        return load_backbone(backbone_settings(name), seed=0).network


def network(name: str = "efficientnet_pico") -> nn.Sequential:
    backbone = load(name)
    return join(backbone.network, build_head("deep", width=backbone.width, classes=3, dropout=0.1, seed=0))


def rates(model: nn.Module, groups: list[dict]) -> dict[str, float]:
    """The rate of each parameter of `model`, by its name."""
    found = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


KINDS = ("efficientnet_pico", "efficientnet_b0", "efficientnet_lite0", "resnet18", "densenet201")  # others: more layers


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in kinds.BACKBONES]
)
def test_the_blocks_of_a_backbone_are_its_stages_and_hold_each_parameter_once(name: str) -> None:
    backbone = skeleton(name)
    found = blocks(backbone)
    assert [block for block, _ in found] == expected_blocks(name)
    held = [id(parameter) for _, modules in found for module in modules for parameter in module.parameters()]
    assert sorted(held) == sorted(map(id, backbone.parameters()))


@pytest.mark.parametrize(
    "name",
    [
        *("efficientnet_pico", "efficientnet_lite0", "resnet50"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_b7", "densenet201")),
    ],
)
def test_blocks_are_in_the_order_in_which_an_image_passes_them(name: str) -> None:
    backbone, seen = skeleton(name).eval(), []
    found = blocks(backbone)
    for _, modules in found:
        for module in modules:
            module.register_forward_hook(lambda module, *_: seen.append(id(module)))
    backbone(torch.zeros(1, 3, 64, 64, device="meta"))
    assert seen == [id(module) for _, modules in found for module in modules]


def test_a_normalisation_belongs_to_the_block_before_it() -> None:
    stem, *_, last = blocks(skeleton("densenet201"))
    assert [type(module) for module in stem[1]] == [nn.Conv2d, nn.BatchNorm2d]
    assert type(last[1][1]) is nn.BatchNorm2d
    plain = blocks(convolutional().backbone)
    assert [(name, [type(module) for module in modules]) for name, modules in plain] == [
        ("0", [nn.Conv2d, nn.BatchNorm2d]),
        ("3", [nn.Conv2d, nn.BatchNorm2d]),
    ]
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(convolutional().backbone)
    assert [name for name, _ in blocks(synchronised)] == ["0", "3"]


@pytest.mark.parametrize("strategy", ["full", "progressive", "layerwise"])
@pytest.mark.parametrize("name", ["efficientnet_pico", "resnet18"])
def test_every_parameter_is_in_exactly_one_group_and_only_kernels_decay(name: str, strategy: str) -> None:
    model = network(name)
    groups = grouped(model, finetune_settings(strategy=strategy, weight_decay=0.05), lr=0.01)
    placed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(placed) == sorted(id(parameter) for parameter in model.parameters())
    weights = [m.weight for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    decayed = [id(p) for group in groups if group["weight_decay"] for p in group["params"]]
    assert sorted(decayed) == sorted(map(id, weights)), "biases and norms decay, or a kernel does not"
    assert {group["weight_decay"] for group in groups} == {0.0, 0.05}
    assert {tuple(group) for group in groups} == {("params", "name", "lr", "initial_lr", "weight_decay")}
    assert all(group["initial_lr"] == group["lr"] for group in groups)
    check_cover(model, groups)


@pytest.mark.parametrize("strategy", ["full", "progressive"])
def test_the_backbone_learns_at_its_share_of_the_heads_rate(strategy: str) -> None:
    model = network()
    groups = grouped(model, finetune_settings(strategy=strategy, backbone_lr_ratio=0.25), lr=0.01)
    for name, rate in rates(model, groups).items():
        assert rate == pytest.approx(0.01 if name.startswith("head.") else 0.0025)
    assert [group["name"] for group in groups] == ["head", "head", "backbone", "backbone"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "efficientnet_pico",
            {
                **{"features.8": 0.4, "features.7": 0.2, "features.6": 0.1, "features.5": 0.05, "features.4": 0.025},
                **{"features.3": 0.0125, "features.2": 0.00625, "features.1": 0.003125, "features.0": 0.0015625},
            },
        ),
        ("resnet18", {"layer4": 0.4, "layer3": 0.2, "layer2": 0.1, "layer1": 0.05, "conv1": 0.025, "bn1": 0.025}),
    ],
)
def test_layerwise_halves_the_rate_block_by_block_from_the_head_down(name: str, expected: dict[str, float]) -> None:
    """lr 0.8 and layer_decay 0.5; the ratio of the other strategies plays no part."""
    model = network(name)
    groups = grouped(model, finetune_settings(strategy="layerwise", layer_decay=0.5, backbone_lr_ratio=0.01), lr=0.8)
    for parameter, rate in rates(model, groups).items():
        block = next((block for block in expected if parameter.startswith(f"backbone.{block}.")), None)
        assert rate == pytest.approx(0.8 if block is None else expected[block]), parameter
        assert (block is None) == parameter.startswith("head.")
    names = [group["name"] for group in groups]
    assert list(dict.fromkeys(names)) == ["head", *(block for block in expected if block != "bn1")]


def test_a_decay_of_one_gives_every_block_the_heads_rate() -> None:
    groups = grouped(network(), finetune_settings(strategy="layerwise", layer_decay=1.0), lr=0.3)
    assert {group["lr"] for group in groups} == {0.3}


def test_frozen_parameters_are_in_their_groups_too() -> None:
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2, bias=False))
    groups = parameter_groups(model, "head", lr=1.0, weight_decay=0.1)
    assert [len(group["params"]) for group in groups] == [2, 1]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_a_module_without_biases_has_one_group() -> None:
    assert len(parameter_groups(nn.Linear(3, 2, bias=False), "head", lr=1.0, weight_decay=0.1)) == 1


def test_a_parameter_in_no_group_or_in_several_is_named() -> None:
    model = convolutional()
    groups = grouped(model, finetune_settings(), lr=0.1)
    check_cover(model, groups)
    without = [group | {"params": [p for p in group["params"] if p is not model.head[1].bias]} for group in groups]
    with pytest.raises(ValueError, match=r"^optimizer: head\.1\.bias: 1 in no group; allowed: each .* exactly one$"):
        check_cover(model, without)
    with pytest.raises(
        ValueError, match=r"^optimizer: backbone\.0\.weight, backbone\.0\.bias, backbone\.1\.weight \.\.\.: 10 in no"
    ):
        check_cover(model, [])
    twice = [*groups, {"params": [model.backbone[3].weight]}]
    with pytest.raises(ValueError, match=r"^optimizer: backbone\.3\.weight: 1 in several groups; "):
        check_cover(model, twice)


def test_a_parameter_outside_all_blocks_learns_with_the_lowest_and_one_outside_the_backbone_is_an_error() -> None:
    model = convolutional()
    model.backbone.register_parameter("scale", nn.Parameter(torch.ones(1)))
    check_cover(model, grouped(model, finetune_settings(strategy="layerwise"), lr=0.1))
    model.register_parameter("shift", nn.Parameter(torch.ones(1)))
    with pytest.raises(ValueError, match=r"^optimizer: shift: 1 in no group; "):
        check_cover(model, grouped(model, finetune_settings(strategy="layerwise"), lr=0.1))
