"""MLflow runs, read back with MLflow's own client; and servers and files that misbehave."""

import contextlib
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.base import artifacts
from src.base.proportions import wilson_interval
from src.base.stage_records import Recorder
from src.interface import (
    checking,
    console,
    params,
    tracking,
    tracking_experiments,
    tracking_mirror,
    tracking_names,
    tracking_store,
)
from tools import ui

ROOT = Path(__file__).parents[2]
METRICS = {"finetuned": 0.75, "val": {"accuracy": 0.75, "loss": 0.5}, "best_epoch": 2}
CURVE = [
    {"epoch": 1, "val_accuracy": 0.5, "gradient_norm": math.nan},
    {"epoch": 2, "val_accuracy": 0.75, "gradient_norm": 1.5},
]


def config() -> params.Params:
    return params.load(ROOT / "params.yaml")


def record(stage: str) -> Recorder:
    return Recorder(stage, {"lr": 0.1})


def work(run: tracking.Run, trials: int = 2) -> None:
    """What a stage tells its run."""
    run.metrics(METRICS, val=100)
    run.curve(CURVE)
    for number in range(trials):
        run.trial("trial", number, {"learning_rate": 0.1 / (number + 1)}, {"val": {"accuracy": 0.5}}, CURVE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A main checkout, while the stage runs in a copy of it as `dvc exp run --temp` would."""
    (tmp_path / "main").mkdir()
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tracking_store, "SECONDS", 60.0)  # on a busy machine; tests of the limit have one of their own
    return tmp_path / "main"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a main checkout, with MLflow's tables and without a run, made once: they take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(folder))
        sender = tracking_store.Sender()
        sender.start()
        sender.ask(lambda client: tracking_experiments.open_group(client, "opened", sender.artifacts))
        sender.close()
    return folder / "mlflow.db"


@pytest.fixture
def used(home: Path, empty: Path) -> Path:
    """A main checkout where tracking has run before."""
    shutil.copy(empty, home / "mlflow.db")
    return home


def runs(uri: str, experiment: str = "cifar10") -> list[Any]:
    """Every run of the MLflow experiment, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    assert found
    return client.search_runs([found.experiment_id], order_by=["attributes.start_time", "attributes.run_name"])


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]


def commit(folder: Path) -> str:
    """Make `folder` a git repository of one commit, and return its name."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com"]
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    subprocess.run([*git, "add", "--all"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], cwd=folder, check=True)
    return subprocess.run(
        [*git, "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def value(text: str) -> Any:
    """What was logged as `text`; PyYAML would read 1e-05 as a text."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    return text


def test_the_first_use_builds_the_tables_and_the_experiment_beside_whose_artifacts_they_lie(empty: Path) -> None:
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{empty}").get_experiment_by_name("opened")
    assert found
    assert found.artifact_location.startswith((empty.parent / "mlartifacts").as_uri())
    assert [path.name for path in empty.parent.iterdir()] == ["mlflow.db"]


def test_files_that_were_left_out_are_no_tags(used: Path) -> None:
    """Their names hold what no key of MLflow may."""
    recorder = record("download")
    with tracking.stage(recorder, config()):
        recorder.note(copies=3, skipped={"cat/notes (1).txt": "no image by its name"})
    (run,) = (run for run in runs(f"sqlite:///{used}/mlflow.db") if run.info.run_name == "download")
    assert run.info.status == "FINISHED"
    assert run.data.tags["copies"] == "3"
    assert not any("notes" in key for key in run.data.tags)


def test_an_experiment_is_one_run_its_stages_are_nested_in_it_and_trials_in_those(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = used
    git_commit = commit(Path())
    monkeypatch.setenv("DVC_STAGE", "tune_head")
    monkeypatch.setenv("DVC_EXP_NAME", "hot")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", git_commit)
    told = record("tune_head")
    with tracking.stage(told, config()) as run:
        work(run)
        told.note(device="cpu", threads=2, source_sha256=None)
        artifacts.write_json(METRICS, home / "metrics.json")

    hot, stage, first, second = by_name(
        f"sqlite:///{home}/mlflow.db", "hot", "tune_head hot", "tune_head hot trial 00", "tune_head hot trial 01"
    )
    assert [each.info.status for each in (hot, stage, first, second)] == ["RUNNING", *["FINISHED"] * 3]
    assert all(r.info.artifact_uri.startswith((home / "mlartifacts").as_uri()) for r in (hot, stage, first, second))
    assert "mlflow.parentRunId" not in hot.data.tags
    assert stage.data.tags["mlflow.parentRunId"] == hot.info.run_id
    assert {each.data.tags["mlflow.parentRunId"] for each in (first, second)} == {stage.info.run_id}

    logged = {key: value(text) for key, text in hot.data.params.items()}
    assert logged == dict(leaves(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert (stage.data.params, second.data.params) == ({"lr": "0.1"}, {"learning_rate": "0.05"})

    expected = {
        "dvc_stage": "tune_head", "dvc_exp_name": "hot", "dvc_exp_baseline_rev": git_commit, "git_commit": git_commit,
        "mlflow.source.git.commit": git_commit, "mlflow.source.name": "python -m stages.tune_head",
        "mlflow.source.type": "LOCAL", "device": "cpu", "threads": "2",
        "metrics_sha256": hashlib.sha256((home / "metrics.json").read_bytes()).hexdigest(),
    }  # fmt: skip
    assert expected.items() <= stage.data.tags.items()
    assert {"params_hash", "torch", "torchvision", "python", "mlflow"} <= stage.data.tags.keys()
    assert sorted(p.name for p in home.iterdir() if p.suffix != ".json") == ["mlflow.db", "mlflow.db.lock"]
    assert [path.name for path in Path().iterdir()] == [".git"]  # nothing was left in the copy


def by_name(uri: str, *names: str) -> list[Any]:
    """The runs of these names, which are all that there are, each once."""
    found = {run.info.run_name: run for run in runs(uri)}
    assert sorted(found) == sorted(names)
    assert len(runs(uri)) == len(names)
    return [found[name] for name in names]


def test_names_say_stage_and_split_and_a_trials_score_is_not_that_of_its_last_epoch(used: Path) -> None:
    from mlflow import MlflowClient

    with tracking.stage(record("tune_head"), config()) as run:
        work(run, trials=1)
    client = MlflowClient(f"sqlite:///{used}/mlflow.db")
    found = {run.data.tags.get("trial", run.data.tags.get("stage")): run for run in runs(f"sqlite:///{used}/mlflow.db")}
    low, high = wilson_interval(75, 100)
    assert found["tune_head"].data.metrics == {
        "tune_head/val/accuracy": 0.75,
        "tune_head/val/accuracy_low": low,
        "tune_head/val/accuracy_high": high,
        "tune_head/val/loss": 0.5,
        "tune_head/best_epoch": 2,
        "tune_head/epoch/val_accuracy": 0.75,
        "tune_head/epoch/gradient_norm": 1.5,
    }
    trial = found["0"]
    assert trial.data.metrics["tune_head/trial/val/accuracy"] == 0.5
    for name, points in {
        "tune_head/trial/epoch/val_accuracy": [(1, 0.5), (2, 0.75)],
        "tune_head/trial/epoch/gradient_norm": [(2, 1.5)],
        "tune_head/trial/val/accuracy": [(0, 0.5)],
    }.items():
        assert [(p.step, p.value) for p in client.get_metric_history(trial.info.run_id, name)] == points


def test_epochs_go_out_while_a_stage_runs_each_with_its_own_time_and_once(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setattr(tracking_store, "PACE", 0.2)
    client, began, said = MlflowClient(f"sqlite:///{used}/mlflow.db"), time.time(), []
    with tracking.stage(record("finetune"), config()) as run:
        live = run.live(said.append)
        for epoch in (2, 3):
            live({"epoch": epoch, "val_accuracy": epoch / 10})
            time.sleep(0.3)
        deadline = time.monotonic() + 30
        while not (
            found := [r for r in runs(f"sqlite:///{used}/mlflow.db") if r.data.metrics and "stage" in r.data.tags]
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.curve([{"epoch": epoch, "val_accuracy": epoch / 10} for epoch in (1, 2, 3)])  # the first, before a kill
    assert [row["epoch"] for row in said] == [2, 3]
    [stage] = found
    assert stage.info.status == "RUNNING"
    points = client.get_metric_history(stage.info.run_id, "finetune/epoch/val_accuracy")
    points.sort(key=lambda point: point.step)
    assert [(point.step, point.value) for point in points] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    first, second, third = (point.timestamp / 1000 for point in points)
    assert began - 0.01 <= first <= second <= third - 0.3 <= time.time() - 0.3


def test_a_report_ends_its_experiment_with_all_metrics_their_intervals_and_the_page(used: Path) -> None:
    from mlflow import MlflowClient

    metrics = {
        "download": {"test": {"images": 200}},
        "baseline": {"neighbours": 0.25, "val": {"neighbours": 0.25}, "test": {"nearest_neighbours": 0.25}},
        "finetune": {"finetuned": 0.9, "gain": 0.4, "test": {"accuracy": 0.9, "loss": 0.4}},
        "compare_backbones": {"pico": {"pico": 0.5, "test": {"accuracy": 0.5, "low": 0.3, "high": 0.7}}},
        "scaling_ablation": {
            "width": {"width_accuracy": 0.5, "width": 2.0, "test": {"accuracy": 0.5, "accuracy_std": 0.1}}
        },
    }
    artifacts.write_json(
        {"finetune/gain": (0.3, 0.6), "finetune/repeats/accuracy": (0.8, 0.9)}, "reports/intervals.json"
    )
    for name in ("report.html", "curve.svg"):
        artifacts.write_text(name, f"reports/{name}")
    with tracking.stage(record("report"), config()) as run:
        run.dataset({"source": "here", "source_sha256": "0" * 64}, metrics["download"])
        run.whole(metrics, {})
    [whole] = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    assert whole.info.status == "FINISHED"
    assert whole.data.metrics == {
        "download/test/images": 200,
        "baseline/val/neighbours": 0.25,
        **with_interval(("answer/neighbours", "baseline/test/nearest_neighbours"), 0.25, wilson_interval(50, 200)),
        **with_interval(("answer/finetuned", "finetune/test/accuracy"), 0.9, wilson_interval(180, 200)),
        **with_interval(("answer/gain", "finetune/gain"), 0.4, (0.3, 0.6)),
        "finetune/test/loss": 0.4,
        **with_interval(("answer/pico", "compare_backbones/pico/test/accuracy"), 0.5, (0.3, 0.7)),
        "answer/width_accuracy": 0.5,
        "scaling_ablation/width/width": 2.0,
        "scaling_ablation/width/test/accuracy": 0.5,  # a mean over seeds is no share of images
        "scaling_ablation/width/test/accuracy_std": 0.1,
    }
    [inputs] = whole.inputs.dataset_inputs
    assert (inputs.dataset.name, len(inputs.dataset.digest)) == ("cifar10", 12)
    client = MlflowClient(f"sqlite:///{used}/mlflow.db")
    listed = {file.path for file in client.list_artifacts(whole.info.run_id, "reports")}
    assert listed == {"reports/report.html", "reports/curve.svg", "reports/intervals.json"}


def test_a_score_that_happens_to_equal_the_first_is_no_answer() -> None:
    right = {"accuracy": 1.0}
    exported = {"agreement": 1.0, "temperature": 0.5, "val": right, "test": {**right, "coverage": 1.0}}
    searched = {"alpha": 1.0, "beta": 1.5, "val": right}
    assert tracking_names.whole({"export": exported, "scaling_search": searched}, {}, {}) == {
        "export/agreement": 1.0,
        "export/temperature": 0.5,
        "export/val/accuracy": 1.0,
        "export/test/accuracy": 1.0,
        "export/test/coverage": 1.0,
        "scaling_search/alpha": 1.0,
        "scaling_search/beta": 1.5,
        "scaling_search/val/accuracy": 1.0,
    }


@pytest.mark.parametrize(
    ("stage", "values", "answers"),
    [
        ("tune_head", {"searched": 0.5, "val": {"accuracy": 0.5}, "trials": 3}, {"searched": "val/accuracy"}),
        ("data_efficiency", {"all_images": 0.5, "fewest": {"accuracy": 0.5}, "test": {"accuracy": 0.5}},
         {"all_images": "test/accuracy"}),
        ("evidence", {"coverage": 0.5, "frozen": {"coverage": 0.5}, "finetuned": {"coverage": 0.5}},
         {"coverage": "finetuned/coverage"}),
        ("audit", {"pairs": 0, "val": {"accuracy": 0.0}}, {}),
    ],
)  # fmt: skip
def test_a_stages_answer_is_the_score_that_its_first_number_repeats(
    stage: str, values: dict[str, Any], answers: dict[str, str]
) -> None:
    found = tracking_names.whole({stage: values}, {}, {})
    assert tracking_names.headline(stage, values)[1].replace(".", "/") == next(iter(answers.values()), "")
    assert {key: x for key, x in found.items() if key.startswith("answer/")} == {
        f"answer/{key}": 0.5 for key in answers
    }
    assert not [key for key in answers if f"{stage}/{key}" in found]


def test_bounds_are_called_after_what_they_are_about() -> None:
    eight_bits = {"test_accuracy": 0.9, "difference": -0.1, "low": -0.2, "high": 0.1}
    found = tracking_names.numbers({"int8": eight_bits, "test": {"accuracy": 0.9, "low": 0.8, "high": 1.0}}, "a", {})
    assert {key.removeprefix("a/"): x for key, x in found.items()} == {
        "int8/test_accuracy": 0.9,
        "int8/difference": -0.1,
        "int8/difference_low": -0.2,
        "int8/difference_high": 0.1,
        "test/accuracy": 0.9,
        "test/accuracy_low": 0.8,
        "test/accuracy_high": 1.0,
    }


def test_an_arm_and_a_compared_backbone_of_one_name_have_an_answer_each() -> None:
    metrics = {
        "compare_backbones": {
            "resnet50": {"resnet50": 0.5, "test": {"accuracy": 0.5, "low": 0.3, "high": 0.7}},
            "pico": {"pico": 0.4, "test": {"accuracy": 0.4}},
        },
        "scaling_ablation": {"resnet50": {"resnet50": 0.8, "test": {"accuracy": 0.8}}},
    }
    found = tracking_names.whole(metrics, {}, {})
    assert {key: x for key, x in found.items() if key.startswith("answer/")} == {
        "answer/compare_backbones/resnet50": 0.5,
        "answer/compare_backbones/resnet50_low": 0.3,
        "answer/compare_backbones/resnet50_high": 0.7,
        "answer/scaling_ablation/resnet50": 0.8,
        "answer/pico": 0.4,
    }


def with_interval(names: Iterable[str], value: float, bounds: tuple[float, float]) -> dict[str, float]:
    return {f"{name}{end}": x for name in names for end, x in zip(("", "_low", "_high"), (value, *bounds), strict=True)}


def test_an_experiment_has_the_curves_of_its_stages_those_that_dvc_restored_too_each_point_once(used: Path) -> None:
    from mlflow import MlflowClient

    with tracking.stage(record("finetune"), config()) as run:
        live = run.live()
        for row in CURVE:
            live(row)
        live({"seed": 1, "epoch": 1, "val_accuracy": 0.1})
    with tracking.stage(record("report"), config()) as run:
        run.whole({}, {"train_frozen": CURVE, "finetune": CURVE})
    [whole] = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    client = MlflowClient(f"sqlite:///{used}/mlflow.db")
    for stage in ("train_frozen", "finetune"):
        points = client.get_metric_history(whole.info.run_id, f"{stage}/epoch/val_accuracy")
        assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.75)]
    assert whole.data.metrics.keys() == {
        f"{stage}/epoch/{score}"
        for stage in ("train_frozen", "finetune")
        for score in ("val_accuracy", "gradient_norm")
    }


def test_a_stage_has_the_splits_that_it_was_given_as_inputs_with_their_digests(used: Path) -> None:
    files = {"data/features/train.pt": "a" * 64, "data/features/test.pt": "b" * 64, "stages/baseline.py": "c" * 64}
    with tracking.stage(record("baseline"), config()) as run:
        run.given(files)
    [stage] = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" in run.data.tags]
    found = {each.dataset.name: (each.dataset.digest, each.tags[0].value) for each in stage.inputs.dataset_inputs}
    assert found == {
        "cifar10: features/train": ("a" * 12, "training"),
        "cifar10: features/test": ("b" * 12, "testing"),
    }


def test_a_stage_that_raises_leaves_a_run_that_says_so_and_its_experiment_too(used: Path) -> None:
    errors = [("FAILED", FloatingPointError("no")), ("KILLED", KeyboardInterrupt()), ("KILLED", console.Terminated())]
    for status, error in errors:
        with pytest.raises(type(error)) as raised, tracking.stage(record("finetune"), config()) as run:  # noqa: PT012
            run.live()({"seed": 0, "epoch": 1, "val_accuracy": 0.5})
            raise error
        assert raised.value is error
        found = runs(f"sqlite:///{used}/mlflow.db")
        assert [run.info.status for run in found if "seed" in run.data.tags][-1] == status
        [whole] = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        assert (whole.info.status, whole.data.tags["ended_in"]) == (status, "finetune")
    stages = [run.info.status for run in found if "stage" in run.data.tags and "seed" not in run.data.tags]
    assert stages == [status for status, _ in errors]
    assert all(run.info.end_time for run in found)


KILLED = """
import os, sys, time
from src.base.stage_records import Recorder
from src.interface import params, tracking
with tracking.stage(Recorder("finetune", {}), params.load(sys.argv[1])) as run:
    run.live()({"seed": 0, "epoch": 1, "val_accuracy": 0.5})
    time.sleep(600)
"""


def test_what_a_process_that_is_no_more_left_open_is_closed_by_the_next_start(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{used}/mlflow.db"
    gone = {"host": socket.gethostname(), "owner": "999999999 1"}
    with monkeypatch.context() as patch:
        patch.setattr(tracking_experiments, "own_tags", lambda: gone)
        patch.setattr(tracking_experiments, "_owner", lambda process: gone)
        patch.setattr(tracking.Run, "_close", lambda self, run, status: None)
        for name, stage in {"killed": "finetune", "elsewhere": "finetune"}.items():
            patch.setenv("DVC_EXP_NAME", name)
            with tracking.stage(record(stage), config()):
                pass
            gone |= {"host": "another machine", "owner": "999999998 1"}
    with tracking.stage(record("baseline"), config()):
        pass
    status = {run.info.run_name: run.info.status for run in runs(uri)}
    assert (status["killed"], status["finetune killed"]) == ("KILLED", "KILLED")
    assert (status["elsewhere"], status["finetune elsewhere"]) == ("RUNNING", "RUNNING")


@pytest.mark.slow
def test_what_a_kill_left_running_is_closed_by_the_next_start_and_what_runs_is_not(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, command = f"sqlite:///{used}/mlflow.db", [sys.executable, "-c", KILLED, str(ROOT / "params.yaml")]
    names = ("killed", "running")
    started = [
        subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_EXP_NAME": name}) for name in names
    ]
    try:
        deadline = time.monotonic() + 120
        while sum("seed" in run.data.tags for run in started_runs(uri)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        started[0].kill()
        started[0].wait()
        with tracking.stage(record("baseline"), config()):
            pass
        found = {run.info.run_name: run for run in runs(uri)}
    finally:
        for process in started:
            process.kill()
            process.wait()
    for name, status in zip(names, ("KILLED", "RUNNING"), strict=True):
        assert {found[run].info.status for run in (name, f"finetune {name}", f"finetune {name} seed 00")} == {status}
    assert found["killed"].data.tags["ended_in"] == "finetune"
    monkeypatch.setenv("DVC_EXP_NAME", "killed")
    with tracking.stage(record("report"), config()) as run:
        run.whole({}, {})
    again = {run.info.run_name: run for run in runs(uri)}
    assert again["killed"].info.run_id == found["killed"].info.run_id
    assert again["killed"].info.status == "FINISHED"
    assert again["running"].info.status == "KILLED"


def started_runs(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    found = MlflowClient(uri).get_experiment_by_name("cifar10")
    return runs(uri) if found else []


@pytest.mark.parametrize("name", ["bob's", 'say "no"', """bob's "no" """, "half_of 50 %", "(a+b)\\", "plain"])
def test_an_experiment_with_quotes_in_its_name_is_one_run_for_all_of_its_stages(
    used: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    other = name.translate({ord(letter): "x" for letter in """'"_ %(+\\"""}) + "x" * (name == "plain")
    for each in (name, other, name):
        monkeypatch.setenv("DVC_EXP_NAME", each)
        with tracking.stage(record("baseline"), config()):
            pass
    found = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.run_name for run in found) == sorted([name, other])


def test_a_checkout_with_an_apostrophe_in_its_path_has_one_run_for_all_of_its_stages(
    home: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = home.rename(home.with_name("bob's"))
    monkeypatch.setenv("DVC_ROOT", str(odd))
    shutil.copy(empty, odd / "mlflow.db")
    for stage in ("baseline", "tune_head"):
        with tracking.stage(record(stage), config()):
            pass
    stages = [run.data.tags.get("stage", "") for run in runs(f"sqlite:///{odd}/mlflow.db")]
    assert sorted(stages) == ["", "baseline", "tune_head"]


def test_an_experiment_that_replaced_another_of_its_name_has_a_run_of_its_own(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "hot")
    (used / "changed.yaml").write_text((ROOT / "params.yaml").read_text().replace("seed: 0 ", "seed: 1 "))
    for path in (ROOT / "params.yaml", ROOT / "params.yaml", used / "changed.yaml"):
        with tracking.stage(record("report"), params.load(path)) as run:
            run.whole({}, {})
    top = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    assert {(run.info.run_name, run.data.params["seed"]) for run in top} == {("hot (replaced)", "0"), ("hot", "1")}


def test_the_note_of_an_experiment_has_the_command_that_makes_its_values(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (ROOT / "params.yaml").read_bytes()
    Path("params.yaml").write_bytes(content)
    revision = commit(Path())
    monkeypatch.setenv("DVC_EXP_NAME", "hot")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", revision)
    changes = ["lr=0.5", "tune_head.dropout=[0.1,0.5]", "dataset.source='/my photos'", "~scaling_arms.width"]
    changes += ["+scaling_arms.resnet50={}", "+scaling_arms.depth.epochs=3"]
    apply_overrides(Path("params.yaml"), changes)
    changed = params.load("params.yaml")
    with tracking.stage(record("baseline"), changed):
        pass
    [whole] = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "mlflow.parentRunId" not in run.data.tags]
    note = whole.data.tags["mlflow.note.content"]
    [line] = [line for line in note.splitlines() if line.startswith("dvc exp run -n hot -S ")]
    assert f"git checkout {revision}" in note
    Path("params.yaml").write_bytes(content)
    apply_overrides(Path("params.yaml"), shlex.split(line)[6::2])
    assert params.load("params.yaml") == changed


SIGNS = "\\'\"${}[](),:=1 é猫~%@?#-eE_/+.|&*!<>"  # which mean something to Hydra, OmegaConf or YAML
TEXTS = st.one_of(
    st.text(st.sampled_from(SIGNS), max_size=10),
    st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])),  # params.yaml has no control characters
    st.from_regex(r"[-+]?[0-9]+(\.[0-9]*)?(e[-+]?[0-9]{1,2})?|true|Null|INF|nan|yes|on|0x1f|1_0", fullmatch=True),
).filter(lambda text: not re.match(r"[+-]?\.[0-9]", text))  # DVC itself writes the text .0E0 as a number


@given(TEXTS)
@example("O'Brien")
@example("/home/it's me/p")
@example("/home/José/photos")
@example("猫")
@example("2026")
@example("true")
@example("1e5")
@example("null")
@example(r"C:\photos\'")
@example(r"\${HOME}/photos")
@settings(deadline=None)
def test_hydra_reads_every_text_as_it_was(text: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text("text: a\nlist: []\n")
        now = {"text": text, "list": [text, 1], "section": {"text": text}}
        apply_overrides(path, [*tracking_names.overrides({"text": 0, "list": []}, now)])
        assert checking.parse(path.read_bytes(), path) == now


def test_two_checkouts_that_run_experiments_of_one_name_at_once_have_a_run_each(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "hot")
    (used / "changed.yaml").write_text((ROOT / "params.yaml").read_text().replace("seed: 0 ", "seed: 1 "))
    paths = [ROOT / "params.yaml", used / "changed.yaml"]
    for stage in ("baseline", "tune_head"):
        for path in paths:
            with tracking.stage(record(stage), params.load(path)):
                pass
    found = runs(f"sqlite:///{used}/mlflow.db")
    top = {run.data.params["seed"]: run for run in found if "mlflow.parentRunId" not in run.data.tags}
    assert {seed: run.info.run_name for seed, run in top.items()} == {"0": "hot", "1": "hot"}
    parents = sorted(run.data.tags["mlflow.parentRunId"] for run in found if "stage" in run.data.tags)
    assert parents == sorted(2 * [run.info.run_id for run in top.values()])


def test_processes_that_begin_an_experiment_together_share_its_run(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks whether there is a run before any of them makes one, as far as the lock lets them."""
    from mlflow import MlflowClient

    uri, of = f"sqlite:///{used}/mlflow.db", tracking_experiments.described(config())
    group = tracking_experiments.open_group(MlflowClient(uri), of.group, None)
    looked, keyed = threading.Barrier(3), tracking_experiments.keyed

    def slowly_keyed(*looked_for: Any) -> list[Any]:
        found = keyed(*looked_for)
        with contextlib.suppress(threading.BrokenBarrierError):
            looked.wait(0.3)
        return found

    monkeypatch.setattr(tracking_experiments, "keyed", slowly_keyed)
    made: list[str] = []

    def begin() -> None:
        made.append(tracking_experiments.find_or_make(MlflowClient(uri), tracking_store.Sender(), group, of, 0))

    together = [threading.Thread(target=begin) for _ in range(3)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert len(made) == 3
    assert len(set(made)) == len(runs(uri)) == 1


@pytest.mark.parametrize(
    ("uri", "expected"),
    {
        "sqlite:////shared/team.db": "/shared/team.db.lock",
        "sqlite:////shared/team.db?timeout=3": "/shared/team.db.lock",
        "sqlite+pysqlite:////shared/what%3F/team.db": "/shared/what?/team.db.lock",
    }.items(),
)
def test_checkouts_that_share_a_file_lock_one_beside_it(uri: str, expected: str) -> None:
    assert str(tracking_store.lock_of(uri)) == expected


def test_checkouts_that_share_a_server_lock_one_file_and_not_that_of_another_server() -> None:
    first, again, other = (tracking_store.lock_of(f"http://127.0.0.1:{port}") for port in (5000, 5000, 5001))
    assert first == again != other
    assert first.is_absolute()


def test_a_stage_that_dvc_went_on_after_has_finished_though_mlflow_was_not_told(
    used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"host": socket.gethostname(), "owner": "999999999 1"}
    for name in ("ours", "another"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        with monkeypatch.context() as patch:
            patch.setattr(tracking_experiments, "own_tags", lambda: gone)
            patch.setattr(tracking.Run, "_close", lambda self, run, status: None)
            if name == "another":  # whose dvc was killed
                patch.setattr(tracking_experiments, "_owner", lambda process: gone)
            with tracking.stage(record("tune_head"), config()) as run:
                run.trial("trial", 0, {}, {})
    monkeypatch.setenv("DVC_EXP_NAME", "ours")
    with tracking.stage(record("finetune"), config()):
        pass
    status = {run.info.run_name: run.info.status for run in runs(f"sqlite:///{used}/mlflow.db")}
    assert status == {
        "ours": "RUNNING",
        "tune_head ours": "FINISHED",
        "tune_head ours trial 00": "FINISHED",
        "finetune ours": "FINISHED",
        "another": "KILLED",
        "tune_head another": "KILLED",
        "tune_head another trial 00": "KILLED",
    }


def test_equal_params_have_one_hash_and_others_another(used: Path) -> None:
    (used / "changed.yaml").write_text((ROOT / "params.yaml").read_text().replace("seed: 0 ", "seed: 1 "))
    for path in (ROOT / "params.yaml", ROOT / "params.yaml", used / "changed.yaml"):
        with tracking.stage(record("baseline"), params.load(path)):
            pass
    found = runs(f"sqlite:///{used}/mlflow.db")
    first, second, changed = (run.data.tags["params_hash"] for run in found if "stage" in run.data.tags)
    assert first == second != changed
    assert len([run for run in found if "stage" not in run.data.tags]) == 2


def test_the_tracking_uri_of_the_environment_is_honoured(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = used.rename(used.with_name("elsewhere"))
    (home / "mlflow.db").rename(home / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/elsewhere.db")
    with tracking.stage(record("baseline"), config()):
        pass
    assert not (home / "mlflow.db").exists()
    assert "baseline" in [run.info.run_name for run in runs(f"sqlite:///{home}/elsewhere.db")]


def test_an_experiment_in_mlflows_bin_is_brought_back(used: Path) -> None:
    from mlflow import MlflowClient

    with tracking.stage(record("baseline"), config()):
        pass
    client = MlflowClient(f"sqlite:///{used}/mlflow.db")
    client.delete_experiment(client.get_experiment_by_name("cifar10").experiment_id)  # type: ignore[union-attr]
    with tracking.stage(record("finetune"), config()):
        pass
    assert [run.info.run_name for run in runs(f"sqlite:///{used}/mlflow.db")][-1] == "finetune"


def test_what_becomes_of_a_record_while_the_stage_runs_are_tags_of_its_run_but_for_params(used: Path) -> None:
    told = record("finetune")
    with tracking.stage(told, config()):
        told.note(images_per_second=123.4)
    [tracked] = [run for run in runs(f"sqlite:///{used}/mlflow.db") if "stage" in run.data.tags]
    assert {"stage": "finetune", "images_per_second": "123.4"}.items() <= tracked.data.tags.items()
    assert not [tag for tag in tracked.data.tags if tag.startswith("params.")]
    assert tracked.info.run_id not in json.dumps(told.values())


@pytest.mark.parametrize(
    ("uri", "expected"),
    {
        "sqlite:///team.db": "sqlite:///{home}/team.db",
        "sqlite:///shared/team.db?timeout=3": "sqlite:///{home}/shared/team.db?timeout=3",
        "sqlite:////tmp/team.db": "sqlite:////tmp/team.db",
        "sqlite:///:memory:": "sqlite:///:memory:",
        "http://127.0.0.1:5000": "http://127.0.0.1:5000",
        "databricks": "databricks",
        "databricks://profile": "databricks://profile",
        "mlruns": "file://{home}/mlruns",
        "file:mlruns": "file://{home}/mlruns",
        "file:///tmp/mlruns": "file:///tmp/mlruns",
        "/tmp/mlruns": "/tmp/mlruns",
    }.items(),
)
def test_a_relative_path_of_the_environment_is_one_of_the_main_checkout(
    home: Path, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_store.Sender().uri == expected.replace("{home}", str(home))


@pytest.mark.parametrize("name", ["what?", "half %41", "a#b", "with space"])
def test_a_checkout_with_an_odd_name_keeps_its_database_in_it(
    home: Path, empty: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = home.rename(home.with_name(name))
    monkeypatch.setenv("DVC_ROOT", str(odd))
    shutil.copy(empty, odd / "mlflow.db")
    with tracking.stage(record("baseline"), config()):
        pass
    assert sorted(path.name for path in odd.parent.iterdir()) == sorted(["copy", name])
    with contextlib.closing(sqlite3.connect(odd / "mlflow.db")) as file:
        assert ("baseline", "FINISHED") in file.execute("select name, status from runs").fetchall()


def corrupt(path: Path) -> None:
    path.write_text("this is no database\n" * 100)


def of_another_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("update alembic_version set version_num = 'another'")


def of_another_program(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("create table alembic_version (version_num text)")
        file.execute("insert into alembic_version values ('another')")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [corrupt, of_another_version, of_another_program, a_folder])
def test_a_tracking_file_of_no_use_is_one_warning(
    used: Path, spoil: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    spoil(used / "mlflow.db")
    with tracking.stage(record("finetune"), config()) as run:
        work(run)
    [line] = warnings(capfd)
    assert f"warning: MLflow at sqlite:///{used}/mlflow.db: " in line


def test_a_tracking_file_that_others_keep_locked_is_one_warning(
    used: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking_store, "SECONDS", 1.0)
    with (
        contextlib.closing(sqlite3.connect(used / "mlflow.db")) as file,
        tracking.stage(record("finetune"), config()) as run,
    ):
        deadline = time.monotonic() + 60
        while not file.execute("select 1 from runs where name = 'finetune' and status = 'RUNNING'").fetchone():
            assert time.monotonic() < deadline, "it was not opened: then the wait would be SQLite's own"
            time.sleep(0.02)
        file.execute("begin immediate")
        began = time.monotonic()
        work(run)
        assert time.monotonic() - began < 3
    [line] = warnings(capfd)
    assert "no answer within 1 s" in line


def warnings(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return capfd.readouterr().err.splitlines()


class Server:
    """A listener on 127.0.0.1 that counts connections and requests, and gives each connection to `answer`."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self.answer, self.connections, self.requests = answer, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            while stream.readline():
                headers = [line.split(b":")[:2] for line in iter(stream.readline, b"\r\n")]
                stream.read(sum(int(value) for name, value in headers if name.lower() == b"content-length"))
                self.requests += 1
                self.answer(connection)


def never(connection: socket.socket) -> None:
    connection.recv(1)


def a_byte_a_second(connection: socket.socket) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n":
        connection.sendall(bytes([byte]))
        time.sleep(0.2)


def well(connection: socket.socket) -> None:
    experiment = {"experiment_id": "1", "name": "cifar10", "lifecycle_stage": "active"}
    body = json.dumps({"experiment": experiment, "run": {"info": {"run_id": "a", "experiment_id": "1"}}})
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def slowly(connection: socket.socket) -> None:
    time.sleep(0.3)
    well(connection)


def nonsense(connection: socket.socket) -> None:
    body = '{"experiment": 5}'
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def refusing() -> str:
    """The address of a port that is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


STAGE = """
import sys, time
from src.base import artifacts
from src.interface import checking, console, params, tracking
from src.base.stage_records import Recorder
import mlflow, sqlalchemy  # a server is not to blame for the seconds that this takes
cfg = params.load(sys.argv[1])
began = time.monotonic()
record = Recorder("finetune", {})
with tracking.stage(record, cfg) as run:
    for number in range(5):
        run.trial("trial", number, {"a": 1}, {"b": 2.0})
    artifacts.write_json({"val": {"accuracy": 0.5}}, "metrics/finetune.json")
    run.metrics({"val": {"accuracy": 0.5}})
    artifacts.write_json(record.values(), "data/runs/finetune.json")
print(time.monotonic() - began)
"""


def run_stage(uri: str) -> tuple[float, list[str]]:
    """Run STAGE as a process of its own against `uri`: the seconds of the stage's block and its stderr."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", STAGE, str(ROOT / "params.yaml")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(Path("metrics/finetune.json").read_text()) == {"val": {"accuracy": 0.5}}
    assert json.loads(Path("data/runs/finetune.json").read_text())["stage"] == "finetune"
    return float(done.stdout), done.stderr.splitlines()


@pytest.mark.slow
def test_a_server_that_refuses_costs_a_process_one_warning(home: Path) -> None:
    uri = refusing()
    seconds, [line] = run_stage(uri)
    assert f"warning: MLflow at {uri}: Connection refused; " in line
    assert seconds < 10


@pytest.mark.slow
def test_a_server_that_never_answers_costs_one_call_and_one_warning(home: Path) -> None:
    server = Server(never)
    seconds, [line] = run_stage(server.uri)
    assert f"warning: MLflow at {server.uri}: timed out; " in line
    assert seconds < 10
    assert (server.connections, server.requests) == (1, 1)


def test_a_server_that_refuses_costs_one_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow  # noqa: F401 - not timed

    uri = refusing()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with tracking.stage(record("finetune"), config()) as run:
        work(run, trials=5)
    assert time.monotonic() - began < 10
    [line] = warnings(capfd)
    assert f"warning: MLflow at {uri}: Connection refused; " in line


@pytest.mark.parametrize(("answer", "calls"), [(slowly, 4), (a_byte_a_second, 1), (nonsense, 1)])
def test_a_server_that_answers_slowly_or_badly_costs_little_and_one_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    answer: Callable[[socket.socket], None], calls: int,
) -> None:  # fmt: skip
    import mlflow  # noqa: F401 - not timed

    server = Server(answer)
    monkeypatch.setattr(tracking_store, "SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    began = time.monotonic()
    with tracking.stage(record("finetune"), config()) as run:
        work(run, trials=20)
    assert time.monotonic() - began < 3  # the one second, on a busy machine
    assert 1 <= server.requests <= calls
    [line] = warnings(capfd)
    assert f"warning: MLflow at {server.uri}: " in line


def test_the_limit_that_the_tests_shorten_is_below_ten_seconds() -> None:
    assert tracking_store.SECONDS <= 8


def test_a_stage_makes_few_calls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(well)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with tracking.stage(record("finetune"), config()) as run:
        work(run, trials=5)
    assert 100 < len(tracking_names.settings(config())) <= 200  # MLflow's client sends them by the hundred
    experiment, stage, trial = 5 + 2, 4 + 1, 3  # two for more than a hundred values, one for its curve there
    assert server.requests == experiment + stage + 5 * trial


def test_a_database_whose_module_is_missing_is_one_warning_at_once_that_names_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import mlflow  # noqa: F401 - not timed

    uri = "postgresql://someone:secret@localhost/team"
    for module in ("psycopg", "psycopg2"):  # versions of SQLAlchemy have another
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with tracking.stage(record("finetune"), config()) as run:
        work(run)
    assert time.monotonic() - began < 30
    [line] = warnings(capfd)
    assert "warning: MLflow at postgresql://localhost/team: " in line
    assert "psycopg" in line
    with pytest.raises(ValueError, match=r"^MLflow at postgresql://localhost/team: .*psycopg[^\n]*$"):
        ui.mirrored(uri)


def test_nothing_that_ends_the_thread_makes_a_stage_wait(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fatal: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", fatal.append)

    def unforeseen(client: Any) -> None:
        raise LookupError("of no family")

    sender = tracking_store.Sender()
    sender.start()
    sender.ask(unforeseen)
    began = time.monotonic()
    sender.close()
    assert time.monotonic() - began < 30  # of SECONDS, 60 here
    assert sender._thread
    sender._thread.join()
    assert [type(each.exc_value) for each in fatal] == [LookupError]


def test_a_password_in_the_uri_is_not_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", refusing().replace("//", "//someone:secret@"))
    with tracking.stage(record("finetune"), config()):
        pass
    [line] = warnings(capfd)
    assert "secret" not in line


def restored(metrics: dict[str, Any], page: str, *, reported: float = 0.5, lost: Iterable[str] = ()) -> str:
    """Make git hold an experiment `again` of lr 0.5, whose page is in DVC's cache; the commit that it is based on.

    Args:
        reported: the lr of the page, and of what `finetune` left.
        lost: stages whose metrics git does not have.
    """
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    baseline = commit(Path())
    apply_overrides(Path("params.yaml"), ["lr=0.5"])
    for name, values in metrics.items():
        artifacts.write_json(values, f"metrics/{name}.json")
    artifacts.write_text("epoch,val_accuracy,gradient_norm\n1,0.5,\n2,0.75,1.5\n", "plots/finetune/curves.csv")
    record = json.dumps({"facts": {"source": "the net", "source_sha256": None}})
    digests = {}
    for name, text in {"data/runs/download.json": record, "report.html": page}.items():
        digests[name] = hashlib.md5(text.encode()).hexdigest()
        artifacts.write_text(text, f".dvc/cache/files/md5/{digests[name][:2]}/{digests[name][2:]}")
    folder = json.dumps([{"md5": digests.pop("report.html"), "relpath": "report.html"}])
    digests["reports"] = f"{hashlib.md5(folder.encode()).hexdigest()}.dir"
    artifacts.write_text(folder, f".dvc/cache/files/md5/{digests['reports'][:2]}/{digests['reports'][2:]}")
    outs = {name: {f"metrics/{name}.json": "0"} for name in metrics}
    outs.setdefault("download", {})["data/runs/download.json"] = digests["data/runs/download.json"]
    outs.setdefault("finetune", {})["plots/finetune/curves.csv"] = "0"
    outs["report"] = {"reports": digests["reports"]}
    stages = {
        stage: {"outs": [{"path": path, "md5": digest} for path, digest in own.items()]} for stage, own in outs.items()
    }
    for stage in ("finetune", "report"):
        stages[stage]["params"] = {"params.yaml": {"lr": reported}}  # type: ignore[assignment]
    artifacts.write_text(yaml.safe_dump({"stages": stages}), "dvc.lock")
    Path(".gitignore").write_text("\n".join(["/.dvc", *(f"/metrics/{name}.json" for name in lost)]) + "\n")
    reference = f"refs/exps/{baseline[:2]}/{baseline[2:]}/again"
    subprocess.run(["git", "update-ref", reference, commit(Path())], check=True)
    return baseline


def test_an_experiment_that_dvc_restored_whole_gets_a_row_as_if_it_had_run_once(used: Path) -> None:
    from mlflow import MlflowClient

    uri, metrics = f"sqlite:///{used}/mlflow.db", {"download": {"test": {"images": 200}}, "finetune": METRICS}
    arm = {"width": 0.75, "val": METRICS["val"]}
    baseline = restored({**metrics, "scaling_ablation/width": arm}, "<p>a page")
    links = ui.mirrored(uri)
    assert ui.mirrored(uri) == links
    [run] = runs(uri)
    assert (run.info.run_name, run.info.status) == ("again", "FINISHED")
    assert run.data.tags["dvc_exp_baseline_rev"] == baseline
    assert run.data.params["lr"] == "0.5"
    assert run.data.metrics["scaling_ablation/width/val/accuracy"] == run.data.metrics["finetune/val/accuracy"] == 0.75
    assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["cifar10"]
    points = MlflowClient(uri).get_metric_history(run.info.run_id, "finetune/epoch/val_accuracy")
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.75)]
    listed = MlflowClient(uri).list_artifacts(run.info.run_id, "reports")
    assert [file.path for file in listed] == ["reports/report.html"]
    page = f"{{page}}/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning"
    assert links == [f"cifar10: {page}", f"cifar10, with answers: {page}&viewStateShareKey=answers"]
    view = MlflowClient(uri).get_experiment(run.info.experiment_id).tags["mlflow.sharedViewState.answers"]
    assert json.loads(view) == {
        "selectedColumns": ["attributes.`Duration`", "params.`lr`", "metrics.`answer/finetuned`"]
    }


def test_an_experiment_that_ran_in_part_has_no_page_and_no_metrics_of_other_values(used: Path) -> None:
    from mlflow import MlflowClient

    uri, metrics = f"sqlite:///{used}/mlflow.db", {"download": {"test": {"images": 200}}, "finetune": METRICS}
    restored({**metrics, "baseline": METRICS}, "<p>a page of before", reported=0.1)
    ui.mirrored(uri)
    ui.mirrored(uri)
    [run] = runs(uri)
    assert (run.info.status, "complete" in run.data.tags) == ("FINISHED", False)
    assert run.data.metrics["baseline/val/accuracy"] == 0.75
    assert [key for key in run.data.metrics if key.startswith("finetune")] == []
    assert MlflowClient(uri).list_artifacts(run.info.run_id) == []


def lock(**stages: tuple[dict[str, str], dict[str, str], float]) -> dict[str, Any]:
    """dvc.lock of stages by their inputs and outputs, digests by path, and their lr."""
    return {
        name: {
            "deps": [{"path": path, "md5": md5} for path, md5 in deps.items()],
            "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()],
            "params": {"params.yaml": {"lr": rate}},
        }
        for name, (deps, outs, rate) in stages.items()
    }


def test_what_ran_before_with_other_values_or_on_other_files_is_not_an_experiments_own() -> None:
    first, last = ({"raw": "0"}, {"a": "1"}, 0.5), ({"b": "2"}, {"c": "3"}, 0.5)
    for middle, own in {
        (("a", "1"), 0.5): {"first", "middle", "last"},
        (("a", "1"), 0.1): {"first"},  # and what follows from it
        (("a", "0"), 0.5): {"first"},
    }.items():
        given, rate = middle
        found = lock(first=first, middle=(dict([given]), {"b": "2"}, rate), last=last)
        assert tracking_mirror._current(found, {"lr": 0.5}) == own


def test_an_experiment_whose_commit_lacks_a_stages_metrics_has_a_row_of_the_others_and_one_warning(
    used: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    uri, metrics = f"sqlite:///{used}/mlflow.db", {"download": {"test": {"images": 200}}, "finetune": METRICS}
    arms = {f"scaling_ablation/{arm}": METRICS for arm in ("width", "depth")}
    restored({**metrics, **arms}, "<p>a page", lost=["download", *arms])
    ui.mirrored(uri)
    ui.mirrored(uri)
    [line] = warnings(capfd)
    assert (
        "warning: experiment again: its commit has no metrics of download, scaling_ablation: mirrored without" in line
    )
    [run] = runs(uri)
    assert (run.info.status, run.data.metrics["finetune/val/accuracy"]) == ("FINISHED", 0.75)
    assert ("complete" in run.data.tags, run.inputs.dataset_inputs) == (False, [])


def test_an_experiment_whose_commit_has_no_pipeline_is_one_warning(
    used: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    restored({"finetune": METRICS}, "a page")
    Path("dvc.lock").unlink()
    amended()
    ui.mirrored(f"sqlite:///{used}/mlflow.db")
    [line] = warnings(capfd)
    assert "warning: experiment again has no row: its commit " in line
    assert "has no dvc.lock" in line


def test_an_experiment_that_ran_is_not_mirrored(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{used}/mlflow.db"
    baseline = restored({"download": {}, "finetune": METRICS}, "a page")
    monkeypatch.setenv("DVC_EXP_NAME", "again")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", baseline)
    Path("reports").mkdir()
    with tracking.stage(record("report"), params.load("params.yaml")) as run:
        run.whole({"finetune": METRICS}, {})
    before = {run.info.run_id for run in runs(uri)}
    ui.mirrored(uri)
    assert {run.info.run_id for run in runs(uri)} == before


def amended() -> None:
    """Make the experiment what lies here now."""
    name = subprocess.run(["git", "for-each-ref", "--format=%(refname)"], capture_output=True, text=True, check=True)
    (reference,) = [line for line in name.stdout.split() if line.startswith("refs/exps")]
    subprocess.run(["git", "update-ref", reference, commit(Path())], check=True)


def test_an_experiment_whose_values_this_version_does_not_know_is_one_warning(
    used: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    restored({"finetune": METRICS}, "a page")
    Path("params.yaml").write_text("lr: fast\n")
    amended()
    ui.mirrored(f"sqlite:///{used}/mlflow.db")
    [line] = warnings(capfd)
    assert "warning: experiment again has no row: " in line
