"""Which experiment a stage belongs to, and the one run of MLflow that stands for it, with the stages nested below.

A run that a kill left open is closed by the next start on the same machine: each carries the process that owns it.
"""

import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil

from src.base import artifacts
from src.interface import params
from src.interface.tracking_names import overrides, settings
from src.interface.tracking_store import Handle, Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

CODE = ("src", "stages", "dvc.yaml")  # whose uncommitted edits a commit does not name
MANY = 1000  # runs of one answer


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What one `dvc exp run`, or one state of the workspace, is to MLflow.

    Attributes:
        key: tells it from all others; two that differ in it have a run each.
        name: of its run: the DVC experiment's, or "workspace" and the commit.
        group: the MLflow experiment that it is in, named after the dataset.
        params: all values of params.yaml, as texts.
        tags: of each of its runs.
        note: Markdown: which experiment of DVC it is, and the command that reproduces it.
    """

    key: str
    name: str
    group: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    note: str


def described(cfg: params.Params, name: str | None = None, revision: str | None = None) -> Experiment:
    """The experiment `name` of DVC, based on the commit `revision`; by default what this process runs in."""
    values, head, edited = settings(cfg), revision, ""
    if not name:
        name, revision = os.environ.get("DVC_EXP_NAME"), os.environ.get("DVC_EXP_BASELINE_REV")
        head, edited = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no", "--", *CODE)
    commit = revision or head or ""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    place = f"{socket.gethostname()}:{artifacts.main_checkout()}"
    tags = {"dvc_exp_name": name, "dvc_exp_baseline_rev": name and commit, "git_commit": head, "params_hash": digest}
    tags |= {"mlflow.source.type": "LOCAL", "mlflow.source.git.commit": head}
    return Experiment(
        key=f"{name} on {commit}" if name else f"{place} at {commit} with {digest}",
        name=name or f"workspace {commit[:7]}".strip(),
        group=cfg.dataset.name,
        params=values,
        tags={key: value for key, value in tags.items() if value},
        note=_note(cfg, name, commit, edited=bool(edited)),
    )


def _note(cfg: params.Params, name: str | None, commit: str, *, edited: bool) -> str:
    what = f"DVC experiment `{name}`" if name else "A run of the workspace (`dvc repro`), no DVC experiment,"
    lines = [f"{what} on revision `{commit or 'unknown'}`."]
    try:
        base = asdict(params.parse(_git("show", f"{commit}:params.yaml").encode()))
    except ValueError:  # params.yaml as another version of this project had it, or no commit at all
        base = None
    if base is not None and commit:
        changes = [f"-S {shlex.quote(change)}" for change in overrides(base, asdict(cfg))]
        command = " ".join(["dvc exp run", *([f"-n {shlex.quote(name)}"] if name else []), *changes])
        lines += ["Reproduce it:", f"```\ngit checkout {commit}\n{command}\n```"]
    if name:
        lines += [f"Bring back its values and results, where DVC still has them: `dvc exp apply {shlex.quote(name)}`"]
    if edited:
        lines += ["Edits of code that were not committed went into it."]
    return "\n\n".join(lines)


def _git(*command: str) -> str:
    """What git says, or nothing where it says no."""
    try:
        whole = ["git", *command]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603 - git's own words
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip()


def own_tags() -> dict[str, str]:
    """Of a run that this process makes and ends."""
    return _owner(psutil.Process())


def _owner(process: psutil.Process) -> dict[str, str]:
    return {"host": socket.gethostname(), "owner": f"{process.pid} {process.create_time():.0f}"}


def _starter() -> psutil.Process:
    """DVC, which starts a stage and gives it DVC_STAGE; this process itself, where a person started it."""
    process = psutil.Process()
    try:
        while "DVC_STAGE" in process.environ() and (parent := process.parent()):
            process = parent
    except psutil.Error:
        return psutil.Process()
    return process


def alive(tags: Mapping[str, str]) -> bool:
    number, _, began = tags.get("owner", "").partition(" ")
    try:
        return bool(abs(psutil.Process(int(number)).create_time() - float(began)) < 2)
    except (psutil.Error, ValueError):
        return False


def open_group(client: "MlflowClient", name: str, place: str | None) -> str:
    """The id of the MLflow experiment `name`, which is made, or brought back from the bin, where necessary."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if not found:
        try:
            return client.create_experiment(name, place)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if not found:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def close_abandoned(client: "MlflowClient", group: str, key: str) -> None:
    """End what processes of this machine left open that are no more: KILLED; the run `key` goes on instead.

    A stage is FINISHED where its experiment is, or goes on under the same `dvc`, which would have stopped at another
    end: MLflow was only not told in time. Of a `dvc` that still runs elsewhere, its own next stage says so.
    """
    running = f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"
    left = {run.info.run_id: run for run in client.search_runs([group], running, max_results=MANY)}
    above = {number: run.data.tags.get("mlflow.parentRunId", "") for number, run in left.items()}
    dead = [number for number, run in left.items() if not alive(run.data.tags)]
    starter, killed = _owner(_starter())["owner"], {}
    for number in (number for number in dead if above[number]):
        top = above[number]
        while above.get(top):
            top = above[top]
        whole = left.get(top) or client.get_run(top)
        well = whole.info.status == "FINISHED" or whole.data.tags.get("owner") == starter
        if well or not goes_on(whole):
            client.set_terminated(number, "FINISHED" if well else "KILLED")
        if not well:
            killed[top] = left[number].data.tags.get("stage", "")
    for number in (number for number in dead if not above[number]):
        if left[number].data.tags.get("experiment_key") != key:
            client.set_terminated(number, "KILLED" if number in killed else "FINISHED")
            if number in killed:
                client.set_tag(number, "ended_in", killed[number])


def find_or_make(client: "MlflowClient", sender: Sender, group: str, of: Experiment, at: int) -> str:
    """The id of the run of `of`, RUNNING, begun `at` (ms) if it is new; two processes that begin together get one.

    A run of an experiment that DVC has replaced by another of its name keeps its results and loses its key. Not so one
    that still runs, as in another checkout, where somebody chose the same name.
    """
    owner = _owner(_starter())
    with artifacts.locked(sender.lock, wait=True):
        known = keyed(client, group, of.key)
        for run in same(known, of):
            number = run.info.run_id
            for key, value in (owner | {"mlflow.note.content": of.note}).items():
                client.set_tag(number, key, value)
            if "ended_in" in run.data.tags:
                client.delete_tag(number, "ended_in")
            client.update_run(number, status="RUNNING")
            return str(number)
        for run in known:
            if not goes_on(run):
                client.update_run(run.info.run_id, name=f"{run.info.run_name} (replaced)")
                client.set_tag(run.info.run_id, "experiment_key", f"{of.key}, replaced {time.time():.0f}")
        tags = {**of.tags, **owner, "experiment_key": of.key, "mlflow.source.name": "dvc.yaml"}
        tags |= {"mlflow.note.content": of.note}
        made = client.create_run(group, start_time=at, tags=tags, run_name=of.name).info.run_id
        first = [run.info.run_id for run in same(keyed(client, group, of.key), of)][:1] or [made]
    if first != [made]:  # of another machine, which no lock reaches
        client.delete_run(made)
    return str(first[0])


def goes_on(run: Any) -> bool:
    """Whether a process works on it; of another machine's, nobody here knows better than MLflow."""
    tags = run.data.tags
    return run.info.status == "RUNNING" and (tags.get("host") != socket.gethostname() or alive(tags))


def same(known: list[Any], of: Experiment) -> list[Any]:
    """Those of `known` with the values of `of`."""
    return [run for run in known if run.data.tags.get("params_hash") == of.tags["params_hash"]]


def keyed(client: "MlflowClient", group: str, key: str) -> list[Any]:
    """Runs with this key, oldest first.

    MLflow's filters cannot say every text, as one with both kinds of quotes: for what it may read otherwise stands a
    wildcard, and of what that finds, only the same is taken.
    """
    pattern = re.sub(r"[^\w \-:/.]", "_", key)
    what = f"tags.experiment_key {'=' if pattern == key else 'LIKE'} '{pattern}'"
    order = ["attributes.start_time ASC", "attributes.run_id ASC"]
    found = client.search_runs([group], what, order_by=order, max_results=MANY)
    return [run for run in found if run.data.tags.get("experiment_key") == key]


def opened(sender: Sender, of: Experiment, at: int) -> tuple[Handle, Handle]:
    """The MLflow experiment and the run of `of`, begun `at` (ms) if it is new, with the values of params.yaml."""
    group, parent = Handle(), Handle()

    def open_it(client: "MlflowClient") -> None:
        group.id = open_group(client, of.group, sender.artifacts)
        close_abandoned(client, group.id, of.key)
        parent.id = find_or_make(client, sender, group.id, of, at)

    sender.ask(open_it)
    sender.log(parent, params=dict(of.params))
    return group, parent
