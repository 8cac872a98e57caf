"""What a network costs: parameters, multiply-adds, activations, and, measured, images per second and memory.

N images, R resolution, K classes. Multiply-adds are counted as Tan & Le, arXiv:1905.11946, and torchvision count them:
products in convolutions and linear layers alone, for one image in evaluation mode.
"""

import copy
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from thop.profile import profile, register_hooks
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from src.precision import autocast, loss_scaler
from src.steps import SMALLEST_PART, is_out_of_memory

CHANNELS = 3


def parameters(network: nn.Module) -> int:
    """Trained and frozen ones; a parameter that two layers share counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_adds(network: nn.Module, resolution: int) -> int:
    """Multiply-adds of one image (3, R, R). `network` stays as it is, whatever its mode and device.

    thop's own rules would add 4 operations per element that a BatchNorm sees and those of pooling (6 to 8 % on
    EfficientNets, 0.6 % on ResNets), and count no subclass of a convolution. A layer must have one parent: thop counts
    one that two modules hold more often than it runs.
    """
    rules: dict[type[nn.Module], Callable[..., None]] = dict.fromkeys(register_hooks, _count_nothing)
    rules |= {type(module): _count_products for module in network.modules() if isinstance(module, _ConvNd | nn.Linear)}
    total, _ = profile(_without_data(network), inputs=(_image(resolution),), custom_ops=rules, verbose=False)
    return int(total)  # a float64 that has only ever held integers below 2**53


def activations(network: nn.Module, resolution: int) -> int:
    """Elements of all convolutions' outputs for one image (Radosavovic et al., arXiv:2003.13678)."""
    total = 0

    def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel()

    copied = _without_data(network).eval()
    for module in copied.modules():
        if isinstance(module, _ConvNd):
            module.register_forward_hook(add)
    with torch.no_grad():
        copied(_image(resolution))
    return total


def describe(network: nn.Module, resolution: int) -> dict[str, int]:
    """Everything that can be counted, for metrics: it depends on no machine."""
    return {
        "parameters": parameters(network),
        "multiply_adds": multiply_adds(network, resolution),
        "activations": activations(network, resolution),
    }


def measure(
    network: nn.Module,
    resolution: int,
    *,
    batch_size: int,
    classes: int,
    device: torch.device,
    precision: str = "float32",
    steps: int = 5,
) -> dict[str, float]:
    """Speed and memory on `device` with random images, which are there already: no loading, no augmentation.

    A step of training is forward, cross entropy, backward and plain SGD. `network`, images (N, 3, R, R) -> logits
    (N, K), and the random state stay as they are. Out of memory, the batch is halved until it fits.

    Returns:
        training_images_per_second, inference_images_per_second: over `steps` steps after a first one left out;
        peak_memory_mb: MiB, on CUDA allocated on the device with all else that lives there, otherwise the highest that
            this process ever had; measured_batch_size: what did fit.

    Raises:
        RuntimeError: not even 2 images fit.
    """
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):  # dropout and stochastic depth draw
        copied = copy.deepcopy(network).to(device)
        while True:
            try:
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                images = torch.randn(batch_size, CHANNELS, resolution, resolution, device=device)
                labels = torch.randint(classes, (batch_size,), device=device)
                rates = _rates(copied, images, labels, precision=precision, steps=steps)
                return {**rates, "peak_memory_mb": round(_peak_memory(device)), "measured_batch_size": batch_size}
            except RuntimeError as problem:
                half = -(-batch_size // 2)
                if not is_out_of_memory(problem) or half < SMALLEST_PART:
                    raise
            batch_size = half
            copied.zero_grad(set_to_none=True)
            if device.type != "cpu":
                torch.accelerator.empty_cache()


def _rates(network: nn.Module, images: Tensor, labels: Tensor, *, precision: str, steps: int) -> dict[str, float]:
    device = images.device
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    scaler = loss_scaler(precision, device)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(precision, device):
            loss = F.cross_entropy(network(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    def infer() -> None:
        with torch.inference_mode(), autocast(precision, device):
            network(images)

    images_seen = len(images) * steps
    network.train()
    training = images_seen / _seconds(train, device, steps)
    network.eval()
    inference = images_seen / _seconds(infer, device, steps)
    return {
        "training_images_per_second": round(training, 1),
        "inference_images_per_second": round(inference, 1),
    }


def _seconds(step: Callable[[], None], device: torch.device, steps: int) -> float:
    """Of `steps` steps after a first one, which allocates and tunes; an accelerator queues them as in real training."""
    step()
    _wait(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _without_data(network: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes but no values: no memory, no arithmetic, and none of thop's traces left."""
    shapes: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    shapes |= {id(value): nn.Parameter(value.detach().to("meta")) for value in network.parameters()}
    return copy.deepcopy(network, shapes)


def _image(resolution: int) -> Tensor:
    return torch.empty(1, CHANNELS, resolution, resolution, device="meta")


def _count_nothing(_module: nn.Module, _inputs: Any, _output: Any) -> None:
    """A rule of thop for layers whose operations the paper does not count."""


def _count_products(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """A rule of thop: each element on the many-to-one side meets one filter, as wide as its group of channels."""
    elements = inputs[0] if isinstance(module, _ConvTransposeNd) else output
    module.total_ops += elements.numel() * module.weight[0].numel()
