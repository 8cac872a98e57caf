"""What a network costs: parameters, multiply-adds, activations, and, measured, images per second and memory.

N images, R resolution, K classes. Multiply-adds are counted as Tan & Le, arXiv:1905.11946, and torchvision count them:
products in convolutions and linear layers alone, for one image in evaluation mode.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from thop.profile import profile, register_hooks
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode

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


def products(network: nn.Module, resolution: int) -> int:
    """Multiply-adds of one image (3, R, R), those within attention among them, by torch's own counter.

    As `multiply_adds` of a network without attention; for any network, whatever its layers are.
    """
    copied = _without_data(network).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copied(_image(resolution))
    return int(counter.get_total_flops()) // 2


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
