"""Gradual unfreezing: a frozen block keeps its bits until its epoch, and then moves."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads import build_head, join
from src.transfer import finetuning
from src.transfer.strategies import blocks, grouped, unfreezer
from tests.builders.small import convolutional, finetune_settings, load

OPTIMIZERS = ["adam", "adamw", "sgd", "rmsprop"]


class Transformer(nn.Module):
    """As timm's are: a token of its own, blocks in `stages`, a norm behind them in a child that has nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.stem = nn.Linear(3 * 32 * 32, 4)
        self.stages = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.head = nn.Sequential(nn.LayerNorm(4), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.stages(self.stem(images.flatten(1)) + self.token))
        return found


def test_a_token_belongs_to_the_input_a_norm_to_the_block_before_it_and_stages_hold_blocks() -> None:
    model = join(Transformer(), build_head("simple", width=4, classes=3, dropout=0.0, seed=0))
    backbone = model.get_submodule("backbone")
    assert [name for name, _ in blocks(backbone)] == ["stem", "stages.0", "stages.1"]
    assert backbone.get_submodule("head") in blocks(backbone)[-1][1]
    unfreeze = unfreezer(model, finetune_settings(strategy="progressive", unfreeze_every=1))
    for epoch, trains in ((1, False), (2, False), (3, True)):
        unfreeze(epoch)
        assert backbone.get_parameter("token").requires_grad == trains
        assert backbone.get_parameter("stages.1.weight").requires_grad
        assert backbone.get_parameter("stem.weight").requires_grad == trains
    groups = {each["name"]: each["lr"] for each in grouped(model, finetune_settings(strategy="layerwise"), lr=1.0)}
    finetuning.optimizer(model, finetune_settings(strategy="layerwise"), lr=1.0)  # or it says that one is in no group
    assert groups["stem"] < groups["stages.0"] < groups["stages.1"] < groups["head"]


def network() -> nn.Sequential:
    return join(load().network, build_head("deep", width=640, classes=3, dropout=0.1, seed=0))


def state(network: nn.Sequential) -> dict[str, dict[str, Tensor]]:
    """A copy of all parameters and buffers, by block, and of the head."""
    parts = dict(blocks(network.backbone)) | {"head": [network.head]}
    return {
        part: {
            f"{index}.{name}": value.clone()
            for index, module in enumerate(modules)
            for name, value in module.state_dict().items()
        }
        for part, modules in parts.items()
    }


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def train(model: nn.Sequential, epochs: int, **settings: Any) -> list[dict[str, dict[str, Tensor]]]:
    """The state at first and after each epoch of two steps, with weight decay."""
    chosen = finetune_settings(strategy="progressive", weight_decay=0.05, **settings)
    unfreeze, optimizer = unfreezer(model, chosen), finetuning.optimizer(model, chosen, lr=0.01)
    draws, states = torch.Generator().manual_seed(0), [state(model)]
    torch.manual_seed(0)
    for epoch in range(1, epochs + 1):
        model.train()
        unfreeze(epoch)
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(torch.rand(4, 3, 32, 32, generator=draws)), torch.arange(4) % 3).backward()
            optimizer.step()
        states.append(state(model))
    return states


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("unfreeze_every", "epochs"), [pytest.param(1, 10, marks=pytest.mark.slow), (3, 7)])
def test_a_block_keeps_its_bits_until_its_epoch_and_moves_from_then_on(
    optimizer: str, unfreeze_every: int, epochs: int
) -> None:
    """Bits of weights, biases and batch-norm statistics; the blocks are nine, features.8 next to the head."""
    states = train(network(), epochs, optimizer=optimizer, unfreeze_every=unfreeze_every)
    for epoch, (before, after) in enumerate(pairwise(states), start=1):
        training = {f"features.{8 - done}" for done in range(min(9, 1 + (epoch - 1) // unfreeze_every))} | {"head"}
        for part in before:
            changed = moved(before[part], after[part])
            if part in training:
                kept = {name: value for name, value in before[part].items() if name not in changed}
                assert not [name for name, value in kept.items() if value.ndim > 1 or "running" in name], part
            else:
                assert not changed, f"{part} moved in epoch {epoch}"


def test_only_the_blocks_in_training_have_a_gradient_and_train_mode() -> None:
    model = convolutional()
    unfreeze = unfreezer(model, finetune_settings(strategy="progressive", unfreeze_every=2))
    found = []
    for epoch in range(1, 6):
        model.train()
        unfreeze(epoch)
        stem, second = model.backbone[:3], model.backbone[3:]
        assert [p.requires_grad for p in stem.parameters()] == [stem[1].training] * 4 == [stem[0].training] * 4
        assert all(p.requires_grad for p in [*second.parameters(), *model.head.parameters()])
        assert second[1].training
        assert model.head.training
        found.append(stem[1].training)
    assert found == [False, False, True, True, True]


def test_the_optimizers_state_of_a_block_is_kept_while_others_join() -> None:
    model = network()
    settings = finetune_settings(strategy="progressive")
    unfreeze, optimizer = unfreezer(model, settings), finetuning.optimizer(model, settings, lr=0.01)
    top = [
        next(module for module in dict(blocks(model.backbone))[name][0].modules() if isinstance(module, nn.Conv2d))
        for name in ("features.8", "features.7", "features.6")
    ]
    steps = []
    for epoch in (1, 2, 3):
        model.train()
        unfreeze(epoch)
        optimizer.zero_grad(set_to_none=True)
        model(torch.rand(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        steps.append([int(optimizer.state[kernel.weight].get("step", 0)) for kernel in top])
    assert steps == [[1, 0, 0], [2, 1, 0], [3, 2, 1]]


@pytest.mark.parametrize("strategy", ["full", "layerwise"])
def test_the_other_strategies_train_everything_from_the_start(strategy: str) -> None:
    model = network().requires_grad_(False).train()
    unfreezer(model, finetune_settings(strategy=strategy))(1)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_a_frozen_block_is_that_of_the_network_as_it_is_now() -> None:
    """Converting to synchronised batch norm, as a run over many GPUs does, puts other modules in their place."""
    model = convolutional()
    unfreeze = unfreezer(model, finetune_settings(strategy="progressive"))
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    unfreeze(1)
    assert isinstance(model.backbone[1], nn.SyncBatchNorm)
    assert not model.backbone[1].training
    assert model.backbone[4].training
