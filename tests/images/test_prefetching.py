"""Prefetching: the batches that indexing gives, from a thread that is never far ahead and never outlives them."""

import threading
from collections.abc import Iterator
from queue import Queue
from typing import Any

import pytest
import torch
from torch import Tensor

from src.images.prefetching import AHEAD, prefetch
from tests.builders.small import noise

CPU = torch.device("cpu")
IMAGES = noise(23, 5)
PARTS = [torch.tensor(part, dtype=torch.int64) for part in ([3, 1, 4], [22, 5], [9], [], [2, 6, 5, 3, 5], [8, 9], [7])]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


class Noted:
    """Parts that count how many of them were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __iter__(self) -> Iterator[Tensor]:
        for part in PARTS:
            self.asked += 1
            yield part


@pytest.mark.parametrize("count", range(len(PARTS) + 1))
def test_every_batch_is_there_in_order_and_bit_equal_to_indexing(count: int) -> None:
    batches = list(prefetch(IMAGES, PARTS[:count], CPU))
    assert len(batches) == count
    assert all(torch.equal(batch, IMAGES[part]) for batch, part in zip(batches, PARTS, strict=False))
    assert all(batch.dtype == torch.uint8 for batch in batches)


def test_nothing_is_gathered_before_the_first_batch_is_asked_for_and_then_only_so_many_ahead() -> None:
    parts = Noted()
    batches = prefetch(IMAGES, parts, CPU)
    assert (parts.asked, threads()) == (0, [])
    for received in range(1, len(PARTS) + 1):
        next(batches)
        assert parts.asked == min(received + AHEAD, len(PARTS))


class Watched(Tensor):
    """Images that note which thread takes a batch of them."""

    takers: Queue[str]

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.index_select:
            cls.takers.put(threading.current_thread().name)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_the_next_batches_are_gathered_by_the_thread_while_one_is_in_use() -> None:
    Watched.takers = Queue()
    batches = prefetch(IMAGES.as_subclass(Watched), PARTS, CPU)
    next(batches)
    takers = [Watched.takers.get(timeout=30) for _ in range(1 + AHEAD)]  # without another call to the iterator
    assert takers == threads() * (1 + AHEAD)
    assert Watched.takers.empty()


def test_the_thread_ends_with_the_last_batch() -> None:
    batches = prefetch(IMAGES, PARTS, CPU)
    next(batches)
    assert len(threads()) == 1
    assert len(list(batches)) == len(PARTS) - 1
    assert threads() == []


def test_the_thread_ends_when_the_iterator_is_closed_or_forgotten() -> None:
    batches = prefetch(IMAGES, PARTS, CPU)
    next(batches)
    batches.close()
    assert threads() == []
    batches = prefetch(IMAGES, PARTS, CPU)
    next(batches)
    del batches
    assert threads() == []


def test_an_error_in_the_thread_is_raised_where_its_batch_would_be_and_ends_the_thread() -> None:
    batches = prefetch(IMAGES, [PARTS[0], torch.tensor([len(IMAGES)]), PARTS[1]], CPU)
    assert torch.equal(next(batches), IMAGES[PARTS[0]])
    with pytest.raises(IndexError, match="out of range"):
        next(batches)
    assert threads() == []
    assert list(batches) == []


def test_an_error_of_the_consumer_ends_the_thread() -> None:
    def consume() -> None:
        for _ in prefetch(IMAGES, PARTS, CPU):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert threads() == []


def test_batches_arrive_on_the_device_and_images_stay_where_they_are() -> None:
    """The `meta` device stands for any that is not the CPU: a tensor on it has a place and a shape."""
    batches = list(prefetch(IMAGES, PARTS, torch.device("meta")))
    assert [(batch.device.type, batch.shape) for batch in batches] == [("meta", IMAGES[part].shape) for part in PARTS]
