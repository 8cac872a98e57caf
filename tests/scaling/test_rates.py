"""`scaling.learning_rate: auto`: a rate of each network's own, chosen on validation, and kept through a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from src.interface import console
from src.scaling import rates, training
from src.scaling.networks import Model
from src.training import rate_finding
from src.training.fitting import Session
from tests.builders.small import convolutional, images, quiet, scaling_settings

SETTINGS = scaling_settings(learning_rate="auto", batch_size=16, optimizer="sgd", schedule="constant")
MODEL = Model(make=convolutional, resolution=8, factors={})
SPLITS = {"train": images(64), "val": images(64)}  # what it learns by heart is what it is judged by


def settled(folder: Path, model: Model = MODEL, **changes: Any) -> Any:
    settings = replace(SETTINGS, **changes)
    return rates.settled(settings, model, SPLITS, seed=0, folder=folder, label="scaling_ablation@x")


def never() -> nn.Module:
    raise AssertionError("a network was built")


def test_a_number_is_taken_as_it_is_and_nothing_is_trained(tmp_path: Path) -> None:
    unbuilt = replace(MODEL, make=never)
    assert settled(tmp_path, unbuilt, learning_rate=0.25) == replace(SETTINGS, learning_rate=0.25)
    assert list(tmp_path.iterdir()) == []


def test_validation_chooses_among_the_rates_about_the_one_where_the_loss_falls_fastest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_finding, "suggest", lambda rows: 0.01)
    found = settled(tmp_path)
    scores = {}
    for rate in (0.003, 0.01, 0.03):
        fitted = training.fit(
            MODEL.build(seed=0),
            replace(SPLITS["train"], seed=0),
            replace(SPLITS["val"], seed=0),
            replace(SETTINGS, learning_rate=rate),
            epochs=rates.EPOCHS,
            session=Session(seed=0, advance=quiet),
        )
        scores[rate] = (fitted.scores["accuracy"], -fitted.scores["loss"])
    assert found == replace(SETTINGS, learning_rate=max(scores, key=scores.__getitem__))
    assert f"learning rate {found.learning_rate:g}, by validation (0.003 " in capsys.readouterr().out


def test_how_far_the_tries_are_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    @contextmanager
    def progress(*said: Any) -> Iterator[SimpleNamespace]:
        shown.append(said)
        yield SimpleNamespace(advance=shown.append)

    monkeypatch.setattr(console, "progress", progress)
    settled(tmp_path)
    (total, unit, label), *done = shown
    assert (unit, label) == ("images", "x, learning rate")
    assert total == rates.STEPS * 16 + 3 * 64
    assert 3 * 64 < sum(done) <= total, "the range test ends early where the loss explodes"


def test_the_range_test_and_the_tries_find_a_rate_that_learns(tmp_path: Path) -> None:
    found = settled(tmp_path)
    fitted = training.fit(
        MODEL.build(seed=0), *SPLITS.values(), found, epochs=12, session=Session(seed=0, advance=quiet)
    )
    assert fitted.scores["accuracy"] > 0.6


def test_what_was_found_is_kept_for_a_later_start(tmp_path: Path) -> None:
    assert settled(tmp_path) == settled(tmp_path, replace(MODEL, make=never))


def test_a_rate_at_which_training_diverges_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_finding, "suggest", lambda rows: 0.05)
    real = training.fit

    def diverging(*arguments: Any, **others: Any) -> Any:
        if arguments[3].learning_rate > 0.02:
            raise FloatingPointError("training loss is nan")
        return real(*arguments, **others)

    monkeypatch.setattr(training, "fit", diverging)
    assert settled(tmp_path).learning_rate == 0.015
    monkeypatch.setattr(rate_finding, "suggest", lambda rows: 5.0)
    with pytest.raises(ValueError, match=r"^scaling\.learning_rate: auto: training diverges about 5; allowed: a n"):
        settled(tmp_path / "other")


def test_a_loss_that_never_falls_is_one_line(tmp_path: Path) -> None:
    still = replace(MODEL, make=lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Constant()))
    with pytest.raises(ValueError, match=r"^scaling\.learning_rate: auto: range test: .*; allowed: a number$"):
        settled(tmp_path, still)


class Constant(nn.Module):
    """Says the same of every image, whatever its weight is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(3, 4).weight.detach())

    def forward(self, inputs: Any) -> Any:
        return 0 * inputs @ self.weight.T


def test_training_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling\.learning_rate: auto"):
        training.fit(convolutional(), *SPLITS.values(), SETTINGS, epochs=1, session=Session(seed=0, advance=quiet))
