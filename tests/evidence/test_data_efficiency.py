"""Probes on few images: scikit-learn's as oracle, draws that add to one another, and odd datasets."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from src.evidence import data_efficiency
from src.evidence.data_efficiency import Known, count_probes, drawn, fit, measure, scale_of, sizes
from src.interface.params import DataEfficiency
from tests.transfer.test_probe import clouds

SETTINGS = DataEfficiency(images_per_class=(1, 3, 10, 1000), draws=3, penalties=(1.0, 0.1, 0.01))


def nothing(_: int) -> None: ...


def known(train: int = 160, *, classes: int = 4, width: int = 24) -> Known:
    """Of clouds that overlap; the same classes in all three splits."""
    parts = {
        split: clouds(count, classes=classes, width=width, seed=seed)
        for seed, (split, count) in enumerate({"train": train, "val": 80, "test": 200}.items())
    }
    return Known(
        features={split: features.half() for split, (features, _) in parts.items()},
        labels={split: labels for split, (_, labels) in parts.items()},
        classes=classes,
    )


def reference(made: Known, rows: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """What scikit-learn's probe names on val and on test, at the full width of the features."""
    taken = made.features["train"][rows].double()
    mean, variance = taken.mean(0), taken.var(0, correction=0)
    share = len(rows) / (len(rows) + 30)
    deviation = (share * variance + (1 - share) * variance.mean()).sqrt()
    strength = 1 / (penalty * len(rows)) * (2 if made.classes == 2 else 1)
    model = LogisticRegression(C=strength, tol=1e-10, max_iter=5000)
    model.fit((taken - mean) / deviation, made.labels["train"][rows])
    val, test = (
        torch.from_numpy(model.predict((made.features[s].double() - mean) / deviation)) for s in ("val", "test")
    )
    return val, test


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("images", [8, 120])
def test_a_probe_is_scikit_learns_with_fewer_images_than_features_and_with_more(classes: int, images: int) -> None:
    made = known(classes=classes)
    rows = drawn(made.labels["train"], images // classes, seed=0, draw=0)
    (best, penalty, expected) = (-1.0, 0.0, torch.empty(0))
    for each in SETTINGS.penalties:
        val, test = reference(made, rows, each)
        right = (val == made.labels["val"]).double().mean().item()
        if right > best + 1e-9:
            best, penalty, expected = right, each, test
    found = fit(made, rows, SETTINGS.penalties)
    assert found.converged
    assert found.val_accuracy == pytest.approx(best, abs=0.013)
    if found.penalty == penalty:
        hits = (expected == made.labels["test"]).numpy()
        assert (hits == found.hits).mean() > 0.98


def test_a_feature_that_hardly_varies_in_few_images_does_not_drown_the_others() -> None:
    """As frozen ones do: its own deviation would make of it a thousand times what it is."""
    made = known()
    rows = drawn(made.labels["train"], 1, seed=0, draw=0)

    def quiet(features: Tensor, *, seed: int) -> Tensor:
        noise = torch.randn(len(features), 12, generator=torch.Generator().manual_seed(seed))
        return torch.cat([features, 0.3 * noise.half()], dim=1)

    wide = {split: quiet(each, seed=seed) for seed, (split, each) in enumerate(made.features.items())}
    wide["train"][rows, 24:] *= 1e-3
    with_noise = Known(features=wide, labels=made.labels, classes=4)
    one, other = (fit(each, rows, SETTINGS.penalties).hits.mean() for each in (made, with_noise))
    assert abs(one - other) < 0.05
    assert one > 0.4


def test_of_many_images_each_feature_has_its_own_deviation() -> None:
    features = torch.randn(20000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 4.0])
    assert scale_of(features).deviation.tolist() == pytest.approx(features.std(0).tolist(), rel=0.03)
    same = torch.ones(5, 3)
    assert torch.isfinite(scale_of(same).applied(same)).all()
    assert scale_of(same).deviation.tolist() == [1.0] * same.shape[1]


def test_features_that_stand_still_do_not_change_how_the_others_are_scaled_whatever_the_unit() -> None:
    features = torch.randn(10, 20, generator=torch.Generator().manual_seed(0))
    features[:, 10:] = 3
    expected = scale_of(features).deviation
    assert scale_of(features / 100).deviation.tolist() == pytest.approx((expected / 100).tolist())
    assert expected.max() < features.std()


def test_draws_have_so_many_of_each_class_add_to_one_another_and_differ() -> None:
    labels = torch.cat([torch.zeros(5), torch.ones(40), torch.full((15,), 2)]).long()
    few, more = (drawn(labels, size, seed=0, draw=1) for size in (3, 10))
    assert torch.bincount(labels[few]).tolist() == [3, 3, 3]
    assert torch.bincount(labels[more]).tolist() == [5, 10, 10]
    assert set(few.tolist()) < set(more.tolist())
    assert not torch.equal(few, drawn(labels, 3, seed=0, draw=2))
    assert not torch.equal(few, drawn(labels, 3, seed=1, draw=1))
    assert torch.equal(few, drawn(labels, 3, seed=0, draw=1))


def test_rungs_end_in_all_images_once() -> None:
    labels = torch.arange(40) % 4
    assert sizes(labels, SETTINGS) == [1, 3, None]
    assert count_probes(labels, SETTINGS) == 7
    assert sizes(torch.arange(4), SETTINGS) == [None]


def test_accuracy_grows_with_images_and_rows_are_the_means_of_their_probes() -> None:
    told = list[int]()
    found = measure(known(), SETTINGS, seed=0, advance=told.append)
    assert len(told) == len(found.probes) == 10
    assert [row["images"] for row in found.rungs] == [4, 12, 40, 160]
    assert [row["draws"] for row in found.rungs] == [3, 3, 3, 1]
    for row in found.rungs:
        own = [probe["test_accuracy"] for probe in found.probes if probe["images"] == row["images"]]
        assert row["accuracy"] == pytest.approx(sum(own) / len(own))
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["spread"] == pytest.approx((row["high"] - row["low"]) / 3.92, rel=1e-3)
    assert found.rungs[-1]["accuracy"] > found.rungs[0]["accuracy"] + 0.1
    assert all(probe["converged"] for probe in found.probes)
    scores = data_efficiency.scores(found)
    assert scores["test"]["accuracy"] == found.probes[-1]["test_accuracy"]
    assert scores["fewest"]["images"] == 4


def test_one_image_a_class_and_a_class_that_validation_lacks() -> None:
    made = known(4)
    kept = made.labels["val"] != 3
    features = {**made.features, "val": made.features["val"][kept]}
    lacking = Known(features=features, labels={**made.labels, "val": made.labels["val"][kept]}, classes=4)
    found = measure(lacking, SETTINGS, seed=0, advance=nothing)
    assert [row["images"] for row in found.rungs] == [4]
    assert 0 < found.rungs[0]["accuracy"] < 1


def test_a_class_without_images_is_never_named_and_does_no_harm() -> None:
    made = known()
    wider = Known(features=made.features, labels=made.labels, classes=5)
    one, other = (fit(each, torch.arange(160), (0.1,)).hits.mean() for each in (made, wider))
    assert one == pytest.approx(other, abs=0.03)


def test_classes_that_are_far_apart_are_told_apart_by_one_image_each() -> None:
    labels = torch.arange(60) % 3
    features = (50.0 * torch.nn.functional.one_hot(labels, 3) + torch.rand(60, 3)).half()
    splits = ("train", "val", "test")
    apart = Known(features=dict.fromkeys(splits, features), labels=dict.fromkeys(splits, labels), classes=3)
    found = measure(apart, SETTINGS, seed=0, advance=nothing)
    assert [row["accuracy"] for row in found.rungs] == [1.0] * 4
    assert found.rungs[0]["low"] < 1
