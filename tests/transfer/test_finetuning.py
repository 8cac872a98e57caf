"""Fine-tuning: how the network, its optimizer and its recipe come from what the search found and params.yaml asks."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from src.base.randomness import seed_of
from src.interface.params import Finetune
from src.models.heads import build_head
from src.training.fitting import Session
from src.training.loop import Recipe
from src.transfer import finetuning
from tests.builders.small import CHOSEN, convolutional, finetune_settings, images, load, quiet, same_state

BEST = replace(CHOSEN, classifier="deep", dropout=0.1)
CPU = torch.device("cpu")


def assembled(name: str = "efficientnet_pico", *, seed: int = 0, **settings: object) -> nn.Sequential:
    backbone = load(name)
    trained = build_head("deep", width=backbone.width, classes=3, dropout=0.1, seed=9).state_dict()
    return finetuning.assemble(backbone, BEST, trained, finetune_settings(**settings), classes=3, seed=seed)


def depths(network: nn.Module) -> list[float]:
    return [module.p for module in network.modules() if isinstance(module, StochasticDepth)]


def test_finetuning_starts_from_the_trained_head_and_the_pretrained_backbone() -> None:
    backbone = load()
    trained = build_head("deep", width=640, classes=3, dropout=0.1, seed=9)
    pretrained = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    model = finetuning.assemble(backbone, BEST, trained.state_dict(), finetune_settings(), classes=3, seed=0)
    assert model.backbone is backbone.network
    assert same_state(model.backbone.state_dict(), pretrained)
    assert same_state(model.head.state_dict(), trained.state_dict())
    assert model.head[3].p == 0.1


def test_a_new_head_has_random_weights_that_the_seed_decides() -> None:
    first, again, other = (assembled(head="new", seed=seed).head.state_dict() for seed in (0, 0, 1))
    assert same_state(first, again)
    assert not same_state(first, other)
    expected = build_head("deep", width=640, classes=3, dropout=0.1, seed=seed_of(0, "head"))
    assert same_state(first, expected.state_dict())


@pytest.mark.parametrize("name", ["efficientnet_pico", "efficientnet_b0"])
def test_stochastic_depth_of_a_fifth_is_what_torchvision_builds(name: str) -> None:
    if name == "efficientnet_pico":
        expected = depths(load(name).network)
    else:
        expected = depths(torchvision.models.efficientnet_b0(weights=None))
    assert depths(assembled(name, stochastic_depth=0.2)) == expected
    assert max(expected) > 0.15


def test_stochastic_depth_rises_evenly_with_the_block() -> None:
    """B0 has 16 blocks: the last is skipped with 15/16 of the probability, the first never."""
    found = depths(assembled("efficientnet_b0", stochastic_depth=0.8))
    assert found == pytest.approx([0.05 * index for index in range(16)])
    assert set(depths(assembled("efficientnet_b0", stochastic_depth=0.0))) == {0.0}


def test_a_backbone_without_stochastic_depth_is_left_as_it_is_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert depths(assembled("resnet18", stochastic_depth=0.5)) == []
    assert "finetune.stochastic_depth has no effect" in capsys.readouterr().err
    assembled("resnet18", stochastic_depth=0.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_the_optimizer_is_the_one_that_is_asked_for_over_all_parameters(name: str) -> None:
    model = convolutional()
    optimizer = finetuning.optimizer(model, finetune_settings(optimizer=name, epsilon=0.25), lr=0.01)
    assert type(optimizer).__name__.lower() == name
    placed = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert placed == {id(parameter) for parameter in model.parameters()}
    assert {group["initial_lr"] for group in optimizer.param_groups} == {0.01, 0.001}
    if name == "rmsprop":
        assert {group["epsilon"] for group in optimizer.param_groups} == {0.25}


def test_a_parameter_that_no_group_would_train_is_an_error() -> None:
    model = convolutional()
    model.register_parameter("scale", nn.Parameter(torch.ones(1)))
    with pytest.raises(ValueError, match=r"^optimizer: scale: 1 in no group; "):
        finetuning.optimizer(model, finetune_settings(), lr=0.01)


def test_the_recipe_takes_every_value_that_the_settings_share_with_it() -> None:
    settings = finetune_settings(
        **{"epochs": 7, "batch_size": 10, "micro_batch_size": 4, "schedule": "step", "warmup_epochs": 2},
        **{"label_smoothing": 0.2, "mixup": 0.3, "cutmix": 0.4, "ema_decay": 0.9, "clip_norm": 2.0},
        **{"early_stopping": 3, "precision": "bfloat16", "compile": True, "checkpoint_minutes": 5.0},
    )
    recipe = Recipe.of(settings, class_weights="balanced")
    assert recipe.class_weights == "balanced"
    names = {field.name for field in fields(Recipe)} - {"class_weights"}  # which heads and fine-tuning share
    assert names <= {field.name for field in fields(Finetune)}
    assert {name: getattr(recipe, name) for name in names} == {name: getattr(settings, name) for name in names}
    assert (recipe.epochs, recipe.micro_batch_size, recipe.mixup, recipe.precision) == (7, 4, 0.3, "bfloat16")


@pytest.mark.parametrize(
    ("strategy", "moved"),
    [("full", [True] * 4), ("layerwise", [True] * 4), ("progressive", [False, False, True, True])],
)
def test_training_moves_the_lower_block_in_the_epochs_that_the_strategy_says(strategy: str, moved: list[bool]) -> None:
    model, data, states = convolutional(), images(16), []
    stem = model.backbone[:3]

    def note(row: dict[str, Any]) -> None:
        states.append({name: value.clone() for name, value in stem.state_dict().items()})

    note({})
    settings = finetune_settings(strategy=strategy, unfreeze_every=2, epochs=4, warmup_epochs=0)
    fitted = finetuning.train(
        model,
        data,
        data,
        settings,
        lr=0.01,
        class_weights="equal",
        session=Session(seed=0, advance=quiet, on_epoch=note),
    )
    assert [not same_state(before, after) for before, after in pairwise(states)] == moved
    rates = {"0_lr", "3_lr", "head_lr"} if strategy == "layerwise" else {"backbone_lr", "head_lr"}
    assert {name for name in fitted.curve[0] if name.endswith("_lr")} == rates


def test_synchronised_batch_norm_is_for_gpus() -> None:
    model = convolutional()
    with pytest.raises(
        ValueError,
        match=r"^finetune\.sync_batch_norm: true needs a GPU, and this runs on cpu; allowed here: false$",
    ):
        finetuning.synchronise_batch_norm(model, finetune_settings(sync_batch_norm=True), CPU)
    assert finetuning.synchronise_batch_norm(model, finetune_settings(sync_batch_norm=False), CPU) is model
    assert not [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]


def test_on_a_gpu_every_batch_norm_is_synchronised_and_keeps_its_parameters() -> None:
    """The conversion itself needs no GPU: only the device's name is looked at."""
    model = convolutional()
    parameters, before = list(model.parameters()), {name: v.clone() for name, v in model.state_dict().items()}
    settings = finetune_settings(sync_batch_norm=True)
    converted = finetuning.synchronise_batch_norm(model, settings, torch.device("cuda"))
    assert [type(module) for module in converted.modules()].count(nn.SyncBatchNorm) == 2
    assert not [module for module in converted.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(a is b for a, b in zip(parameters, converted.parameters(), strict=True))
    assert same_state(before, converted.state_dict())
