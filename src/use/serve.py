"""Serve a registered model on this machine.  `python -m src.use.serve`

`mlflow models serve` does, without torch: POST http://127.0.0.1:5001/invocations. PORT=5002 takes another port. Without
a name it is the champion of what was registered last; `name@candidate` or `name/3` is another version.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from src.base import artifacts, ports
from src.base.ports import HOST
from src.interface import console, tracking_store
from src.use import registry
from src.use.registry import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

PORT = 5001  # 5000 is that of `make ui`
LOG = "mlflow.db.serve.log"
CONNECTIONS = "128"  # at a time; more are told 503
NONE = "no model is registered yet; allowed: after `make register`"


def address(client: "MlflowClient", wanted: str | None) -> str:
    """`models:/name@alias` or `models:/name/version` of what is wanted.

    Raises:
        ValueError: it is not in the registry.
    """
    found = sorted(client.search_registered_models(), key=lambda each: -(each.last_updated_timestamp or 0))
    if not found:
        raise ValueError(NONE)
    if not wanted:
        wanted = next((each.name for each in found if CHAMPION in each.aliases), found[0].name)
    asked = wanted if {"@", "/"} & set(wanted) else f"{wanted}@{CHAMPION}"
    known = [f"{each.name}@{alias}" for each in found for alias in sorted(each.aliases)]
    known += [f"{each.name}/{each.version}" for each in client.search_model_versions()]
    if asked not in known:
        raise ValueError(f"{wanted}: not in the registry; allowed: {', '.join(known)}")
    return f"models:/{asked}"


def command(model: str, port: int) -> list[str]:
    serving = ("models", "serve", "--model-uri", model, "--env-manager", "local")
    return [sys.executable, "-m", "mlflow", *serving, "--host", HOST, "--port", str(port)]


def environment(uri: str) -> dict[str, str]:
    """Of the server: MLflow starts what it finds on PATH, which reads its settings as UVICORN_*."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    limits = {"UVICORN_LIMIT_CONCURRENCY": CONNECTIONS, "UVICORN_LOG_LEVEL": "warning"}
    return {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri, **limits}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.use.serve", description=__doc__.partition("  ")[0])
    parser.add_argument("model", nargs="?", help="name, name@alias or name/version")
    asked = parser.parse_args()
    sender = tracking_store.Sender()
    client = registry.client(sender)
    try:
        model = address(client, asked.model)
    except tracking_store.failures() as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"MLflow at {sender.uri}: {tracking_store.reason(error)}") from None
    port, log = ports.chosen(PORT), artifacts.main_checkout() / LOG
    page, settings = f"http://{HOST}:{port}", environment(sender.uri)
    with (
        log.open("wb") as said,
        subprocess.Popen(command(model, port), stdout=said, stderr=said, env=settings) as server,  # noqa: S603
    ):
        try:
            ports.wait_for(f"{page}/ping", server, log)
            console.say(f"{model.removeprefix('models:/')} answers at {page}/invocations")
            console.say("to this machine alone; docs/own-images.md has a request; Ctrl-C ends it")
            server.wait()
        finally:
            server.terminate()
    raise ValueError(f"the server ended: {log} has what it said")


if __name__ == "__main__":
    console.run(main)
