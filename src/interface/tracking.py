"""MLflow runs: one per experiment, its stages nested in it, trials, arms and seeds in those.

MLflow mirrors what the files record, and can neither change nor fail a stage (`tracking_store`). An observer: no stage
depends on this file. Names are those of `tracking_names`.
"""

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.base import distributed
from src.base.stage_records import Recorder, versions
from src.interface import params
from src.interface import tracking_contents as contents
from src.interface import tracking_experiments as experiments
from src.interface import tracking_names as names
from src.interface.tracking_store import Handle, Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

Row = Mapping[str, Any]


@contextmanager
def stage(record: Recorder, cfg: params.Params) -> Iterator["Run"]:
    """One MLflow run around a stage's work, in the run of its experiment, with the values that the stage was given.

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
    """What a stage tells MLflow. Of many processes, the first one does; in the others, no call does anything."""

    def __init__(self, record: Recorder, cfg: params.Params) -> None:
        self._record, self._began = record, _now()
        self._section = record.stage.partition("@")[0]
        self._name = " ".join(filter(None, (record.stage, os.environ.get("DVC_EXP_NAME"))))
        self._many: dict[tuple[str, int], Handle] = {}  # trials, candidates, seeds
        self._sent: set[tuple[Any, ...]] = set()  # epochs
        self._current: tuple[str, int] | None = None
        self._ended: set[tuple[str, int]] = set()
        self._complete = False
        self._of = experiments.described(cfg)
        self._sender = Sender()
        if distributed.leads():
            self._sender.start()
        self._group, self._parent = experiments.opened(self._sender, self._of, self._began)
        self._run = self._start(self._name, self._parent)
        self._sender.log(self._run, params=names.texts(record.params), tags=versions())

    @property
    def made(self) -> str:
        """By which experiment of DVC, or state of the workspace, at which commit, and on which day."""
        name, commit = self._of.name, self._of.tags.get("git_commit", "")[:7]
        parts = [name, commit if commit not in name else "", f"{datetime.now(UTC):%Y-%m-%d}"]
        return ", ".join(filter(None, parts))

    def given(self, files: Mapping[str, str | None]) -> None:
        """Log as inputs the splits among the files that the stage was given, which are SHA-256 by path."""
        contents.log_inputs(self._sender, self._run, contents.splits_among(files, self._of.group))

    def dataset(self, facts: Row, found: Row) -> None:
        """Log the whole dataset, by what `download` noted and counted, as an input of the experiment, too."""
        whole = contents.whole_dataset(self._of.params, facts, found)
        for run in (self._run, self._parent):
            contents.log_inputs(self._sender, run, [whole], json.dumps(found))

    def live(self, callback: Callable[[dict[str, Any]], None] = lambda row: None) -> Callable[[dict[str, Any]], None]:
        """`callback` for the row of each epoch, which also goes to MLflow, with the time at which it was made."""

        def both(row: dict[str, Any]) -> None:
            callback(row)
            self._epoch(row, _now(), waits=True)

        return both

    def curve(self, rows: Iterable[Row]) -> None:
        """Log those epochs that were not sent live: of before a kill, as old as this start of the stage."""
        for row in rows:
            self._epoch(row, self._began)

    def trial(
        self, kind: str, number: int, values: Row, metrics: Row, curve: Iterable[Row] = (), **images: int
    ) -> None:
        """Log one of a stage's trials, candidates or seeds: its parameters, its final metrics and its curve.

        Args:
            images: of each split, for intervals of shares.
        """
        run = self._one(kind, number)
        self.curve({kind: number} | dict(row) for row in curve)
        found = names.numbers(metrics, f"{self._section}/{kind}", images)
        self._sender.log(run, metrics=contents.points(found, _now()), params=names.texts(values))
        self._leave()

    def metrics(self, values: Mapping[str, Any], **images: int) -> None:
        """Log a nested mapping of numbers; a tag holds the SHA-256 of the metrics file with them.

        Args:
            images: of each split, for intervals of shares.
        """
        digest = hashlib.sha256((json.dumps(values, indent=2) + "\n").encode()).hexdigest()
        found = contents.points(names.numbers(values, self._section, images), _now())
        self._sender.log(self._run, metrics=found, tags={"metrics_sha256": digest})

    def whole(self, metrics: Mapping[str, Row], curves: Mapping[str, Iterable[Mapping[Any, Any]]]) -> None:
        """Log what all stages found, by stage, as the experiment's, which is FINISHED with this stage.

        Args:
            curves: of stages that DVC may have restored, which logged no epoch.
        """
        self._complete = True
        at, run, sender = _now(), self._parent, self._sender
        contents.log_whole(sender, run, metrics, Path(), at)
        contents.log_curves(sender, run, curves, at)

    def end(self, status: str) -> None:
        """Tag the run with the record and close it as FINISHED, FAILED or KILLED, and what is above it with it."""
        record = self._record.record()
        taken = {"seconds": record.seconds, "peak_memory_mb": record.peak_memory_mb}
        noted = {key: fact for key, fact in record.conditions.items() if key not in names.BY_FILE}
        self._sender.log(self._run, tags=names.texts(taken | noted))
        self._leave(status)
        self._close(self._run, status)
        if status != "FINISHED":
            self._sender.log(self._parent, tags={"ended_in": record.stage})
        if status != "FINISHED" or self._complete:
            self._close(self._parent, status)
        self._sender.close()

    def _epoch(self, row: Row, at: int, *, waits: bool = False) -> None:
        """Log the row of an epoch, unless it was."""
        which, epoch = names.kind_of(row), int(row["epoch"])
        if (which, epoch) in self._sent:
            return
        self._sent.add((which, epoch))
        section = f"{self._section}/{which[0]}" if which else self._section
        found = contents.points(names.of_an_epoch(row, section), at, epoch)
        for run in [self._one(*which)] if which else [self._run, self._parent]:
            self._sender.log(run, metrics=found, waits=waits)

    def _one(self, kind: str, number: int) -> Handle:
        """The run of one of many; the one before it has ended."""
        which = (kind, number)
        if self._current != which:
            self._leave()
        if which not in self._many:
            self._many[which] = self._start(f"{self._name} {kind} {number:02d}", self._run, **{kind: str(number)})
        self._current = which
        return self._many[which]

    def _leave(self, status: str = "FINISHED") -> None:
        """End the run of one of many that is open."""
        if self._current and self._current not in self._ended:
            self._ended.add(self._current)
            self._close(self._many[self._current], status)
        self._current = None

    def _start(self, name: str, parent: Handle, **more: str) -> Handle:
        """Make a run below `parent`; where a server did so and its answer was lost, the same one."""
        run, mark, at, label = Handle(), uuid.uuid4().hex, _now(), self._record.stage
        tags = {**self._of.tags, **experiments.own_tags(), **more, "stage": label, "mark": mark}
        tags |= {"dvc_stage": os.environ.get("DVC_STAGE") or label}
        tags |= {"mlflow.source.name": f"python -m stages.{label.replace('@', ' ')}"}
        tried = False

        def start(client: "MlflowClient") -> None:
            nonlocal tried
            known = client.search_runs([self._group.id], f"tags.mark = '{mark}'") if tried else []
            tried = True
            nested = tags | {"mlflow.parentRunId": parent.id}
            made = known[0] if known else client.create_run(self._group.id, start_time=at, tags=nested, run_name=name)
            run.id = made.info.run_id

        self._sender.ask(start)
        return run

    def _close(self, run: Handle, status: str) -> None:
        at = _now()
        self._sender.ask(lambda client: client.set_terminated(run.id, status, at))


def _now() -> int:
    """Milliseconds, as MLflow counts."""
    return int(time.time() * 1000)
