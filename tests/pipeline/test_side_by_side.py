"""Two experiments at once, in two checkouts that share one MLflow server and one DVC cache."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders.repository import TINY, WITHOUT_SCALING, Repository, copied
from tests.interface.test_server import Server

pytestmark = pytest.mark.services

RATES = {"warm": "0.003", "hot": "0.03"}
OF_THE_RATE = {
    "data/predictions/finetune.pt",
    "models/finetuned.pt",
    "metrics/finetune.json",
    "plots/finetune/curves.csv",
}


def test_two_checkouts_that_share_server_and_cache_complete_and_are_right(tmp_path: Path, warm_python: Path) -> None:
    for name in ("server", *RATES):
        (tmp_path / name).mkdir()
    server = Server(tmp_path / "server")
    try:
        first = Repository(tmp_path / "warm", warm_python)
        first.set_params([*TINY, *WITHOUT_SCALING])
        first.commit()
        first.run("dvc", "config", "--local", "cache.dir", str(tmp_path / "cache"))
        (tmp_path / "hot").rmdir()
        checkouts = {"warm": first, "hot": copied(first, tmp_path / "hot")}
        started = {
            name: checkouts[name].start(
                *("dvc", "exp", "run", "--name", name, "--set-param", f"lr={rate}"),
                MLFLOW_TRACKING_URI=server.address,
                NO_PROXY="127.0.0.1",
            )
            for name, rate in RATES.items()
        }
        said = {name: process.communicate()[0] for name, process in started.items()}
        assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(RATES, 0), said
        warm, hot = (each.results() for each in checkouts.values())
        assert {path for path in warm if warm[path] != hot[path]} >= OF_THE_RATE
        assert not [
            path for path in warm if warm[path] != hot[path] and path.startswith(("data/predictions/b", "plots/t"))
        ]
        for name, repository in checkouts.items():
            assert repository.run("dvc", "status", "--json").stdout.strip() == "{}", name
            mirrored(server, name, repository)
        again = checkouts["hot"]
        again.run("dvc", "repro", "--force", "--single-item", "finetune")  # alone, in the end
        assert {path: again.results()[path] for path in OF_THE_RATE} == {path: hot[path] for path in OF_THE_RATE}
    finally:
        server.stop()


def mirrored(server: Server, name: str, repository: Repository) -> None:
    """MLflow has one row of the experiment, FINISHED, with what its checkout has, and its stages below it."""
    found = runs(server)
    top = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert sorted(run.info.run_name for run in top) == sorted(RATES)
    (whole,) = (run for run in top if run.info.run_name == name)
    assert whole.info.status == "FINISHED"
    assert whole.data.params["lr"] == RATES[name]
    for stage in ("baseline", "train_frozen", "finetune"):
        scores = json.loads((repository.folder / f"metrics/{stage}.json").read_text())["test"]
        assert {f"{stage}/test/{score}": value for score, value in scores.items()}.items() <= whole.data.metrics.items()
    below = [run for run in found if run.data.tags.get("mlflow.parentRunId") == whole.info.run_id]
    assert below
    assert all(run.info.run_name.endswith(f" {name}") for run in below)


def runs(server: Server) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(server.address)
    (group,) = client.search_experiments(filter_string="name = 'digits'")
    return list(client.search_runs([group.experiment_id]))
