"""A sweep: names that say what was changed, values checked before anything runs, one after another, then compared."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.interface import params
from tests.builders.repository import ROOT
from tools import sweep


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    committed = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, check=True)
    Path("params.yaml").write_bytes(committed.stdout)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a sweep starts, none of which runs; those about 13 fail, and so does a comparison with 15."""
    found: list[list[str]] = []

    def start(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found.append(command)
        return subprocess.CompletedProcess(command, 1 if command[-1].endswith(("=13", "_15")) else 0)

    monkeypatch.setattr(sweep.subprocess, "run", start)
    return found


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sweep.sys, "argv", ["sweep", *arguments])
    sweep.main()


def test_experiments_are_named_after_what_was_changed() -> None:
    assert sweep.named("lr", ["0.001", "1e-05"]) == {"lr_0.001": "0.001", "lr_1e-05": "1e-05"}
    assert list(sweep.named("tune_head.dropout", ["[0.1,0.2]", "[0.3]"])) == [
        "tune_head.dropout_0.1_0.2",
        "tune_head.dropout_0.3",
    ]
    with pytest.raises(
        ValueError, match=r"^\[0\.1\] and 0\.1 would both be the experiment x_0\.1; allowed: one of them"
    ):
        sweep.named("x", ["[0.1]", "0.1"])


def test_each_value_runs_in_turn_away_from_the_workspace_and_then_all_are_compared(
    workspace: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "dvc.lock").touch()
    before = (workspace / "params.yaml").read_bytes()
    run(monkeypatch, "finetune.epochs", "12", "3")
    runs, (compare,) = started[:2], started[2:]
    assert [command[-4:] for command in runs] == [
        ["--name", f"finetune.epochs_{value}", "--set-param", f"++finetune.epochs={value}"] for value in (12, 3)
    ]
    assert all("--temp" in command for command in runs)
    assert compare[1:] == ["-m", "stages.compare", "workspace", "finetune.epochs_12", "finetune.epochs_3"]
    assert (workspace / "params.yaml").read_bytes() == before


def test_one_that_fails_is_said_and_the_others_are_compared(
    workspace: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"^seed_13 did not end"):
        run(monkeypatch, "seed", "12", "13", "14")
    assert started[-1][1:] == ["-m", "stages.compare", "seed_12", "seed_14"]


def test_a_comparison_that_fails_ends_the_sweep_as_it_ended(
    workspace: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=r"^1$"):
        run(monkeypatch, "seed", "12", "15")


def test_a_key_that_params_yaml_may_have_and_has_not_is_written_for_dvc_too(
    workspace: Path, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, "scaling_arms.width.epochs", "2")
    path = workspace / "params.yaml"
    apply_overrides(path, [started[0][-1]])
    assert params.load(path).scaling_arms["width"].epochs == 2


@given(st.text(st.sampled_from("a.lock/~^:?*[@{\\ _-é")) | st.text())
@example("a/../b")
@example("x.lock")
@example("a" * 300)
@example(f"{'a' * 99}.a")
@settings(deadline=None, max_examples=50)
def test_git_takes_every_name(value: str) -> None:
    (name,) = sweep.named("dataset.source", [value])
    assert subprocess.run(["git", "check-ref-format", f"refs/exps/ab/cd/{name}"]).returncode == 0
    assert len(name) < 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lr", "1,2"), r"^'lr=1,2': allowed: values separated by spaces"),
        (("lr", "[1"), r"^'lr=\[1': allowed: values separated by spaces"),
        (("~lr", "1"), r"^~lr 1: allowed: a key of params\.yaml"),
        (("++lr", "1"), r"^\+\+lr 1: allowed: a key of params\.yaml"),
        (("lr", "0.001", "fast"), r"^lr: "),
        (("finetune.epoch", "3"), r"^finetune\.epoch: unknown.*epochs"),
        (("lr",), r"^lr: allowed: a key of params\.yaml and its values"),
        ((), r"^nothing to sweep: allowed: "),
    ],
)
def test_what_params_yaml_may_not_have_is_refused_before_anything_runs(
    arguments: tuple[str, ...],
    said: str,
    workspace: Path,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=said):
        run(monkeypatch, *arguments)
    assert started == []
