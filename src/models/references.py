"""Reference models of the scaling study: backbones as they are published, and a small plain network. K classes."""

import torchvision
from torch import nn

from src.models import efficientnet, hub, lite
from src.models.efficientnet import BASES


def build_reference(name: str, *, classes: int) -> nn.Module:
    """A model as it is published, with its own dropout and stochastic depth."""
    if name == "small_cnn":
        return _small_cnn(classes)
    network: nn.Module
    if name == "efficientnet_pico":
        depth, width = BASES[name]
        network = efficientnet.build(depth=depth, width=width, classes=classes, dropout=0.2)
    elif hub.is_timm(name):
        network = hub.build(name, classes=classes)
    elif name in lite.RESOLUTIONS:
        network = lite.build(name, classes=classes, dropout=lite.DROPOUT[name], stochastic_depth=0.2)
    elif name in efficientnet.PUBLISHED:
        network = efficientnet.build_published(name, classes=classes)
    else:
        network = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def _small_cnn(classes: int) -> nn.Sequential:
    """Four convolutions in two blocks, pooled to 8 x 8 positions, and a hidden layer, as Keras's example for CIFAR-10.

    We pad all convolutions, so at 32 pixels the last pooling changes nothing; at others it keeps the hidden layer's
    size.
    """

    def block(channels: int, out: int) -> list[nn.Module]:
        first, second = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        return [first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]

    head = [nn.Linear(64 * 8 * 8, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes)]
    return nn.Sequential(*block(3, 32), *block(32, 64), nn.AdaptiveAvgPool2d(8), nn.Flatten(), *head)
