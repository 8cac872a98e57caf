"""Classifiers on top of a backbone's features. D feature width, K classes."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

HIDDEN = 512


@dataclass(frozen=True, kw_only=True)
class Head:
    """A classifier on top of a backbone, and how it is trained: what the search draws and finds.

    Attributes:
        learning_rate: the peak, which the schedule multiplies.
        weight_decay: not on biases and norms.
        dropout: probability, before each linear layer.
        optimizer, schedule, classifier: by name, as in params.yaml.
    """

    learning_rate: float
    weight_decay: float
    dropout: float
    optimizer: str
    schedule: str
    classifier: str


def build_head(classifier: str, *, width: int, classes: int, dropout: float, seed: int) -> nn.Sequential:
    """A head from features (N, D) to logits (N, K), with weights that `seed` decides.

    Args:
        classifier: `simple` (dropout, linear) or `deep` (linear to 512, batch norm, SiLU, dropout, linear).
        width: D.
        classes: K.
        dropout: probability, in [0, 1).
        seed: of the initial weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if classifier == "simple":
            return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))
        return nn.Sequential(
            nn.Linear(width, HIDDEN),
            nn.BatchNorm1d(HIDDEN),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, classes),
        )


def join(backbone: nn.Module, head: nn.Module) -> nn.Sequential:
    """The whole network, images (N, 3, R, R) to logits (N, K); its parameters are `backbone.*` and `head.*`."""
    return nn.Sequential(OrderedDict(backbone=backbone, head=head))
