"""`make ui`: MLflow's page on this machine, opened at the runs; experiments that DVC restored whole have a row, too.

`python -m tools.ui`; PORT=5001 takes another port. With MLFLOW_TRACKING_URI=http://… it is that server's page.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from src.base import artifacts, ports
from src.base.ports import HOST
from src.interface import console, tracking_experiments, tracking_mirror, tracking_names, tracking_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

PORT = 5000
RUNS = "runs?workflowType=machine_learning"
KEY = "answers"  # of a view that MLflow's page finds in a tag, as those of its button "Share"
VIEW, DURATION = f"mlflow.sharedViewState.{KEY}", "attributes.`Duration`"
SHOWN = ("frozen", "finetuned", "gain", "compound")  # as `make experiments` has them
DIFFERENT = 6  # columns of parameters, at most


def mirrored(uri: str) -> list[str]:
    """Give each experiment of DVC its row at `uri`; the addresses of the runs there, below the page's own.

    Raises:
        ValueError: MLflow cannot be reached, in one line.
    """
    from mlflow import MlflowClient

    try:
        if uri.startswith("sqlite"):
            tracking_store.probe(uri)
        client = MlflowClient(uri)
        for each in tracking_mirror.kept():
            try:
                if tracking_mirror.mirror(client, each):
                    console.say(f"experiment {each.name}: restored by DVC, mirrored")
            except ValueError as error:
                console.warn(f"experiment {each.name} has no row: {error}")
        groups = sorted(client.search_experiments(), key=lambda group: group.last_update_time or 0)
        links = [links_to(client, group) for group in groups]  # which makes the last one again the last that changed
        return [link for found in reversed(links) for link in found]
    except tracking_store.failures() as error:
        raise ValueError(f"MLflow at {tracking_store.shown(uri)}: {tracking_store.reason(error)}") from None


def links_to(client: "MlflowClient", group: Any) -> list[str]:
    """The runs of a dataset's experiments, as MLflow shows them, and with what differs and answers as columns."""
    runs = f"{{page}}/#/experiments/{group.experiment_id}/{RUNS}"
    top = client.search_runs([group.experiment_id], "tags.experiment_key != ''", max_results=tracking_experiments.MANY)
    if not top:
        return []
    columns = json.dumps({"selectedColumns": [DURATION, *columns_of(top)]})
    if group.tags.get(VIEW) != columns:
        client.set_experiment_tag(group.experiment_id, VIEW, columns)
    return [f"{group.name}: {runs}", f"{group.name}, with answers: {runs}&viewStateShareKey={KEY}"]


def columns_of(runs: Sequence[Any]) -> list[str]:
    """The parameters in which runs differ, lr among them, and what they answer, as MLflow's page calls columns."""
    values: dict[str, set[str | None]] = {}
    for key in dict.fromkeys(key for run in runs for key in run.data.params):
        values[key] = {run.data.params.get(key) for run in runs}
    differ = [key for key, found in values.items() if key != "lr" and len(found) > 1][: DIFFERENT - 1]
    answers = [f"{tracking_names.ANSWERS}/{name}" for name in SHOWN]
    return [f"params.`{key}`" for key in ("lr", *differ)] + [
        f"metrics.`{key}`" for key in answers if any(key in run.data.metrics for run in runs)
    ]


def main() -> None:
    sender = tracking_store.Sender()
    links = mirrored(sender.uri)
    if not links:
        raise ValueError("MLflow has no run yet: `make run` makes some")
    if sender.uri.startswith("http"):
        show(links, sender.uri.rstrip("/"))
        return
    port = ports.chosen(PORT)
    page = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", sender.uri, "--workers", "1"]
    log = artifacts.main_checkout() / "mlflow.db.log"
    with (
        log.open("w") as said,
        subprocess.Popen([*command, "--host", HOST, "--port", str(port)], stdout=said, stderr=said) as server,  # noqa: S603
    ):
        try:
            ports.wait_for(f"{page}/health", server, log)
            show(links, page)
            console.say("Ctrl-C ends it")
            server.wait()
        finally:
            server.terminate()


def show(links: list[str], page: str) -> None:
    for link in links:
        console.say(link.format(page=page))


if __name__ == "__main__":
    console.run(main)
