"""Near copies: neighbours against every pair computed one by one, and what counts as a copy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from src.evidence import near_copies
from src.evidence.near_copies import ALIKE, MOST, NearCopies, find, neighbours, threshold, unordered
from tests.evidence.test_likeness import photos


def nothing(_: int) -> None: ...


def clouds(count: int, width: int) -> Tensor:
    draws = torch.Generator().manual_seed(count)
    return (torch.rand(count, width, generator=draws) * torch.rand(width, generator=draws) + 3).half()


@pytest.mark.parametrize("count", [50, 9, 3, 2])
def test_neighbours_are_those_of_every_pair_computed_one_by_one(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of 16 images, of which the last is not full."""
    monkeypatch.setattr(near_copies, "CHUNK", 16)
    features = clouds(count, 20)
    told = list[int]()
    found = neighbours(features, advance=told.append)
    rows = features.double().numpy()
    rows = rows - rows.mean(axis=0)
    for image in range(count):
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(rows[image])
        cosines = rows @ rows[image] / norms
        expected = [other for other in np.argsort(-cosines) if other != image][:8]
        assert found[image].tolist() == expected
    assert sum(told) == count


def test_wide_features_are_searched_in_their_main_directions_and_copies_are_still_first() -> None:
    features = clouds(600, 400)
    features[300:] = (features[:300].float() + 0.01 * torch.randn(300, 400, generator=torch.Generator())).half()
    found = neighbours(features, advance=nothing)
    assert found[:300, 0].tolist() == list(range(300, 600))


def test_each_pair_comes_once() -> None:
    first, second = unordered(torch.tensor([[1, 2], [0, 2], [3, 0], [2, 1]]))
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]


def planted(count: int, copies: int) -> tuple[Tensor, Tensor]:
    """Images of which the last `copies` repeat the first ones, darker and with noise, and features of both."""
    images, draws = photos(count), torch.Generator().manual_seed(1)
    noise = 3 * torch.randn(copies, 3, 32, 32, generator=draws)
    near = (images[:copies] * 0.8 + noise + 8).clamp(0, 255).round().byte()
    features = clouds(count, 64)
    return torch.cat([images, near]), torch.cat([features, (features[:copies].float() * 1.01).half()])


def test_planted_near_copies_of_photographs_are_found_and_no_others() -> None:
    images, features = planted(200, 30)
    found = find(features, images, advance=nothing)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == {(image, 200 + image) for image in range(30)}
    assert found.threshold == ALIKE
    assert found.likeness.tolist() == sorted(found.likeness.tolist(), reverse=True)
    scenes = found.scenes(230)
    assert scenes[200:].tolist() == list(range(30))
    assert scenes[:200].tolist() == list(range(200))


def test_the_same_pixels_are_a_copy_even_where_they_are_flat() -> None:
    images, features = planted(40, 1)
    images[7] = images[-1] = 90
    features[-1] = features[7]
    found = find(features, images, advance=nothing)
    assert (found.first.tolist(), found.second.tolist()) == ([7], [40])
    assert found.likeness.tolist() == [1.0]


def test_nothing_is_a_copy_where_there_is_nothing_else() -> None:
    found = find(clouds(2, 8), photos(2), advance=nothing)
    assert len(found.first) == 0
    assert found.scenes(2).tolist() == [0, 1]


def test_a_row_of_pairs_is_one_scene() -> None:
    pairs = {"first": torch.tensor([1, 3, 0]), "second": torch.tensor([3, 5, 2])}
    found = NearCopies(**pairs, cosine=torch.ones(3), likeness=torch.ones(3), threshold=ALIKE)
    assert found.scenes(7).tolist() == [0, 1, 0, 1, 4, 1, 6]


def test_the_threshold_rises_where_neighbours_are_alike_anyway_and_not_by_copies_among_them() -> None:
    usual = torch.tanh(0.2 + 0.1 * torch.randn(3000, generator=torch.Generator().manual_seed(0)))
    assert threshold(usual) == ALIKE
    alike = torch.tanh(1.0 + 0.3 * torch.randn(3000, generator=torch.Generator().manual_seed(0)))
    assert threshold(alike) == pytest.approx(np.tanh(1.0 + 6 * 0.6745 * 0.3), abs=0.01)
    assert threshold(torch.cat([usual, torch.ones(600)])) == ALIKE
    assert threshold(torch.ones(10)) == pytest.approx(MOST)
    assert threshold(torch.empty(0)) == ALIKE
