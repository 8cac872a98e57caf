"""What bounds a training step on an accelerator: bytes that it moves per image against the bandwidth of the memory.

EfficientNet has few products per byte, so a GPU waits for its memory long before its arithmetic is busy.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks import timing
from src.training.precision import autocast

COPIED = 2**30  # bytes, many times what a cache holds


class Traffic(TorchDispatchMode):
    """Counts the bytes of what every operation reads and writes: its tensors, each in and out once; views are free.

    It is what an eager step moves where no cache helps; a compiled one fuses operations, and moves less.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(
                value.nbytes for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)
            )
        return result


def bytes_per_image(network: nn.Module, inputs: Tensor, labels: Tensor, precision: str) -> float:
    """Bytes of one forward and backward pass; the optimizer's, which a batch shares, are left out."""
    with Traffic() as traffic:
        with autocast(precision, inputs.device):
            loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
    return traffic.bytes / len(inputs)


def bandwidth(device: torch.device, size: int = COPIED) -> float:
    """Bytes/s that a copy within the device's memory reads and writes, the best of some."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds: float = min(timing.timed(lambda: target.copy_(source)) for _ in range(10))
    return 2 * size / seconds
