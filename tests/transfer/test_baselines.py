"""Baselines: nearest mean and nearest neighbours against naive references, and an untrained head that knows nothing."""

import math
import statistics

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from src.models.heads import build_head
from src.training.metrics import score
from src.transfer import baselines
from src.transfer.feature_batches import FeatureBatches

CLASSES = 4


def cloud(count: int, seed: int, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Float16 features in 6 dimensions, of lengths that differ, and labels; not sorted by class."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=draws)
    centres = F.one_hot(labels, 6).float() + noise * torch.randn(count, 6, generator=draws)
    return (centres * (0.5 + 3 * torch.rand(count, 1, generator=draws))).half(), labels


def splits(**counts: int) -> dict[str, FeatureBatches]:
    found = {}
    for seed, (name, count) in enumerate(counts.items()):
        features, labels = cloud(count, seed, noise=0.4)
        found[name] = FeatureBatches(features=features.unsqueeze(0), labels=labels, classes=tuple("abcd"), seed=0)
    return found


def cosine(first: Tensor, second: Tensor) -> float:
    a, b = first.double().tolist(), second.double().tolist()
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def naive_votes(
    references: Tensor, labels: Tensor, query: Tensor, k: int, *, without: int | None = None
) -> list[float]:
    """The share of votes of each class for one query, by loops."""
    ranked = sorted(
        (
            (cosine(query, reference), int(label))
            for i, (reference, label) in enumerate(zip(references, labels, strict=True))
            if i != without
        ),
        reverse=True,
    )[:k]
    votes = [sum(math.exp(similarity / 0.07) for similarity, label in ranked if label == c) for c in range(CLASSES)]
    return [vote / sum(votes) for vote in votes]


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_nearest_neighbours_share_their_votes_as_in_a_loop_over_images(neighbours: int) -> None:
    references, labels = cloud(60, 0)
    queries, _ = cloud(25, 1)
    logits = baselines.nearest_neighbours(references, labels, queries, classes=CLASSES, neighbours=neighbours)
    expected = torch.tensor([naive_votes(references, labels, query, neighbours) for query in queries])
    torch.testing.assert_close(logits.exp(), expected.clamp_min(1e-6), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("neighbours", [1, 7])
def test_nearest_neighbours_answer_as_scikit_learns_with_the_same_weights(neighbours: int) -> None:
    references, labels = cloud(300, 2)
    queries, _ = cloud(200, 3)
    model = KNeighborsClassifier(
        neighbours,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: torch.exp((1 - torch.as_tensor(distance)) / 0.07).numpy(),
    )
    expected = model.fit(references.double().numpy(), labels.numpy()).predict(queries.double().numpy())
    logits = baselines.nearest_neighbours(references, labels, queries, classes=CLASSES, neighbours=neighbours)
    assert logits.argmax(1).tolist() == expected.tolist()


def test_an_image_left_out_does_not_vote_for_itself() -> None:
    features, labels = cloud(40, 4)
    logits = baselines.nearest_neighbours(features, labels, features, classes=CLASSES, neighbours=3, leave_one_out=True)
    expected = [naive_votes(features, labels, query, 3, without=i) for i, query in enumerate(features)]
    torch.testing.assert_close(logits.exp(), torch.tensor(expected).clamp_min(1e-6), atol=2e-4, rtol=1e-3)
    itself = baselines.nearest_neighbours(features, labels, features, classes=CLASSES, neighbours=1)
    assert itself.argmax(1).tolist() == labels.tolist(), "with itself among the references, every image finds itself"


def test_leaving_out_works_beyond_the_first_chunk_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = cloud(50, 5)
    whole = baselines.nearest_neighbours(features, labels, features, classes=CLASSES, neighbours=4, leave_one_out=True)
    means = baselines.nearest_mean(features, labels, features, classes=CLASSES)
    monkeypatch.setattr(baselines, "CHUNK", 7)
    parts = baselines.nearest_neighbours(features, labels, features, classes=CLASSES, neighbours=4, leave_one_out=True)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(baselines.nearest_mean(features, labels, features, classes=CLASSES), means)


def test_more_neighbours_than_references_means_all_of_them() -> None:
    references, labels = cloud(9, 6)
    all_of_them = baselines.nearest_neighbours(references, labels, references, classes=CLASSES, neighbours=9)
    asked_for_more = baselines.nearest_neighbours(references, labels, references, classes=CLASSES, neighbours=500)
    assert torch.equal(all_of_them, asked_for_more)


def test_nearest_mean_is_the_cosine_to_each_classs_mean_direction() -> None:
    references, labels = cloud(60, 7)
    queries, _ = cloud(25, 8)
    means = []
    for label in range(CLASSES):
        members = [
            row.double() / row.double().norm() for row, own in zip(references, labels, strict=True) if own == label
        ]
        means.append(torch.stack(members).mean(0))
    expected = torch.tensor([[cosine(query, mean) for mean in means] for query in queries])
    logits = baselines.nearest_mean(references, labels, queries, classes=CLASSES)
    torch.testing.assert_close(logits, expected.float(), atol=1e-5, rtol=1e-4)


def test_classification_covers_every_split_and_leaves_train_images_out_of_their_own_votes() -> None:
    data = splits(train=120, val=40, test=50)
    logits = baselines.classify(data, neighbours=5, seed=0)
    assert {method: {name: tuple(rows.shape) for name, rows in by.items()} for method, by in logits.items()} == {
        method: {"train": (120, 4), "val": (40, 4), "test": (50, 4)}
        for method in ("untrained", "nearest_mean", "nearest_neighbours")
    }
    features, labels = data["train"].features[0], data["train"].labels
    alone = baselines.nearest_neighbours(features, labels, features, classes=4, neighbours=5, leave_one_out=True)
    assert torch.equal(logits["nearest_neighbours"]["train"], alone)
    assert score(logits["nearest_mean"]["test"], data["test"].labels)["accuracy"] > 0.7


def test_scores_are_of_these_logits_and_the_untrained_head_is_averaged_over_seeds() -> None:
    data = splits(train=120, val=40, test=50)
    logits = baselines.classify(data, neighbours=5, seed=3)
    scores = baselines.evaluate(data, logits, head_seeds=4, seed=3)
    for name in ("val", "test"):
        heads = [build_head("simple", width=6, classes=4, dropout=0.0, seed=seed).eval() for seed in (3, 4, 5, 6)]
        with torch.no_grad():
            found = [score(head(data[name].features[0].float()), data[name].labels)["accuracy"] for head in heads]
        assert scores[name]["untrained"] == pytest.approx(statistics.fmean(found))
        assert scores[name]["untrained_std"] == pytest.approx(statistics.stdev(found))
        for method in ("nearest_mean", "nearest_neighbours"):
            assert scores[name][method] == score(logits[method][name], data[name].labels)["accuracy"]
    assert set(scores) == {"val", "test"}


def test_an_untrained_head_is_about_chance() -> None:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(2000) % CLASSES
    noise = FeatureBatches(
        features=torch.randn(1, 2000, 16, generator=draws).half(), labels=labels, classes=tuple("abcd"), seed=0
    )
    data = {"train": noise, "val": noise, "test": noise}
    scores = baselines.evaluate(data, baselines.classify(data, neighbours=1, seed=0), head_seeds=5, seed=0)
    assert abs(scores["test"]["untrained"] - 1 / CLASSES) < 4 * math.sqrt(0.25 * 0.75 / 2000)
