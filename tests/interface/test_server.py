"""MLflow's own server, on this machine: what a stage logs over HTTP is what it would log into a file."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from src.interface import tracking, tracking_store
from tests.interface.test_tracking import CURVE, config, record, work

pytestmark = pytest.mark.services

SECONDS = 300.0  # until a server that does not answer has failed


class Server:
    """A server that keeps its runs in `folder`; started again, it has the same address and runs."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder, self.address = folder, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        store = ("--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db")
        store += ("--artifacts-destination", str(self.folder / "artifacts"))
        command = (sys.executable, "-m", "mlflow", "server", *where, *store)
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + SECONDS
        while not _answers(f"{self.address}/health"):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.2)

    def send(self, number: int) -> None:
        os.killpg(self.process.pid, number)  # and its workers

    def stop(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait(SECONDS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "server").mkdir()
    found = Server(tmp_path / "server")
    yield found
    found.stop()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def experiment(uri: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    found = client.search_experiments(filter_string="name = 'cifar10'")
    assert len(found) <= 1
    return list(client.search_runs([found[0].experiment_id])) if found else []


def heard(server: Server, epoch: int) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        runs = experiment(server.address)
    except MlflowException:  # a server that was stopped closes idle connections as it goes on, this one among them
        return False
    return any(each.data.metrics.get("finetune/epoch/loss") == epoch for each in runs)


def test_a_stage_logs_to_a_server_what_it_would_log_to_a_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tracking_store, "SECONDS", SECONDS)  # this is not about a slow server
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/report.html").write_text("a page")
    found = []
    for uri in (server.address, f"sqlite:///{tmp_path}/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with tracking.stage(record("report"), config()) as run:
            work(run)
            run.whole({}, {"finetune": CURVE})
        runs = experiment(uri)
        found.append(
            sorted((each.info.run_name, each.info.status, each.data.metrics, each.data.params) for each in runs)
        )
        (whole,) = (each.info.run_id for each in runs if "mlflow.parentRunId" not in each.data.tags)
        client = MlflowClient(uri)
        assert [file.path for file in client.list_artifacts(whole, "reports")] == ["reports/report.html"]
    assert found[0] == found[1]
    assert len(found[0]) == 4
    (trial,) = (each.info.run_id for each in runs if each.info.run_name.endswith("trial 01"))
    history = client.get_metric_history(trial, "report/trial/epoch/val_accuracy")
    assert {point.value for point in history} == {row["val_accuracy"] for row in CURVE}


def test_a_server_that_hangs_and_is_started_again_misses_nothing_and_costs_one_warning(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setattr(tracking_store, "SECONDS", SECONDS)
    monkeypatch.setattr(tracking_store, "RETRY", 1.0)
    monkeypatch.setattr(tracking_store, "PACE", 0.1)

    def await_epoch(epoch: int) -> None:
        deadline = time.monotonic() + SECONDS
        while not heard(server, epoch):
            assert time.monotonic() < deadline, f"epoch {epoch} did not arrive"
            time.sleep(0.2)

    with tracking.stage(record("finetune"), config()) as run:
        live = run.live()
        live({"epoch": 1, "loss": 1.0})
        await_epoch(1)
        server.send(signal.SIGSTOP)
        began = time.monotonic()
        live({"epoch": 2, "loss": 2.0})
        run.trial("trial", 0, {"a": 1}, {"val": {"accuracy": 0.5}})
        assert time.monotonic() - began < 1, "a stage does not wait"
        time.sleep(6)  # longer than an answer may take
        server.send(signal.SIGCONT)
        live({"epoch": 3, "loss": 3.0})
        await_epoch(3)
        server.stop()
        live({"epoch": 4, "loss": 4.0})
        time.sleep(2)
        server.start()
    runs = experiment(server.address)
    status = sorted((each.info.run_name.partition(" ")[0], each.info.status) for each in runs)
    assert status == [("finetune", "FINISHED"), ("finetune", "FINISHED"), ("workspace", "RUNNING")]
    (stage,) = (each.info.run_id for each in runs if each.info.run_name == "finetune")
    points = MlflowClient(server.address).get_metric_history(stage, "finetune/epoch/loss")
    assert sorted((point.step, point.value) for point in points) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    [line] = capfd.readouterr().err.splitlines()
    assert f"warning: MLflow at {server.address}: " in line
