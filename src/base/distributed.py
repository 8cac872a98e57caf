"""Many processes as one training run, as torchrun starts them. With a single process, everything here is the identity.

Gradients are summed by one call on one flat tensor instead of torch's DistributedDataParallel: the sum is exact for
parts of unequal size, holds while blocks unfreeze, and a batch that is tried again in smaller parts confuses nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from src.base.ranks import leads as leads
from src.base.ranks import processes as processes
from src.base.ranks import rank as rank


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Join the processes that torchrun started, for the length of the block; does nothing where it started none."""
    if processes() == 1:
        yield
        return
    cuda = device.type == "cuda"
    dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    yield
    dist.destroy_process_group()  # not after an error: the others would be waited for, and torchrun ends them


def own_part(values: Tensor) -> Tensor:
    """This process's share of `values` along their first dimension; the shares differ by at most one."""
    return values if processes() == 1 else values.tensor_split(processes())[rank()]


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each of `tensors` (one dtype and device) by its sum over all processes."""
    if processes() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def gather(own: Tensor, count: int) -> Tensor:
    """All `count` rows, of which each process has the part that `own_part` gave it; no row twice, none padded."""
    if processes() == 1:
        return own
    rows = own.new_zeros(count, *own.shape[1:])
    own_part(rows).copy_(own)
    dist.all_reduce(rows)  # the sum with zeros
    return rows


def from_leader(value: Any) -> Any:
    """`value` as the leading process has it."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]
