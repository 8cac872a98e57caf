"""What runs a frozen network over many images: torch, or ONNX Runtime, which is faster on a CPU.

N images, R x R pixels, D feature width.
"""

import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from src.interface import console
from src.interface.params import Inference
from src.training.precision import autocast

PACKAGES = ("onnxruntime", "onnx", "onnxscript")
EXACT = ("auto", "float32")  # the precisions that ONNX Runtime has here
ALLOCATION = "Failed to allocate memory"  # in ONNX Runtime's message, whose exception is of no type of its own
AT_ONCE = 2**18  # pixels that ONNX Runtime is given: more leave the processor's caches, fewer leave cores idle
AGREEMENT = 1e-3  # of the largest feature: what two engines may differ by, the precision in which features are kept


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A frozen network that is ready to run.

    Attributes:
        name: of what runs it, with a version where it is not torch.
        run: images float32 (N, 3, R, R) -> features float (N, D), any N.
    """

    name: str
    run: Callable[[Tensor], Tensor]


def build_engine(network: nn.Module, settings: Inference, images: Tensor) -> Engine:
    """The engine that `settings` ask for: `auto` is ONNX Runtime in float32 on a CPU, and torch in all other cases.

    A network that cannot be exported, or that computes something else then, is said to be so and runs on torch.

    Args:
        network: frozen, on the device of `images`.
        images: float32 (N, 3, R, R), real ones: on them the engines are compared.

    Raises:
        ValueError: ONNX Runtime is asked for, or would be chosen, where it is not installed or cannot run.
    """
    exact, device = settings.precision in EXACT, images.device
    if settings.engine == "onnxruntime" and not (exact and device.type == "cpu"):
        raise ValueError(
            f"inference.engine: onnxruntime does not run in {settings.precision} on {device.type}; "
            "allowed: float32 (or auto) on a CPU, or torch"
        )
    plain = Engine(name="torch", run=_torch(network, settings.precision))
    if settings.engine == "torch" or not (exact and device.type == "cpu"):
        return plain
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ValueError(
            f"inference.engine: {settings.engine} needs {', '.join(missing)}, not installed (pip install -r "
            "requirements.txt); allowed without: torch"
        )
    return _onnxruntime(network, images) or plain


def _torch(network: nn.Module, precision: str) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(precision, images.device):
            found: Tensor = network(images)
        return found

    return run


def _onnxruntime(network: nn.Module, images: Tensor) -> Engine | None:
    """The network in ONNX Runtime, or None after a warning where it is not the same there."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail
    from torch.onnx.errors import OnnxExporterError

    try:
        model = _exported(network, images)
    except OnnxExporterError as problem:
        reason = " ".join(str(problem).split())[:200]
        console.warn(f"the network cannot be exported to ONNX ({reason}); features are computed by torch")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(images: Tensor) -> Tensor:
        some = images.split(max(1, AT_ONCE // (images.shape[2] * images.shape[3])))
        try:
            found = [session.run(None, {given.name: each.contiguous().numpy()})[0] for each in some]
            return torch.cat([torch.from_numpy(each) for each in found])
        except Fail as problem:
            if ALLOCATION not in str(problem):
                raise
        raise torch.OutOfMemoryError(f"ONNX Runtime has no memory for {len(images)} images")

    expected = _torch(network, "float32")(images)
    difference = (run(images) - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo().tiny)
    if not difference <= AGREEMENT:
        console.warn(
            f"ONNX Runtime's features differ from torch's by {difference:.1e} of the largest: torch computes them"
        )
        return None
    return Engine(name=f"onnxruntime {importlib.metadata.version('onnxruntime')}", run=run)


def _exported(network: nn.Module, images: Tensor) -> bytes:
    """The network as ONNX, for any number of images of this size."""
    batch = ({0: torch.export.Dim("images")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations inside the exporter
        program: Any = torch.onnx.export(network, (images[:2],), dynamo=True, dynamic_shapes=batch, verbose=False)
    content: bytes = program.model_proto.SerializeToString()
    return content
