"""Images from host memory, gathered and copied to the device ahead of their use. N images, H x H stored pixels."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch
from torch import Tensor

AHEAD = 2  # batches


def prefetch(images: Tensor, parts: Iterable[Tensor], device: torch.device) -> Generator[Tensor, None, None]:
    """`images[part]` on `device` for each of `parts`, the next ones gathered by a thread while one is in use.

    For CUDA they go through pinned memory, and the copy runs beside the computation, on a stream of its own. The thread
    ends with the iterator, also when that is closed early; what goes wrong in it is raised here.

    Args:
        images: uint8 (N, 3, H, H) on the CPU, memory-mapped or not.
        parts: indices of each batch, int64 on the CPU.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    upcoming = (thread.submit(_fetch, images, part, device, stream) for part in parts)
    try:
        waiting = deque(islice(upcoming, AHEAD))
        while waiting:
            batch, copied = waiting.popleft().result()
            waiting.extend(islice(upcoming, 1))
            if copied is not None:
                consumer = torch.cuda.current_stream(device)
                consumer.wait_event(copied)
                batch.record_stream(consumer)  # else its memory is free for the next copy before the consumer is done
            yield batch.to(device)
    finally:
        thread.shutdown(cancel_futures=True)


def _fetch(
    images: Tensor, part: Tensor, device: torch.device, stream: torch.cuda.Stream | None
) -> tuple[Tensor, torch.cuda.Event | None]:
    """A batch, and on CUDA the event after which it is whole."""
    if stream is None:
        return _gather(images, part, pinned=False), None
    with torch.cuda.stream(stream):  # makes the stream's device this thread's, too: pinned memory belongs to one
        return _gather(images, part, pinned=True).to(device, non_blocking=True), stream.record_event()


def _gather(images: Tensor, part: Tensor, *, pinned: bool) -> Tensor:
    gathered = torch.empty(len(part), *images.shape[1:], dtype=images.dtype, pin_memory=pinned)
    return torch.index_select(images, 0, part, out=gathered)
