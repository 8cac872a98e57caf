"""Heads: the layers that the study describes, with weights that the seed decides."""

import pytest
import torch
from torch import nn

from src.models.heads import build_head, join


def head(classifier: str, seed: int = 0) -> nn.Sequential:
    return build_head(classifier, width=20, classes=7, dropout=0.3, seed=seed)


def test_the_simple_head_is_dropout_and_a_linear_layer() -> None:
    dropout, linear = head("simple")
    assert isinstance(dropout, nn.Dropout)
    assert isinstance(linear, nn.Linear)
    assert (dropout.p, linear.in_features, linear.out_features) == (0.3, 20, 7)


def test_the_deep_head_goes_through_512_normalised_features() -> None:
    layers = head("deep")
    assert [type(layer) for layer in layers] == [nn.Linear, nn.BatchNorm1d, nn.SiLU, nn.Dropout, nn.Linear]
    first, norm, _, dropout, last = layers
    assert (first.in_features, first.out_features, norm.num_features, dropout.p) == (20, 512, 512, 0.3)
    assert (last.in_features, last.out_features) == (512, 7)


@pytest.mark.parametrize("classifier", ["simple", "deep"])
def test_the_seed_alone_decides_a_heads_weights(classifier: str) -> None:
    torch.manual_seed(1)
    first = head(classifier).state_dict()
    state = torch.get_rng_state()
    again, other = head(classifier).state_dict(), head(classifier, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state), "building a head drew from the global generator"
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(list(first.values())[-1], list(other.values())[-1])


@pytest.mark.parametrize("classifier", ["simple", "deep"])
def test_features_become_logits_of_every_class(classifier: str) -> None:
    assert head(classifier)(torch.rand(5, 20)).shape == (5, 7)


def test_a_joined_network_is_the_head_of_the_backbones_features() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 20))
    network, images = join(backbone, head("deep")).eval(), torch.rand(4, 3, 2, 2)
    assert torch.equal(network(images), network.head(network.backbone(images)))
    assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"backbone", "head"}
