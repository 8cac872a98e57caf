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
from urllib.error import URLError

import pytest

from src.interface import tracking
from tests.interface.test_tracking import CURVE, config, record, work

pytestmark = pytest.mark.services

SECONDS = 300.0  # until a server that does not answer has failed


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that keeps its runs in a folder of its own."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = (
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--default-artifact-root",
        str(folder / "artifacts"),
    )
    command = (
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        *store,
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
    while not _answers(f"{address}/health"):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.2)
    yield address
    os.killpg(process.pid, signal.SIGTERM)  # and its workers
    process.wait(SECONDS)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def test_a_stage_logs_to_a_server_what_it_would_log_to_a_file(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tracking, "SECONDS", SECONDS)  # this is not about a slow server
    found = []
    for uri in (server, f"sqlite:///{tmp_path}/mlflow.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with tracking.stage(record("finetune"), config()) as run:
            work(run)
        client = MlflowClient(uri)
        (experiment,) = client.search_experiments(filter_string="name = 'cifar10'")
        runs = client.search_runs([experiment.experiment_id])
        found.append(
            sorted((each.info.run_name, each.info.status, each.data.metrics, each.data.params) for each in runs)
        )
    assert found[0] == found[1]
    assert len(found[0]) == 3
    history = client.get_metric_history(runs[-1].info.run_id, "val_accuracy")
    assert {point.value for point in history} >= {row["val_accuracy"] for row in CURVE}
