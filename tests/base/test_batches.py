"""Batches: an epoch visits every image once, in an order that seed and epoch alone decide; so does every other draw."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from src.base import batches
from src.base.randomness import generator, seed_of
from src.images import augmentation
from src.images.image_batches import ImageBatches
from src.transfer.feature_batches import FeatureBatches
from tests.builders.small import EVERYTHING, augment, images


def image_batches(seed: int = 3) -> ImageBatches:
    return images(11, augment=augment(**EVERYTHING), resolution=12, seed=seed)


def feature_batches(views: int = 3, count: int = 10) -> FeatureBatches:
    """Features that say which view and image they belong to: (view, image)."""
    features = torch.cartesian_prod(torch.arange(views), torch.arange(count)).view(views, count, 2).half()
    return FeatureBatches(features=features, labels=torch.arange(count) % 4, classes=tuple("abcd"), seed=5)


SOURCES = pytest.mark.parametrize("source", [image_batches(), feature_batches()], ids=["images", "features"])


class Calls(TorchFunctionMode):
    """Counts the calls of each torch function."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.of[function.__name__] += 1
        return function(*args, **(kwargs or {}))


def by_rank(monkeypatch: pytest.MonkeyPatch, processes: int, read: Callable[[], list[Any]]) -> list[list[Any]]:
    """What each of so many processes reads; torchrun tells them apart by these variables."""
    found = []
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        found.append(read())
    monkeypatch.undo()
    return found


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def epoch_of(source: ImageBatches | FeatureBatches, epoch: int, batch_size: int = 4) -> tuple[Tensor, Tensor]:
    inputs, labels = zip(*source.shuffled(epoch, batch_size), strict=True)
    return torch.cat(inputs), torch.cat(labels)


@given(count=st.integers(1, 600), batch_size=st.integers(2, 600))
@example(count=5, batch_size=2)
@example(count=1, batch_size=4)
def test_an_epoch_is_in_batches_of_almost_equal_size_none_of_which_is_a_lone_image(count: int, batch_size: int) -> None:
    """As few as `batch_size` allows, or, of an odd number of images in pairs, one fewer, with three in one of them."""
    sizes = batches.batch_sizes(count, batch_size)
    odd_pairs = batch_size == 2 and count % 2 == 1 and count > 1
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(count, 2)
    assert max(sizes) <= batch_size + odd_pairs
    assert len(sizes) == -(-count // batch_size) - odd_pairs


@pytest.mark.parametrize(("count", "batch_size"), [(1, 4), (5, 2), (11, 4), (5, 100), (513, 512)])
def test_a_shuffle_is_a_permutation_in_such_batches(count: int, batch_size: int) -> None:
    parts = batches.shuffle(count, batch_size, seed=0, epoch=1)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(count))
    assert [len(part) for part in parts] == batches.batch_sizes(count, batch_size)


def test_a_shuffle_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(batches.shuffle(50, 8, seed, epoch)).tolist()

    first = order(0, 1)
    torch.manual_seed(99)
    assert order(0, 1) == first
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6
    assert torch.cat(batches.shuffle(50, 16, 0, 1)).tolist() == first, "the batch size changes the order"


def test_epochs_of_features_cycle_through_the_views_and_start_with_the_clean_one() -> None:
    source = feature_batches(views=3)
    assert [epoch_of(source, epoch)[0][:, 0].unique().tolist() for epoch in range(1, 6)] == [[0], [1], [2], [0], [1]]


def test_features_keep_their_labels_when_shuffled() -> None:
    source = feature_batches()
    inputs, labels = epoch_of(source, 2)
    assert torch.equal(labels, source.labels[inputs[:, 1].long()])
    assert torch.equal(inputs[:, 1].sort().values, torch.arange(10).float())
    assert inputs.dtype == torch.float32


def test_clean_features_are_the_first_view_in_stored_order() -> None:
    clean = torch.cat(list(feature_batches().clean(3)))
    assert torch.equal(clean, torch.stack([torch.zeros(10), torch.arange(10)], dim=1))
    assert clean.dtype == torch.float32


def test_clean_images_are_rendered_in_stored_order_without_augmentation() -> None:
    source = image_batches()
    assert torch.equal(torch.cat(list(source.clean(4))), augmentation.render(source.images, source.view))


def test_shuffled_images_keep_their_labels_and_are_augmented_each_on_its_own() -> None:
    source = image_batches()
    inputs, labels = epoch_of(source, 1)
    order = torch.cat(batches.shuffle(11, 4, 3, 1))
    assert torch.equal(labels, source.labels[order])
    clean = augmentation.render(source.images, source.view)[order]
    assert bool(((inputs - clean).abs().amax((1, 2, 3)) > 0.01).all())


def test_an_images_augmentation_does_not_depend_on_the_batch_size() -> None:
    source = image_batches()
    assert torch.equal(epoch_of(source, 2, batch_size=3)[0], epoch_of(source, 2, batch_size=11)[0])
    assert torch.equal(*(torch.cat(list(source.augmented(1, size))) for size in (4, 7)))


def test_a_view_is_a_function_of_its_number_and_the_seed() -> None:
    def view(number: int, seed: int = 3) -> Tensor:
        return torch.cat(list(image_batches(seed=seed).augmented(number, 4)))

    first = view(1)
    torch.manual_seed(7)
    assert torch.equal(view(1), first)
    assert not torch.equal(view(2), first)
    assert not torch.equal(view(1, seed=4), first)


def test_each_epoch_augments_the_images_anew() -> None:
    source = image_batches()
    rows = [epoch_of(source, epoch)[0][torch.cat(batches.shuffle(11, 4, 3, epoch)).argsort()] for epoch in (1, 2)]
    assert bool(((rows[0] - rows[1]).abs().amax((1, 2, 3)) > 0.01).all())


@SOURCES
@pytest.mark.parametrize("start", range(5))
def test_an_epoch_goes_on_from_any_batch_with_the_same_bits(source: Any, start: int) -> None:
    whole, rest = list(source.shuffled(2, 3)), list(source.shuffled(2, 3, start=start))
    assert (len(whole), len(rest)) == (4, 4 - start)
    assert all(same(batch, again) for batch, again in zip(whole[start:], rest, strict=True))


@SOURCES
def test_the_batches_before_the_first_cost_nothing(source: Any) -> None:
    with Calls() as calls:
        assert len(list(source.shuffled(2, 3, start=3))) == 1
    assert calls.of["index_select"] == 1
    assert calls.of["grid_sample"] <= 1


def test_order_and_draws_travel_to_the_device_once_an_epoch_and_not_with_each_batch() -> None:
    """On an accelerator, each copy makes the host wait for all steps so far. `meta` stands for one: it has no data."""
    features = feature_batches(count=11)
    device = {"features": features.features.to("meta"), "labels": features.labels.to("meta")}
    of_images = images(11, augment=augment(**EVERYTHING), device="meta")
    for source, expected in ((replace(features, **device), 1), (of_images, 3)):  # for images, of labels and draws, too
        copies = []
        for batch_size in (3, 11):
            with Calls() as calls:
                assert len(list(source.shuffled(1, batch_size))) == -(-11 // batch_size)
            copies.append(calls.of["to"])
        assert copies == [expected, expected]


@SOURCES
@pytest.mark.parametrize("processes", [2, 3])
def test_the_processes_parts_of_each_batch_are_the_batch(
    source: Any, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(source.shuffled(1, 4, start=1))
    parts = by_rank(monkeypatch, processes, lambda: list(source.shuffled(1, 4, start=1)))
    assert len(whole) == 2
    for number, batch in enumerate(whole):
        own = [of_rank[number] for of_rank in parts]
        assert same(batch, [torch.cat(column) for column in zip(*own, strict=True)])
        sizes = [len(labels) for _, labels in own]
        assert max(sizes) - min(sizes) <= 1
    assert all(len(of_rank) == len(whole) for of_rank in parts)


@SOURCES
@pytest.mark.parametrize("processes", [2, 3, 12])
def test_the_processes_parts_of_a_split_are_the_split_in_stored_order(
    source: Any, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more processes than images, too: the last ones then have none."""
    parts = by_rank(monkeypatch, processes, lambda: list(source.clean(2)))
    assert torch.equal(torch.cat([batch for of_rank in parts for batch in of_rank]), torch.cat(list(source.clean(11))))
    sizes = [sum(map(len, of_rank)) for of_rank in parts]
    assert max(sizes) - min(sizes) <= 1


def test_every_process_sees_all_of_a_numbered_view(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(image_batches().augmented(1, 4))
    assert all(same(view, whole) for view in by_rank(monkeypatch, 2, lambda: list(image_batches().augmented(1, 4))))


def test_reading_batches_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    epoch_of(image_batches(), 1)
    epoch_of(feature_batches(), 1)
    list(image_batches().augmented(1, 4))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_is_the_same_on_every_machine_and_differs_by_purpose() -> None:
    """Pinned: another value would change the results of every study."""
    assert seed_of(0, "shuffle", 1) == 5559642042051214272
    seeds = {
        seed_of(*purpose) for purpose in ((0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), (0, "a"), ("0", "a", 1))
    }
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_starts_at_the_same_point_every_time() -> None:
    assert torch.equal(torch.rand(5, generator=generator(1, "x")), torch.rand(5, generator=generator(1, "x")))
    assert not torch.equal(torch.rand(5, generator=generator(1, "x")), torch.rand(5, generator=generator(2, "x")))
