"""MLflow runs: one per stage, one nested in it per trial. The only importer of mlflow.

MLflow mirrors what the files record, and can neither change nor fail a stage: what goes wrong costs SECONDS at most,
one warning, and the rest of the stage's calls. An observer: no stage depends on this file.
"""

import hashlib
import json
import math
import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.base import artifacts, distributed
from src.base.artifacts import leaves
from src.base.stage_records import Recorder, versions
from src.interface import console, params

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = Mapping[str, Any]
Pairs = Iterable[tuple[str, str]]
Points = Iterable[tuple[str, float, int]]  # name, value, step

SECONDS = 8.0  # that all calls of a stage to a server may take together; to a local file, each call
OPENING_SECONDS = 60.0  # for a local file, whose first use builds the tables
_SETTINGS = {  # read when mlflow is imported; by its own defaults a server that refuses blocks a stage 245 s a call
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs what it then raises, and we warn in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)


@contextmanager
def stage(record: Recorder, cfg: params.Params) -> Iterator["Run"]:
    """One MLflow run around a stage's work, in the MLflow experiment named after the dataset, with all of cfg.

    It ends as FINISHED, as FAILED when the block raises, or as KILLED on Ctrl-C, tagged with what `record` then holds;
    the exception goes on its way.
    """
    run = Run(record, cfg)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        run.end(status)


class Run:
    """What a stage tells MLflow."""

    def __init__(self, record: Recorder, cfg: params.Params) -> None:
        self._record = record
        self._name = " ".join(filter(None, (record.stage, os.environ.get("DVC_EXP_NAME"))))
        values = _settings(cfg)
        self._tags = _provenance(record.stage) | {"params_hash": _digest(json.dumps(values, sort_keys=True))}
        self._store = _Store()
        self._experiment = self._store.open(cfg.dataset.name)
        self._run = self._start(self._name, self._tags | versions())
        self._log(self._run, values=values.items())

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Log a nested mapping of numbers as `split.name`; a tag holds the SHA-256 of the metrics file with them."""
        written = json.dumps(values, indent=2) + "\n"
        self._log(self._run, metrics=_points(leaves(values)), tags=[("metrics_sha256", _digest(written))])

    def curve(self, rows: Iterable[Row]) -> None:
        """Log each row's numbers as metrics at step `row["epoch"]`."""
        self._log(self._run, metrics=_steps(rows))

    def trial(self, number: int, values: Row, metrics: Row, curve: Iterable[Row] = ()) -> None:
        """Log one draw of a search, its parameters `values`, its `metrics` and its `curve`, as a nested run."""
        run = self._start(f"{self._name} trial {number:02d}", self._tags | {"mlflow.parentRunId": self._run})
        self._log(run, values=_texts(values).items(), metrics=[*_points(leaves(metrics)), *_steps(curve)])
        self._store.call("set_terminated", run, "FINISHED")

    def end(self, status: str) -> None:
        """Tag the run with the record and close it as FINISHED, FAILED or KILLED."""
        record = self._record.record()
        taken = {"stage": record.stage, "seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}
        self._log(self._run, tags=_texts(taken | record.conditions).items())
        self._store.call("set_terminated", self._run, status)

    def _start(self, name: str, tags: dict[str, str]) -> str:
        run = self._store.call("create_run", self._experiment, tags=tags, run_name=name)
        return run.info.run_id if run else ""

    def _log(self, run: str, *, metrics: Points = (), values: Pairs = (), tags: Pairs = ()) -> None:
        if not run:
            return
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        points = [Metric(key, value, now, step) for key, value, step in metrics]
        self._store.call("log_batch", run, points, [Param(*pair) for pair in values], [RunTag(*pair) for pair in tags])


class _Store:
    """MLflow's client behind a limit of time: after the first failure, one warning and no further call."""

    def __init__(self) -> None:
        home = artifacts.main_checkout()
        self.uri = _resolved(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db", home)
        self.local = self.uri.startswith(("sqlite:", "sqlite+"))
        self.artifacts = (home / "mlartifacts").as_uri() if self.local else None  # None: the server decides
        self.seconds = SECONDS  # left
        self.client: MlflowClient | None = None

    def open(self, experiment: str) -> str:
        """The id of the MLflow experiment, which is made, or brought back from the bin, where necessary.

        Of many processes, the first one logs; in the others, no call does anything.
        """
        if not distributed.leads():
            return ""
        from mlflow import MlflowClient

        def connect() -> tuple[MlflowClient, str]:
            if self.local:
                _probe(self.uri)
            client = MlflowClient(self.uri)
            found = client.get_experiment_by_name(experiment)
            if found and found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return client, found.experiment_id if found else client.create_experiment(experiment, self.artifacts)

        opened = self._within(OPENING_SECONDS if self.local else SECONDS, connect)
        self.client, number = opened or (None, "")
        return number

    def call(self, method: str, *values: Any, **named: Any) -> Any:
        if self.client is None:
            return None
        call = getattr(self.client, method)
        return self._within(self.seconds, lambda: call(*values, **named))

    def _within(self, seconds: float, function: Callable[[], Any]) -> Any:
        """The result of `function`, or None after a warning where it fails or takes longer.

        It runs in a thread of its own: a socket's time-out does not stop a server that trickles, nor SQLite's a file
        that others keep locked. A thread too late is left behind; it cannot keep the process alive.
        """
        results, reasons = list[Any](), list[str]()

        def work() -> None:
            try:
                results.append(function())
            except _failures() as error:
                reasons.append(_reason(error))

        began = time.monotonic()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(seconds, 0.0))
        if not self.local:
            self.seconds -= time.monotonic() - began
        if results:
            return results[0]
        self.client = None
        where = re.sub(r"//[^/@]*@", "//", self.uri)  # no password on the screen
        reason = reasons[0] if reasons else f"no answer within {max(seconds, SECONDS):.0f} s in all"
        console.warn(f"MLflow at {where}: {reason}; this stage goes on without it, its files are complete")
        return None


def _resolved(uri: str, home: Path) -> str:
    """`uri`, where it is a relative path one below `home`: an experiment in a copy of the repository goes with it.

    In a URI, `?` begins a query and `%` a code; for `sqlite:///…`, MLflow makes a folder of the codes.
    """
    below = f"{home}/".replace("%", "%25").replace("?", "%3F")
    if found := re.match(r"sqlite:///(?!/|:memory:|file:)(.+)", uri):
        return f"{'sqlite' if below == f'{home}/' else 'sqlite+pysqlite'}:///{below}{found[1]}"
    if found := re.match(r"(?:file:)?(?!/|databricks$)([^:]+)$", uri):
        return (home / found[1]).as_uri()
    return uri


def _probe(uri: str) -> None:
    """Fail at once where SQLite's file cannot be written: MLflow would try again for minutes."""
    from sqlalchemy.engine import make_url

    with closing(sqlite3.connect(make_url(uri).database or ":memory:", timeout=SECONDS / 2)) as file:
        file.execute("begin immediate")


def _failures() -> tuple[type[Exception], ...]:
    """The families of exceptions that MLflow lets through; imported late, as mlflow is."""
    from alembic.util import CommandError
    from google.protobuf.json_format import Error
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, OSError, SQLAlchemyError, CommandError, Error, sqlite3.Error, ValueError


def _reason(error: BaseException) -> str:
    """What a person can act on: the system's or SQLite's own words if there are any, otherwise MLflow's."""
    reason, cause = error, error.__cause__ or error.__context__
    while cause is not None:
        reason = cause if isinstance(cause, OSError | sqlite3.Error) else reason
        cause = cause.__cause__ or cause.__context__
    text = (reason.strerror if isinstance(reason, OSError) else None) or str(reason) or type(reason).__name__
    return text.rpartition("(Caused by ")[2].strip().splitlines()[0][:200]


def _settings(cfg: params.Params) -> dict[str, str]:
    """All values of params.yaml, without those that arms might have of their own, and have not."""
    texts = _texts(asdict(cfg))
    return {key: text for key, text in texts.items() if text != "null" or not key.startswith("scaling_arms.")}


def _provenance(name: str) -> dict[str, str]:
    """Tags that lead from a run back to what made it."""
    environment = {key.lower(): os.environ.get(key) for key in ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")}
    tags = {"dvc_stage": os.environ.get("DVC_STAGE") or name, **environment, "git_commit": _git_commit()}
    return {key: value for key, value in tags.items() if value}


def _git_commit() -> str | None:
    try:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - a constant
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _points(pairs: Iterable[tuple[str, Any]], step: int = 0) -> Points:
    """The finite numbers among `pairs`, at `step`."""
    return [(key, float(x), step) for key, x in pairs if isinstance(x, int | float) and math.isfinite(x)]


def _steps(rows: Iterable[Row]) -> Points:
    return [p for row in rows for p in _points(((k, v) for k, v in row.items() if k != "epoch"), int(row["epoch"]))]


def _texts(values: Row) -> dict[str, str]:
    """Leaves as params.yaml writes them (null, true, [0.1, 0.2]), cut to what servers of every version take."""
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in leaves(values)}
    return {key: text[:500] for key, text in texts.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
