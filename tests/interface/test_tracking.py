"""MLflow runs, read back with MLflow's own client; and servers and files that misbehave."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.base import artifacts
from src.base.stage_records import Recorder
from src.interface import console, params, tracking

ROOT = Path(__file__).parents[2]
METRICS = {"val": {"accuracy": 0.75, "loss": 0.5}, "best_epoch": 2}
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
    run.metrics(METRICS)
    run.curve(CURVE)
    for number in range(trials):
        run.trial(number, {"learning_rate": 0.1 / (number + 1)}, {"val_accuracy": 0.5}, CURVE)


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
    return tmp_path / "main"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a main checkout, with MLflow's tables and without a run, made once: they take seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(folder))
        tracking._Store().open("opened")
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


def test_a_stage_makes_one_run_and_a_nested_one_per_trial(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    home = used

    monkeypatch.setenv("DVC_STAGE", "tune_head")
    monkeypatch.setenv("DVC_EXP_NAME", "hot")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123abc")
    git_commit = commit(Path())
    told = record("tune_head")
    with tracking.stage(told, config()) as run:
        work(run)
        told.note(device="cpu", threads=2, source_sha256=None)
        artifacts.write_json(METRICS, home / "metrics.json")

    uri = f"sqlite:///{home}/mlflow.db"
    first, second, parent = sorted(runs(uri), key=lambda run: "trial" not in run.info.run_name)
    assert [r.info.run_name for r in (parent, first, second)] == [
        "tune_head hot",
        "tune_head hot trial 00",
        "tune_head hot trial 01",
    ]
    assert {r.info.status for r in (parent, first, second)} == {"FINISHED"}
    assert all(r.info.artifact_uri.startswith((home / "mlartifacts").as_uri()) for r in (parent, first, second))
    assert {r.data.tags["mlflow.parentRunId"] for r in (first, second)} == {parent.info.run_id}
    assert "mlflow.parentRunId" not in parent.data.tags
    assert (second.data.params, second.data.metrics["val_accuracy"]) == ({"learning_rate": "0.05"}, 0.75)

    logged = {key: value(text) for key, text in parent.data.params.items()}
    assert logged == dict(leaves(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert parent.data.params["finetune.epochs"] == str(config().finetune.epochs)
    assert {key: value for key, value in parent.data.metrics.items() if "." in key} == {
        "val.accuracy": 0.75,
        "val.loss": 0.5,
    }
    history = MlflowClient(uri).get_metric_history(parent.info.run_id, "val_accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75)]
    history = MlflowClient(uri).get_metric_history(parent.info.run_id, "gradient_norm")
    assert [(point.step, point.value) for point in history] == [(2, 1.5)]

    expected = {
        "dvc_stage": "tune_head", "dvc_exp_name": "hot", "dvc_exp_baseline_rev": "0123abc", "git_commit": git_commit,
        "device": "cpu", "threads": "2",
        "metrics_sha256": hashlib.sha256((home / "metrics.json").read_bytes()).hexdigest(),
    }  # fmt: skip
    assert expected.items() <= parent.data.tags.items()
    assert {"params_hash", "torch", "torchvision", "python", "mlflow"} <= parent.data.tags.keys()
    assert [path.name for path in home.iterdir() if path.suffix != ".json"] == ["mlflow.db"]
    assert [path.name for path in Path().iterdir()] == [".git"]  # nothing was left in the copy


def test_a_stage_that_raises_leaves_a_run_that_says_so(used: Path) -> None:
    errors = [("FAILED", FloatingPointError("no")), ("KILLED", KeyboardInterrupt()), ("KILLED", console.Terminated())]
    for _, error in errors:
        with pytest.raises(type(error)) as raised, tracking.stage(record("finetune"), config()):
            raise error
        assert raised.value is error
    found = runs(f"sqlite:///{used}/mlflow.db")
    assert [run.info.status for run in found] == [status for status, _ in errors]
    assert all(run.info.end_time for run in found)


def test_equal_params_have_one_hash_and_others_another(used: Path) -> None:
    (used / "changed.yaml").write_text((ROOT / "params.yaml").read_text().replace("seed: 0 ", "seed: 1 "))
    for path in (ROOT / "params.yaml", ROOT / "params.yaml", used / "changed.yaml"):
        with tracking.stage(record("baseline"), params.load(path)):
            pass
    first, second, changed = (run.data.tags["params_hash"] for run in runs(f"sqlite:///{used}/mlflow.db"))
    assert first == second != changed


def test_the_tracking_uri_of_the_environment_is_honoured(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = used.rename(used.with_name("elsewhere"))
    (home / "mlflow.db").rename(home / "elsewhere.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/elsewhere.db")
    with tracking.stage(record("baseline"), config()):
        pass
    assert [path.name for path in home.iterdir()] == ["elsewhere.db"]
    assert [run.info.run_name for run in runs(f"sqlite:///{home}/elsewhere.db")] == ["baseline"]


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
    [tracked] = runs(f"sqlite:///{used}/mlflow.db")
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
    assert tracking._Store().uri == expected.replace("{home}", str(home))


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
        assert file.execute("select name, status from runs").fetchall() == [("baseline", "FINISHED")]


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
    monkeypatch.setattr(tracking, "SECONDS", 1.0)
    with (
        contextlib.closing(sqlite3.connect(used / "mlflow.db")) as file,
        tracking.stage(record("finetune"), config()) as run,
    ):
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
from src.interface import console, params, tracking
from src.base.stage_records import Recorder
import mlflow, sqlalchemy  # a server is not to blame for the seconds that this takes
cfg = params.load(sys.argv[1])
began = time.monotonic()
record = Recorder("finetune", {})
with tracking.stage(record, cfg) as run:
    for number in range(5):
        run.trial(number, {"a": 1}, {"b": 2.0})
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
    monkeypatch.setattr(tracking, "SECONDS", 1.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    began = time.monotonic()
    with tracking.stage(record("finetune"), config()) as run:
        work(run, trials=20)
    assert time.monotonic() - began < 3  # the one second, on a busy machine
    assert 1 <= server.requests <= calls
    [line] = warnings(capfd)
    assert f"warning: MLflow at {server.uri}: " in line


def test_the_limit_that_the_tests_shorten_is_below_ten_seconds() -> None:
    assert tracking.SECONDS <= 8


def test_a_stage_makes_few_calls(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(well)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    with tracking.stage(record("finetune"), config()) as run:
        work(run, trials=5)
    assert 100 < len(tracking._settings(config())) <= 200  # MLflow's client sends them by the hundred
    opening, telling, closing, trial = 3 + 1, 2, 2, 3
    assert server.requests == opening + telling + closing + 5 * trial


def test_a_password_in_the_uri_is_not_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", refusing().replace("//", "//someone:secret@"))
    with tracking.stage(record("finetune"), config()):
        pass
    [line] = warnings(capfd)
    assert "secret" not in line
