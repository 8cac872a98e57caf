"""Images in host memory or on the device: the same bits, and what belongs where."""

import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.base import splits
from src.base.splits import Split
from src.images import image_batches
from src.images.image_batches import ImageBatches
from tests.builders.small import EVERYTHING, OFF, augment, images, noise, raw

# The `meta` device stands for any that is not the CPU: a tensor on it has a place and a shape, and mixes with no other.
ELSEWHERE = torch.device("meta")


def pair(count: int = 23) -> tuple[ImageBatches, ImageBatches]:
    """The same images in host memory and on the device."""
    host, resident = (images(count, augment=augment(**EVERYTHING), resolution=12, host=host) for host in (True, False))
    assert (host.host, resident.host) == (True, False)
    return host, resident


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("start", [0, 1, 5, 6])
@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_from_host_memory_is_bit_equal_to_one_from_the_device(epoch: int, start: int) -> None:
    host, resident = (list(source.shuffled(epoch, 4, start=start)) for source in pair())
    assert len(host) == 6 - start
    for column in (0, 1):
        assert same([batch[column] for batch in host], [batch[column] for batch in resident])


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_views_from_host_memory_are_bit_equal_to_those_from_the_device(batch_size: int) -> None:
    host, resident = pair()
    assert same(list(host.clean(batch_size)), list(resident.clean(batch_size)))
    assert same(list(host.augmented(2, batch_size)), list(resident.augmented(2, batch_size)))


def test_processes_read_the_same_parts_from_host_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "1")
    host, resident = pair()
    assert same([inputs for inputs, _ in host.shuffled(1, 8)], [inputs for inputs, _ in resident.shuffled(1, 8)])
    assert same(list(host.clean(4)), list(resident.clean(4)))
    assert sum(map(len, host.clean(4))) == 8


def test_an_epoch_that_is_left_early_leaves_no_thread() -> None:
    before = threading.active_count()
    for epoch in (pair()[0].shuffled(1, 4), pair()[0].clean(4), pair()[0].augmented(1, 4)):
        next(epoch)
        assert threading.active_count() == before + 1
        epoch.close()
        assert threading.active_count() == before


def test_a_batch_that_cannot_be_rendered_leaves_no_thread() -> None:
    """While its error is handled, too: the traceback holds the iterator, and with it what it has not closed."""
    before = threading.active_count()
    broken = images(23, augment=augment(**EVERYTHING), resolution=0, host=True)
    with pytest.raises(RuntimeError) as error:
        list(broken.shuffled(1, 4))
    assert threading.active_count() == before
    assert error.value.__traceback__ is not None


@pytest.mark.parametrize("host", [True, False])
def test_inputs_and_labels_are_on_the_device_wherever_the_images_are(host: bool) -> None:
    source = images(23, augment=augment(**EVERYTHING), resolution=12, device="meta", host=host)
    assert (source.images.device.type, source.labels.device) == ("cpu" if host else "meta", ELSEWHERE)
    batches = list(source.shuffled(1, 4)) + [(inputs, inputs) for inputs in source.clean(4)]
    batches += [(inputs, inputs) for inputs in source.augmented(1, 4)]
    assert len(batches) == 3 * 6
    for inputs, labels in batches:
        assert (inputs.device, labels.device) == (ELSEWHERE, ELSEWHERE)
        assert (inputs.shape[1:], len(inputs)) == ((3, 12, 12), len(labels))


def test_images_stay_in_host_memory_where_they_take_more_than_half_of_a_gpus_free_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = noise(10, 8)
    for free, expected in ((2 * stored.nbytes, True), (2 * stored.nbytes - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        assert image_batches.fits(stored, torch.device("cuda")) == expected
        assert image_batches.fits(stored, torch.device("cpu"))
        assert image_batches.fits(stored, torch.device("mps"))


def stored_split(path: Path) -> Split:
    splits.save_split(Split(images=noise(5, 8), labels=torch.arange(5) % 2, classes=("a", "b")), path)
    return splits.load_split(path)


def test_images_in_host_memory_are_those_of_the_split_and_no_copy(tmp_path: Path) -> None:
    split = stored_split(tmp_path / "train.pt")
    source = ImageBatches.of(split, ELSEWHERE, view=raw(8), augment=OFF, seed=0, host=True)
    assert source.images.data_ptr() == split.images.data_ptr()


def test_what_is_written_into_loaded_images_does_not_reach_their_file(tmp_path: Path) -> None:
    path = tmp_path / "train.pt"
    stored_split(path).images.zero_()
    assert torch.equal(splits.load_split(path).images, noise(5, 8))


def test_reading_batches_leaves_the_stored_images_as_they_were() -> None:
    for source in pair():
        before = source.images.clone()
        list(source.shuffled(1, 4))
        list(source.clean(4))
        list(source.augmented(1, 4))
        assert torch.equal(source.images, before)
