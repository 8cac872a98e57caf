"""The first stage says how long a study takes on a machine without an accelerator, and what else there is."""

import re
import time
from dataclasses import replace

import pytest

from src import expectations
from src.interface import params, scaling_params

SMALL = {"base": "efficientnet_pico", "base_resolution": 32}


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, small: bool = False, **dataset: object
) -> str:
    """What is announced of B0, or of the `small` network of 32 pixels, which is measured soon."""
    monkeypatch.setenv("DEVICE", "cpu")
    cfg = params.load()  # which a recipe may have changed
    study = replace(cfg.dataset, **{"name": "cifar10", "train_limit": None} | dataset)
    name, resolution = ("efficientnet_pico", 32) if small else ("efficientnet_b0", "native")
    network = params.Backbone(name=name, weights="imagenet", resolution=resolution)
    arms = {"baseline": scaling_params.Arm(), "width": scaling_params.Arm(), "small_cnn": scaling_params.Arm(epochs=1)}
    scaling = replace(cfg.scaling, **SMALL if small else {})
    expectations.announce(replace(cfg, dataset=study, backbone=network, scaling=scaling, scaling_arms=arms))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_the_default_study_says_its_time_and_names_the_shorter_ones(capsys, monkeypatch):
    text = said(capsys, monkeypatch)
    parts = ("to start 17 stages", "extract_features", "finetune", "export", "scaling_search", "scaling_ablation")
    assert re.search(rf"the whole study takes about [\d.]+ h \({' .*, '.join(parts)} .*\)", text)
    assert "`make run`" in text
    assert "RECIPE=cifar10_quick" in text


def test_a_subset_takes_less_and_names_nothing_else_but_counts_that_each_stage_starts(capsys, monkeypatch):
    """As slowly as this one did: 17 times a minute, say."""
    monkeypatch.setattr(expectations.console, "BEGAN", time.monotonic() - 60)
    text = said(capsys, monkeypatch, small=True, train_limit=10, name="digits")
    assert "the whole study takes about" in text
    assert re.search(r"to start 17 stages 1\d min", text)
    assert "make run" not in text


def test_a_folder_is_not_guessed_at(capsys, monkeypatch):
    assert said(capsys, monkeypatch, name="folder") == ""


@pytest.mark.slow
def test_a_study_without_arms_and_search_says_nothing_of_them(capsys, monkeypatch):
    cfg = params.load()
    monkeypatch.setenv("DEVICE", "cpu")
    dataset = replace(cfg.dataset, name="digits")
    expectations.announce(
        replace(cfg, dataset=dataset, scaling_arms={}, scaling_search=replace(cfg.scaling_search, epochs=0))
    )
    assert "scaling" not in capsys.readouterr().out
