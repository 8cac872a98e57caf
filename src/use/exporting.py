"""A fine-tuned network as ONNX: stored images in, calibrated probabilities out, and what it is in its metadata.

N images, C = 3 channels, S x S stored pixels, R resolution, K classes.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from src.base import artifacts
from src.images import augmentation
from src.images.augmentation import View
from src.models.backbones import Backbone
from src.models.heads import Head, build_head, join
from src.models.weights import differences
from src.use.answering import LOGITS, PROBABILITIES

PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime")
AT_ONCE = 64  # images


class Whole(nn.Module):
    """Images uint8 (N, 3, S, S) -> probabilities and logits float32 (N, K), of which the logits are over temperature.

    Resampling is linear in each axis, so that it is two products with one matrix, which every runtime has and which
    takes a hundredth of the network's time. What `augmentation.render` does to single columns of pixels is that matrix.
    """

    matrix: Tensor
    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, network: nn.Module, view: View, *, side: int, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("matrix", resampling(view, side))
        self.register_buffer("mean", torch.tensor(view.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(view.std).view(1, 3, 1, 1))
        self.register_buffer("temperature", torch.tensor(temperature))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = (images.float() / 255 - self.mean) / self.std  # (N, 3, S, S)
        logits = self.network(self.matrix @ pixels @ self.matrix.T) / self.temperature
        return logits.softmax(1), logits


def resampling(view: View, side: int) -> Tensor:
    """What brings an axis of S pixels to R, float32 (R, S): column j is what becomes of a lit pixel j."""
    plain = View(resolution=view.resolution, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=view.interpolation)
    columns = []
    for lit in torch.eye(side, dtype=torch.uint8).mul(255).split(AT_ONCE):
        images = lit.view(len(lit), 1, 1, side).expand(-1, 3, side, -1)  # alike in each row
        columns.append(augmentation.render(images, plain)[:, 0, 0])
    return torch.cat(columns).T.contiguous()


def logits_of(
    network: nn.Module, images: Tensor, view: View, advance: Callable[[int], None] = lambda count: None
) -> NDArray[np.float32]:
    """What the study's own path makes of images (N, 3, S, S): rendered, then the network, float32 (N, K)."""
    found = []
    with torch.inference_mode():
        for batch in images.split(AT_ONCE):
            found.append(network(augmentation.render(batch, view)).numpy())
            advance(len(batch))
    return np.concatenate(found)


def restored(backbone: Backbone, head: Head, state: Mapping[str, Tensor], *, classes: int) -> nn.Sequential:
    """The fine-tuned network, images (N, 3, R, R) -> logits (N, K), frozen, on the CPU in float32.

    Raises:
        ValueError: `state` is of another network, which it cannot be once DVC made both.
    """
    built = build_head(head.classifier, width=backbone.width, classes=classes, dropout=head.dropout, seed=0)
    network = join(backbone.network, built)
    if problems := differences(dict(state), network.state_dict()):
        raise ValueError(f"models/finetuned.pt is of another network: {' | '.join(problems)}; `dvc repro` mends it")
    network.load_state_dict(dict(state))
    return network.eval().requires_grad_(False)


def runner(whole: Whole) -> Callable[[NDArray[np.uint8]], object]:
    """`whole` in torch, for images that are an array."""

    def run(images: NDArray[np.uint8]) -> object:
        with torch.inference_mode():
            return whole(torch.from_numpy(images))

    return run


def to_onnx(whole: Whole, side: int) -> onnx.ModelProto:
    """`whole` as ONNX, for any number of images; equal weights give equal bytes, whoever exports them.

    Raises:
        ValueError: the exporter cannot express it.
    """
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations inside the exporter
            program: Any = torch.onnx.export(
                whole.eval(),
                (images,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("images")},),
                input_names=["images"],
                output_names=[PROBABILITIES, LOGITS],
                verbose=False,
            )
    except OnnxExporterError as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ValueError(f"the network cannot be exported to ONNX: {reason}; allowed: another backbone.name") from None
    model: onnx.ModelProto = program.model_proto
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]  # paths and lines of code on the machine that exported it
    return model


def described(model: onnx.ModelProto, facts: Mapping[str, Any]) -> bytes:
    """The file of `model`, with `facts` in its metadata: texts as they are, all else as JSON."""
    texts = {
        name: fact if isinstance(fact, str) else json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()
    }
    onnx.helper.set_model_props(model, texts)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def write(content: bytes, path: str) -> None:
    with artifacts.replacing(path) as file:
        file.write(content)


def versions() -> dict[str, str]:
    """Of the packages that make a model what it is."""
    return {name: metadata.version(name) for name in PACKAGES}
