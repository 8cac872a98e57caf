"""Where MLflow's runs lie, and the thread that sends to it: a stage asks, and does not wait.

What goes wrong costs the stage one warning, and SECONDS at its end. A server that stops answering is asked again every
RETRY seconds, so that one which comes back while the stage runs misses nothing.
"""

import hashlib
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from src.base import artifacts
from src.interface import console

if TYPE_CHECKING:
    from mlflow import MlflowClient

Point = tuple[str, float, int, int]  # name, value, milliseconds, step
Job = Callable[[Any], None]  # given the client

SECONDS = 8.0  # that the end of a stage waits for a server; for a local file, for each call
OPENING_SECONDS = 60.0  # for a local file, whose first use builds the tables
PACE = 2.0  # between two messages about a training that goes on
RETRY = 5.0  # until a server that did not answer is asked again
_SETTINGS = {  # read when mlflow is imported; by its own defaults a server that refuses blocks a stage 245 s a call
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "6",  # seconds; a busy server takes that, and the stage does not wait
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it logs what it then raises, and we warn in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)


@dataclass
class Handle:
    """A run, or an experiment, of MLflow; `id` is empty until the thread has made it."""

    id: str = ""


@dataclass
class _Log:
    """What is to be logged of one run, while nothing but logs is asked in between."""

    run: Handle
    metrics: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    waits: bool = False  # for more of its kind, for PACE

    def __call__(self, client: "MlflowClient") -> None:
        from mlflow.entities import Metric, Param, RunTag

        params, tags = [Param(*pair) for pair in self.params.items()], [RunTag(*pair) for pair in self.tags.items()]
        client.log_batch(self.run.id, [Metric(*point) for point in self.metrics], params, tags)


class Sender:
    """Does in order, in a thread of its own, what it is asked; the first thing it does is to connect."""

    def __init__(self) -> None:
        home = artifacts.main_checkout()
        self.uri = resolved(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db", home)
        self.local = self.uri.startswith(("sqlite:", "sqlite+"))
        self.artifacts = (home / "mlartifacts").as_uri() if self.local else None  # None: the server decides
        self.lock = lock_of(self.uri)
        self._asked = deque[Job]()
        self._changed = threading.Condition()
        self._closing = self._ended = self._warned = False
        self._done, self._sent = 0, -PACE
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        from mlflow import MlflowClient  # in this thread: two that import may see half a module

        def connected() -> MlflowClient:
            if self.local:
                probe(self.uri)
            return MlflowClient(self.uri)

        self._thread = threading.Thread(target=self._work, args=(connected,), daemon=True)
        self._thread.start()

    def ask(self, job: Job) -> None:
        """Do `job` after all that was asked before. It may be done again, where nobody knows whether it was done."""
        with self._changed:
            if self._thread:
                self._asked.append(job)
                self._changed.notify_all()

    def log(self, run: Handle, *, waits: bool = False, **more: Any) -> None:
        """Log `metrics`, `params` and `tags` of `run`; what `waits` goes with what follows within PACE."""
        with self._changed:
            if not self._thread:
                return
            logs = takewhile(lambda job: isinstance(job, _Log), reversed(self._asked))
            last = next((job for job in logs if isinstance(job, _Log) and job.run is run), None)
            if last is None:
                last = _Log(run, waits=True)
                self._asked.append(last)
            last.metrics += more.get("metrics", [])
            last.params |= more.get("params", {})
            last.tags |= more.get("tags", {})
            last.waits &= waits
            self._changed.notify_all()

    def close(self) -> None:
        """Wait, but not for long, until all is done."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._thread and not self._ended:
                done, seconds = self._done, OPENING_SECONDS if self.local and not self._done else SECONDS
                if not self._changed.wait_for(lambda: self._ended or (self.local and self._done > done), seconds):  # noqa: B023
                    self._ended = True
                    self._warn(f"no answer within {SECONDS:.0f} s in all")

    def _work(self, connected: "Callable[[], MlflowClient]") -> None:
        client: MlflowClient | None = None

        def connect(_: Any) -> None:
            nonlocal client
            client = connected()

        job: Job | None = connect
        try:
            while job and self._carried_out(job, lambda: client):
                job = self._next()
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _next(self) -> Job | None:
        """What is to be done now, or None at the end."""
        with self._changed:
            self._done += 1
            self._changed.notify_all()
            while not self._ended:
                first = self._asked[0] if self._asked else None
                waits = all(isinstance(job, _Log) and job.waits for job in self._asked)
                left = self._sent + PACE - time.monotonic() if waits else 0.0
                if first and (self._closing or left <= 0):
                    self._sent = time.monotonic()
                    return self._asked.popleft()
                if self._closing:
                    return None
                self._changed.wait(left if first else None)
        return None

    def _carried_out(self, job: Job, client: Callable[[], Any]) -> bool:
        """Whether `job` was done; a server is tried again until the stage ends, and then once more if no try is on."""
        while not self._ended:
            try:
                job(client())
                return True
            except failures() as error:
                if self._ended:
                    return False
                self._warn(reason(error))
                if self.local or self._closing or not _of_the_network(error):
                    return False
            with self._changed:
                self._changed.wait_for(lambda: self._closing, RETRY)
        return False

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            console.warn(f"MLflow at {shown(self.uri)}: {why}; this stage goes on without it, its files are complete")


def resolved(uri: str, home: Path) -> str:
    """`uri`, where it is a relative path one below `home`: an experiment in a copy of the repository goes with it.

    In a URI, `?` begins a query and `%` a code; for `sqlite:///…`, MLflow makes a folder of the codes.
    """
    below = f"{home}/".replace("%", "%25").replace("?", "%3F")
    if found := re.match(r"sqlite:///(?!/|:memory:|file:)(.+)", uri):
        return f"{'sqlite' if below == f'{home}/' else 'sqlite+pysqlite'}:///{below}{found[1]}"
    if found := re.match(r"(?:file:)?(?!/|databricks$)([^:]+)$", uri):
        return (home / found[1]).as_uri()
    return uri


def shown(uri: str) -> str:
    """`uri` without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def lock_of(uri: str) -> Path:
    """The file that all checkouts on this machine lock that send there: beside a local file, else among temporary ones.

    Of a server, one for each user: where it does not reach, `find_or_make` looks again.
    """
    if found := re.match(r"sqlite[^:]*:///(?!:memory:|file:)([^?]+)", uri):
        return Path(unquote(found[1]) + ".lock")
    return Path(tempfile.gettempdir(), f"mlflow-{os.getuid()}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}.lock")


def probe(uri: str) -> None:
    """Fail at once where SQLite's file cannot be written: MLflow would try again for minutes."""
    from sqlalchemy.engine import make_url

    with closing(sqlite3.connect(make_url(uri).database or ":memory:", timeout=SECONDS / 2)) as file:
        file.execute("begin immediate")


def failures() -> tuple[type[Exception], ...]:
    """The families of exceptions that MLflow lets through, as where a database's module is missing; imported late."""
    from alembic.util import CommandError
    from google.protobuf.json_format import Error
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, OSError, SQLAlchemyError, CommandError, Error, sqlite3.Error, ValueError, ImportError


def _chain(error: BaseException | None) -> list[BaseException]:
    return [error, *_chain(error.__cause__ or error.__context__)] if error else []


def _of_the_network(error: BaseException) -> bool:
    """Whether a server did not answer, or only that it was ill; what it refuses, it refuses again."""
    ill = getattr(error, "error_code", "") in {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"}
    return any(isinstance(each, OSError) for each in _chain(error)) or (ill and "HTTP" in str(error))


def reason(error: BaseException) -> str:
    """What a person can act on: the system's or SQLite's own words if there are any, otherwise MLflow's."""
    found = [each for each in _chain(error) if isinstance(each, OSError | sqlite3.Error)]
    first = found[-1] if found else error
    text = (first.strerror if isinstance(first, OSError) else None) or str(first) or type(first).__name__
    return text.rpartition("(Caused by ")[2].strip().splitlines()[0][:200]
