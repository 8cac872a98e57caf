"""How fast a network is on this machine, and how much memory it takes. N images, R resolution, K classes."""

import copy
import resource
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.base.batches import SMALLEST_PART
from src.base.devices import is_out_of_memory
from src.models.cost import CHANNELS
from src.training.precision import autocast, loss_scaler


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
