"""The learning-rate range test: against a plain loop, on curves in closed form, and as a script on a small study."""

import copy
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from dvc.utils.hydra import apply_overrides
from torch import nn

from recipes.run import overrides
from src.base import artifacts, splits
from src.base.batches import shuffle
from src.figures.rate import range_test
from src.models.heads import build_head
from src.training import fitting, rate_finding
from src.training.loop import Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.training.rate_finding import Row
from stages import find_lr
from tests.builders.small import CHOSEN, convolutional, features, fit, images, quiet, same_state

ROOT = Path(__file__).parents[2]
RECIPE = Recipe(epochs=1, batch_size=8, schedule="cosine")


def head(dropout: float = 0.0) -> nn.Module:
    return build_head("simple", width=10, classes=3, dropout=dropout, seed=0)


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return build_optimizer("sgd", parameter_groups(model, "head", lr=lr, weight_decay=0.0), epsilon=EPSILON)


def tried(model: nn.Module | None = None, **settings: Any) -> list[Row]:
    model = model or head()
    return rate_finding.run(model, sgd(model), features(40), RECIPE, **({"seed": 0, "advance": quiet} | settings))


def curve(*smoothed: float, low: float = 1e-6, high: float = 1.0) -> list[Row]:
    rates = np.geomspace(low, high, len(smoothed))
    return [{"learning_rate": r, "loss": s, "smoothed": s} for r, s in zip(rates, smoothed, strict=True)]


def falling(steps: int = 61, *, steepest: float = 1e-3) -> list[float]:
    """2 - tanh(log(rate / steepest)) over the rates of `curve`: its slope in the log rate is lowest at `steepest`."""
    return [2 - math.tanh(math.log(rate / steepest)) for rate in np.geomspace(1e-6, 1, steps)]


def test_rates_rise_geometrically_from_low_to_high() -> None:
    rows = tried(low=1e-5, high=1e-2, steps=13)
    np.testing.assert_allclose([row["learning_rate"] for row in rows], np.geomspace(1e-5, 1e-2, 13), rtol=1e-12)


def test_losses_are_those_of_a_plain_loop_over_one_epoch_after_the_other() -> None:
    ours, theirs = convolutional(), convolutional().train()
    data, rates = images(30), np.geomspace(1e-4, 0.05, 10)  # 4 batches an epoch
    rows = rate_finding.run(ours, sgd(ours), data, RECIPE, seed=0, low=1e-4, high=0.05, steps=10, advance=quiet)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1.0, momentum=0.9)
    batches = [batch for epoch in (1, 2, 3) for batch in data.shuffled(epoch, 8)]
    for row, rate, (inputs, labels) in zip(rows, rates, batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(theirs(inputs), labels)
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(rows) == 10


def test_the_smoothed_loss_is_the_mean_of_all_so_far_with_weights_that_decay() -> None:
    rows = tried(low=1e-4, high=1e-1, steps=40)
    losses = np.array([row["loss"] for row in rows])
    assert rate_finding.smoothing(40) == 0.75
    for step, row in enumerate(rows):
        weights = 0.75 ** np.arange(step, -1, -1)
        assert row["smoothed"] == pytest.approx((weights * losses[: step + 1]).sum() / weights.sum(), rel=1e-12)


@pytest.mark.parametrize(("steps", "decay"), [(5, 0.0), (10, 0.0), (100, 0.9), (500, 0.98), (5000, 0.98)])
def test_the_average_looks_back_over_a_tenth_of_the_test_and_never_over_more_than_fastais_50_steps(
    steps: int, decay: float
) -> None:
    assert rate_finding.smoothing(steps) == pytest.approx(decay)


def test_rates_of_groups_keep_their_ratio_and_the_highest_is_the_one_that_is_tried() -> None:
    model = convolutional()
    groups = parameter_groups(model.get_submodule("backbone"), "backbone", lr=0.002, weight_decay=0.0)
    groups += parameter_groups(model.get_submodule("head"), "head", lr=0.01, weight_decay=0.0)
    optimizer = build_optimizer("sgd", groups, epsilon=EPSILON)
    seen: list[dict[str, float]] = []
    optimizer.register_step_pre_hook(
        lambda stepped, *_: seen.append({group["name"]: group["lr"] for group in stepped.param_groups})
    )
    rows = rate_finding.run(model, optimizer, images(24), RECIPE, seed=0, low=1e-4, high=1e-1, steps=7, advance=quiet)
    assert [rates["head"] for rates in seen] == pytest.approx([row["learning_rate"] for row in rows])
    assert [rates["backbone"] / rates["head"] for rates in seen] == pytest.approx([0.2] * 7)


def test_the_test_ends_with_the_step_in_which_the_smoothed_loss_passes_four_times_its_minimum() -> None:
    rows = tried(low=1e-3, high=1e6, steps=60)
    assert len(rows) < 60
    ratios = [row["smoothed"] / min(r["smoothed"] for r in rows[: i + 1]) for i, row in enumerate(rows)]
    assert ratios[-1] > 4
    assert max(ratios[:-1]) <= 4


def test_the_test_ends_before_a_loss_that_is_not_finite() -> None:
    data, model, told = features(40), head(), []
    data.features[:] = torch.where(torch.arange(40).view(1, -1, 1) == 7, torch.nan, data.features)
    order = [7 in index.tolist() for index in shuffle(40, 8, data.seed, 1)]
    rows = rate_finding.run(model, sgd(model), data, RECIPE, seed=0, low=1e-4, high=1e-3, advance=told.append)
    assert len(rows) == len(told) == order.index(True)


def test_everything_trains_in_place_and_the_seed_alone_decides_how() -> None:
    models = [head(dropout=0.5) for _ in range(3)]
    start = copy.deepcopy(models[0].state_dict())
    curves = [tried(model, seed=seed, steps=12) for model, seed in zip(models, (0, 0, 1), strict=True)]
    assert curves[0] == curves[1] != curves[2]
    assert same_state(models[0].state_dict(), models[1].state_dict())
    assert not any(torch.equal(start[name], value) for name, value in models[0].state_dict().items())


def test_a_curve_in_closed_form_gives_the_rate_where_it_is_steepest() -> None:
    assert rate_finding.suggest(curve(*falling())) == pytest.approx(1e-3)
    assert rate_finding.suggest(curve(*falling(steepest=1e-2))) == pytest.approx(1e-2)


def test_steeper_falls_at_the_first_rates_and_after_the_minimum_do_not_count() -> None:
    losses = falling()
    losses[0] = 30.0
    after = [6.0] * 6 + [1.1] * 6
    assert rate_finding.suggest(curve(*losses, *after, high=10 ** (72 / 10 - 6))) == pytest.approx(1e-3)


def test_a_single_steep_step_of_a_noisy_loss_does_not_count() -> None:
    losses = falling()
    losses[10] += 0.9
    assert rate_finding.suggest(curve(*losses)) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "losses",
    [[2.0 + 0.1 * i for i in range(20)], [2.0] * 20, [2.0 - 0.04 * math.sin(i) for i in range(40)]],
    ids=["rises", "flat", "noise"],
)
def test_a_loss_that_never_falls_is_an_error_in_one_line(losses: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^range test: the loss hardly falls in \d+ steps, from \S+ to \S+ nats: .*$"):
        rate_finding.suggest(curve(*losses))


@pytest.mark.parametrize("count", [0, 2])
def test_a_loss_that_is_not_finite_from_the_first_steps_on_is_an_error(count: int) -> None:
    with pytest.raises(ValueError, match=f"finite in {count} steps only"):
        rate_finding.suggest(curve(*[2.0, 1.0][:count]))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_a_head_learns_at_the_suggested_rate_and_not_at_rates_far_from_it(seed: int) -> None:
    data, model = replace(features(40), seed=seed), head()
    rows = rate_finding.run(model, sgd(model), data, RECIPE, seed=0, low=1e-7, high=1e3, advance=quiet)
    rate = rate_finding.suggest(rows)
    rates = (rate / 1000, rate, 1000 * rate)
    low, suggested, high = (
        fit(head(), data, data, lr=lr, epochs=10, schedule="constant").curve[-1]["train_loss"] for lr in rates
    )
    assert suggested < 0.5 * min(low, high)


def texts(svg: str) -> set[str | None]:
    return {element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}


def test_the_chart_names_the_rate_and_equal_rows_give_equal_bytes() -> None:
    svg = range_test(curve(*falling(), 50.0), 0.0012)
    assert {" 0.0012", "smoothed", "1e−03", "learning rate of the head"} <= texts(svg)
    assert range_test(curve(*falling(), 50.0), 0.0012) == svg


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `dvc repro train_frozen` might have run: 32 images, and a head for the small network."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    small = ["backbone.weights=random", "backbone.resolution=32", "finetune.batch_size=16", "finetune.optimizer=adamw"]
    apply_overrides(tmp_path / "params.yaml", [*overrides(ROOT / "recipes/sample.txt"), *small])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setattr(find_lr, "STEPS", 30)
    data = images(32)
    split = splits.Split(images=data.images, labels=data.labels, classes=data.classes)
    trained = build_head("deep", width=640, classes=4, dropout=0.3, seed=0)
    splits.save_split(split, "data/images/train.pt")
    artifacts.write_json(asdict(CHOSEN), "models/best_head.json")
    artifacts.save(fitting.weights(trained), "models/frozen_head.pt")
    return tmp_path


def test_the_script_leaves_a_curve_and_a_chart_and_says_what_to_try(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find_lr.main()
    said = capsys.readouterr().out.splitlines()[-1]
    rows = (study / "plots/find_lr/curve.csv").read_text().splitlines()
    assert rows[0] == "learning_rate,loss,smoothed"
    assert 3 < len(rows) <= 31
    rate = said.rpartition("dvc exp run -S lr=")[2]
    assert 1e-6 < float(rate) < 1
    assert f"lr {rate};" in said
    assert f" {rate}" in texts((study / "plots/find_lr/curve.svg").read_text())
    assert {path.name for path in study.rglob("*.*") if path.is_file()} == {
        *("params.yaml", "train.pt", "best_head.json", "frozen_head.pt", "curve.csv", "curve.svg")
    }


@pytest.mark.parametrize("path", ["data/images/train.pt", "models/best_head.json", "models/frozen_head.pt"])
def test_the_script_says_what_to_run_first_where_a_file_is_missing(study: Path, path: str) -> None:
    (study / path).unlink()
    with pytest.raises(ValueError, match=f"^{path} does not exist: run `dvc repro train_frozen` first$"):
        find_lr.main()


def test_the_script_says_what_to_run_first_where_the_head_is_of_another_network(study: Path) -> None:
    apply_overrides(study / "params.yaml", ["backbone.name=resnet18"])
    with pytest.raises(
        ValueError, match=r"is no head for resnet18 on these images: run `dvc repro train_frozen` first$"
    ):
        find_lr.main()
