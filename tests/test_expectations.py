"""The first stage says how long a study takes on a machine without an accelerator, and what else there is."""

import re
from dataclasses import replace

import pytest

from src import expectations, params


def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **dataset: object) -> str:
    monkeypatch.setenv("DEVICE", "cpu")
    cfg = params.load()  # which a recipe may have changed
    study = replace(cfg.dataset, **{"name": "cifar10", "train_limit": None} | dataset)
    network = params.Backbone(name="efficientnet_b0", weights="imagenet", resolution="native")
    expectations.announce(replace(cfg, dataset=study, backbone=network))
    return capsys.readouterr().out


def test_the_default_study_says_its_time_and_names_the_shorter_ones(capsys, monkeypatch):
    text = said(capsys, monkeypatch)
    assert re.search(r"the whole study takes about [\d.]+ h \(extract_features .*, finetune .*\)", text)
    assert "`make run`" in text
    assert "RECIPE=cifar10_quick" in text


def test_a_subset_takes_less_and_names_nothing_else(capsys, monkeypatch):
    text = said(capsys, monkeypatch, train_limit=10, name="digits")
    assert "the whole study takes about" in text
    assert "make run" not in text


def test_a_folder_is_not_guessed_at(capsys, monkeypatch):
    assert said(capsys, monkeypatch, name="folder") == ""
