"""The linear probe: scikit-learn's LogisticRegression on the same features, fit by fit."""

from typing import Any

import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor

from src.transfer import probe
from src.transfer.probe import Scale, fit_path

PENALTIES = (1.0, 0.1, 0.01, 0.001)


def clouds(count: int, *, classes: int = 4, width: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping classes, on scales that differ a thousandfold, and one feature that never changes."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    found = centres[labels] + 1.5 * torch.randn(count, width, generator=draws)
    found = found * torch.logspace(-2, 1, width) + 3
    return torch.cat([found, torch.full((count, 1), 7.0)], dim=1), labels


def scaled(count: int = 400, **options: int) -> tuple[Tensor, Tensor]:
    found, labels = clouds(count, **options)
    return Scale.of(found).applied(found), labels


def objective(features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, penalty: float) -> float:
    """In float64, by the book."""
    logits = features.double() @ weights.double().T + bias.double()
    return (F.cross_entropy(logits, labels) + penalty / 2 * weights.double().square().sum()).item()


@pytest.mark.parametrize("classes", [2, 4, 11])
def test_each_fit_of_the_path_is_scikit_learns(classes: int) -> None:
    features, labels = scaled(classes=classes)
    fits = list(fit_path(features, labels, PENALTIES, classes=classes))
    assert [fit.penalty for fit in fits] == list(PENALTIES)
    for fit in fits:
        # scikit-learn has one weight vector for two classes, the difference of our two: its penalty counts half
        strength = 1 / (fit.penalty * len(labels)) * (2 if classes == 2 else 1)
        reference = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(features.double(), labels)
        weights, bias = torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_)
        if classes == 2:
            weights, bias = torch.cat([-weights, weights]) / 2, torch.cat([-bias, bias]) / 2
        best = objective(features, labels, weights, bias, fit.penalty)
        reached = objective(features, labels, fit.weights, fit.bias, fit.penalty)
        assert fit.converged
        assert fit.objective == pytest.approx(reached, rel=1e-5)
        assert best - 1e-9 <= reached <= best + 1e-5
        named = torch.from_numpy(reference.predict(features.double().numpy()))
        assert (fit.logits(features).argmax(1) == named).float().mean() > 0.995


def test_validation_chooses_the_penalty_that_it_chooses_of_scikit_learns_fits() -> None:
    features, labels = clouds(160)
    val, val_labels = clouds(2000, seed=1)
    scale = Scale.of(features)
    known, judged = scale.applied(features), scale.applied(val)
    ours, theirs = {}, {}
    for fit in fit_path(known, labels, PENALTIES, classes=4):
        ours[fit.penalty] = (fit.logits(judged).argmax(1) == val_labels).float().mean().item()
        reference = LogisticRegression(C=1 / (fit.penalty * len(labels)), tol=1e-10, max_iter=10_000)
        theirs[fit.penalty] = reference.fit(known.double(), labels).score(judged.double(), val_labels)
    assert ours == pytest.approx(theirs, abs=1.5e-3)
    assert max(ours, key=ours.__getitem__) == max(theirs, key=theirs.__getitem__)


def test_features_are_standardised_and_one_that_never_changes_stays() -> None:
    features, _ = clouds(300)
    found = Scale.of(features.half()).applied(features)
    torch.testing.assert_close(found[:, :-1].mean(0), torch.zeros(24), atol=1e-2, rtol=0)
    torch.testing.assert_close(found[:, :-1].std(0, correction=0), torch.ones(24), atol=1e-2, rtol=0)
    assert torch.equal(found[:, -1], torch.zeros(300))


def test_a_warm_start_takes_fewer_steps_than_a_cold_one() -> None:
    features, labels = scaled()
    close = (0.01, 0.009)
    *_, warm = fit_path(features, labels, close, classes=4)
    (cold,) = fit_path(features, labels, close[1:], classes=4)
    assert warm.iterations < cold.iterations
    assert warm.objective == pytest.approx(cold.objective, abs=1e-6)


def test_a_fit_that_may_not_go_on_says_that_it_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ITERATIONS", 1)
    (fit,) = fit_path(*scaled(), (0.001,), classes=4)
    assert not fit.converged
    assert fit.gradient > probe.GRADIENT


def test_where_float32_is_too_coarse_float64_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "GRADIENT", 1e-9)
    (fit,) = fit_path(*scaled(), (0.1,), classes=4)
    assert fit.converged
    assert fit.weights.dtype == torch.float32


def test_scipy_steps_on_one_thread_and_leaves_the_others_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}

    seen: list[set[int]] = []

    def minimize(*args: Any, **kwargs: Any) -> Any:
        seen.append(threads())
        return scipy.optimize.minimize(*args, **kwargs)

    monkeypatch.setattr(probe, "minimize", minimize)
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        list(fit_path(*scaled(), (0.1,), classes=4))
        assert threads() == {2}
    assert seen == [{1}] * len(seen) != []
