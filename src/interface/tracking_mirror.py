"""Experiments of DVC that MLflow has not seen to their end, as those that DVC restored whole, whose stages never ran.

What an experiment left is read from its commit: values and metrics; and, where DVC's cache still has them, its page and
what is known of its data.
"""

import csv
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from src.interface import checking, params
from src.interface import tracking_contents as contents
from src.interface import tracking_experiments as experiments
from src.interface.tracking_store import Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

CURVES = ("train_frozen", "finetune")
DOWNLOAD = "data/runs/download.json"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An experiment that DVC keeps: its commit in git, the one that it is based on, and when it ended (ms)."""

    name: str
    reference: str
    baseline: str
    ended: int


def kept() -> list[Kept]:
    """The experiments of this repository, oldest first."""
    listed = _git("for-each-ref", "--format=%(refname) %(committerdate:unix)", "refs/exps").decode()
    found = (line.split() for line in listed.splitlines())
    parts = ((name.split("/"), name, int(seconds)) for name, seconds in found)
    whole = (
        Kept(name=part[4], reference=name, baseline=part[2] + part[3], ended=1000 * seconds)
        for part, name, seconds in parts
        if len(part) == 5 and len(part[2] + part[3]) == 40  # the others are what DVC works on
    )
    return sorted(whole, key=lambda each: each.ended)


def mirror(client: "MlflowClient", each: Kept) -> bool:
    """Give the experiment the run that it lacks; False where it has one, or runs.

    Raises:
        ValueError: its params.yaml is one that this version of the project does not know.
    """
    cfg = params.parse(_git("show", f"{each.reference}:params.yaml"))
    of = experiments.described(cfg, each.name, each.baseline)
    group = client.get_experiment_by_name(of.group)
    known = experiments.keyed(client, group.experiment_id, of.key) if group else []
    if any("complete" in run.data.tags or experiments.goes_on(run) for run in experiments.same(known, of)):
        return False
    metrics = _metrics(each.reference)
    if not metrics:
        return False  # it failed, or holds no results
    sender = Sender()
    sender.start()
    _, run = experiments.opened(sender, of, each.ended)
    cache = _Cache(each.reference)
    with TemporaryDirectory() as folder:
        if facts := cache.read(DOWNLOAD):
            whole = contents.whole_dataset(of.params, json.loads(facts)["facts"], metrics["download"])
            contents.log_inputs(sender, run, [whole], json.dumps(metrics["download"]))
        for kept in contents.FOLDERS:
            cache.unpack(kept, Path(folder, kept))
        contents.log_whole(sender, run, metrics, Path(folder), each.ended)
        contents.log_curves(sender, run, _curves(each.reference), each.ended)
        sender.ask(lambda client: client.set_terminated(run.id, "FINISHED", each.ended))
        sender.close()
    return True


def _metrics(reference: str) -> dict[str, Any]:
    """Metrics by stage, of families by member, as a report logs them."""
    found: dict[str, Any] = {}
    for path in _listed(reference, "metrics/", ".json"):
        *family, stage = Path(path).relative_to("metrics").with_suffix("").parts
        into = found.setdefault(family[0], {}) if family else found
        into[stage] = json.loads(_git("show", f"{reference}:{path}"))
    return found


def _curves(reference: str) -> dict[str, list[dict[str, float]]]:
    """Epochs by stage, of stages whose epochs are their own and not those of seeds."""
    paths = (path for path in _listed(reference, "plots/", "/curves.csv") if Path(path).parent.name in CURVES)
    tables = {Path(path).parent.name: _git("show", f"{reference}:{path}").decode() for path in paths}
    return {
        stage: [{key: float(x) for key, x in row.items() if x} for row in csv.DictReader(io.StringIO(table))]
        for stage, table in tables.items()
    }


def _listed(reference: str, folder: str, ending: str) -> list[str]:
    listed = _git("ls-tree", "-r", "--name-only", reference, folder).decode().splitlines()
    return [path for path in listed if path.endswith(ending)]


class _Cache:
    """Outputs of the experiment whose commit is `reference`, as DVC's cache has them."""

    def __init__(self, reference: str) -> None:
        lock = checking.parse(_git("show", f"{reference}:dvc.lock"), "dvc.lock")
        self._digests = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
        done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True)  # noqa: S607 - the one on PATH
        self._folder = Path(done.stdout.strip() or ".dvc/cache", "files/md5")

    def read(self, path: str) -> bytes | None:
        return self._content(self._digests.get(path, ""))

    def unpack(self, path: str, into: Path) -> None:
        """Put the files of the folder `path` into `into`, or make nothing where one is missing."""
        listed = self._content(self._digests.get(path, ""))
        files = {entry["relpath"]: self._content(entry["md5"]) for entry in json.loads(listed or b"[]")}
        whole = {name: content for name, content in files.items() if content is not None}
        for name, content in whole.items() if len(whole) == len(files) else ():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_bytes(content)

    def _content(self, digest: str) -> bytes | None:
        file = self._folder / digest[:2] / digest[2:]
        return file.read_bytes() if digest and file.is_file() else None


def _git(*command: str) -> bytes:
    whole = ["git", *command]
    return subprocess.run(whole, capture_output=True, check=True).stdout  # noqa: S603 - git's own words
