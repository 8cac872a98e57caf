"""Folds that divide no scene, and what probes say of the fold that they left out."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from src.evidence.folds import fold_of, out_of_fold
from tests.transfer.test_probe import clouds


def nothing(_: int) -> None: ...


def test_scenes_are_undivided_and_every_class_is_spread_evenly() -> None:
    labels = torch.arange(600) % 3
    labels[:30] = 3  # a small class
    scenes = torch.arange(600)
    scenes[1::2] = scenes[0::2]
    fold = fold_of(scenes, labels, folds=5, seed=0)
    assert torch.equal(fold[0::2], fold[1::2])
    assert fold.unique().tolist() == [0, 1, 2, 3, 4]
    firsts = torch.arange(0, 600, 2)
    for label in range(4):
        counts = torch.bincount(fold[firsts[labels[firsts] == label]], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert not torch.equal(fold, fold_of(scenes, labels, folds=5, seed=1))
    assert torch.equal(fold, fold_of(scenes, labels, folds=5, seed=0))


def test_one_image_a_class_do_not_all_lie_in_one_fold() -> None:
    labels = torch.arange(10)
    assert torch.bincount(fold_of(labels, labels, folds=5, seed=0)).tolist() == [2] * 5


@pytest.mark.parametrize("classes", [2, 4])
def test_logits_of_a_fold_are_those_of_scikit_learn_fitted_on_the_others(classes: int) -> None:
    features, labels = clouds(200, classes=classes)
    fold = torch.arange(200) // classes % 3
    found = out_of_fold(features.half(), labels, fold, penalties=(0.01,), classes=classes, advance=nothing)
    for out in range(3):
        known, unseen = features.half()[fold != out].double(), features.half()[fold == out].double()
        mean, deviation = known.mean(0), known.std(0, correction=0)
        deviation[deviation < 1e-6] = 1
        strength = 1 / (0.01 * len(known)) * (2 if classes == 2 else 1)
        model = LogisticRegression(C=strength, tol=1e-9, max_iter=5000)
        model.fit((known - mean) / deviation, labels[fold != out])
        expected = torch.from_numpy(model.predict_proba((unseen - mean) / deviation))
        torch.testing.assert_close(found.logits[fold == out].double().softmax(1), expected, atol=5e-3, rtol=0)
    assert found.judged.all()
    assert found.unconverged == []


def test_the_penalty_with_the_least_loss_on_what_was_left_out_is_taken() -> None:
    features, labels = clouds(120)
    fold = torch.arange(120) % 5
    losses = {}
    for penalty in (10.0, 0.1, 0.0001):
        found = out_of_fold(features, labels, fold, penalties=(penalty,), classes=4, advance=nothing)
        losses[penalty] = torch.nn.functional.cross_entropy(found.logits, labels).item()
    best = out_of_fold(features, labels, fold, penalties=tuple(losses), classes=4, advance=nothing)
    assert best.penalty == min(losses, key=losses.__getitem__) == 0.1


def test_an_image_whose_class_has_no_other_is_not_judged() -> None:
    features, labels = clouds(60)
    labels[0] = 4
    fold = torch.arange(60) % 5
    told = list[int]()
    found = out_of_fold(features, labels, fold, penalties=(0.1, 0.01), classes=6, advance=told.append)
    assert (~found.judged).nonzero().flatten().tolist() == [0]
    assert sum(told) == 60 * 4 * 2
    alone = out_of_fold(features[:4], torch.arange(4), torch.arange(4), penalties=(0.1,), classes=4, advance=nothing)
    assert not alone.judged.any()


def test_images_of_one_scene_have_no_other_fold_to_learn_from() -> None:
    features, labels = clouds(6)
    found = out_of_fold(features, labels, torch.zeros(6).long(), penalties=(0.1,), classes=4, advance=nothing)
    assert not found.judged.any()
