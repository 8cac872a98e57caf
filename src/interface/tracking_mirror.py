"""Experiments of DVC that MLflow has not seen to their end, as those that DVC restored whole, whose stages never ran.

What an experiment left is read from its commit: values and metrics; and, where DVC's cache still has them, its page and
what is known of its data. Where only some stages ran, dvc.lock has the others as they ran before, perhaps with other
values: what those left is not the experiment's.
"""

import csv
import io
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from src.interface import checking, console, params
from src.interface import tracking_contents as contents
from src.interface import tracking_experiments as experiments
from src.interface.tracking_store import Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

CURVES = ("train_frozen", "finetune")
DOWNLOAD = "data/runs/download.json"
MIRRORED = "mirrored"  # tag: the commit whose results the run was given


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An experiment that DVC keeps: its commit in git, the one that it is based on, and when it ended (ms)."""

    name: str
    commit: str
    baseline: str
    ended: int


def kept() -> list[Kept]:
    """The experiments of this repository, oldest first."""
    listed = _git("for-each-ref", "--format=%(refname) %(objectname) %(committerdate:unix)", "refs/exps").decode()
    found = (line.split() for line in listed.splitlines())
    parts = ((name.split("/"), commit, int(seconds)) for name, commit, seconds in found)
    whole = (
        Kept(name=part[4], commit=commit, baseline=part[2] + part[3], ended=1000 * seconds)
        for part, commit, seconds in parts
        if len(part) == 5 and len(part[2] + part[3]) == 40  # the others are what DVC works on
    )
    return sorted(whole, key=lambda each: each.ended)


def mirror(client: "MlflowClient", each: Kept) -> bool:
    """Give the experiment the run that it lacks; False where it has one, or runs.

    Raises:
        ValueError: its commit lacks params.yaml or dvc.lock, or has what this version of the project does not know.
    """
    content = _read(each.commit, "params.yaml")
    of = experiments.described(params.parse(content), each.name, each.baseline)
    group = client.get_experiment_by_name(of.group)
    known = experiments.keyed(client, group.experiment_id, of.key) if group else []
    if any(_settled(run, each) for run in experiments.same(known, of)):
        return False
    left = _Left(each.commit, content)
    metrics = left.metrics()
    if not metrics:
        return False  # it failed, or holds no results
    if left.lacking:
        console.warn(
            f"experiment {each.name}: its commit has no metrics of {', '.join(left.lacking)}: mirrored without"
        )
    sender = Sender()
    sender.start()
    _, run = experiments.opened(sender, of, each.ended)
    with TemporaryDirectory() as folder:
        if (facts := left.read(DOWNLOAD)) and "download" in metrics:
            whole = contents.whole_dataset(of.params, json.loads(facts)["facts"], metrics["download"])
            contents.log_inputs(sender, run, [whole], json.dumps(metrics["download"]))
        for kept in contents.FOLDERS:
            left.unpack(kept, Path(folder, kept))
        contents.log_whole(sender, run, metrics, Path(folder), each.ended, complete=left.complete)
        contents.log_curves(sender, run, left.curves(), each.ended)
        sender.log(run, tags={MIRRORED: each.commit})
        sender.ask(lambda client: client.set_terminated(run.id, "FINISHED", each.ended))
        sender.close()
    return True


def _settled(run: Any, each: Kept) -> bool:
    """Whether there is nothing to give to the run."""
    return "complete" in run.data.tags or run.data.tags.get(MIRRORED) == each.commit or experiments.goes_on(run)


class _Left:
    """What the stages of the experiment with this commit and params.yaml left, of those that ran with these values.

    Attributes:
        lacking: such stages whose metrics the commit does not have, as where git does not track them.
        complete: whether it has a report of these values, and of all that stages found.
    """

    def __init__(self, commit: str, content: bytes) -> None:
        self._commit = commit
        lock = checking.parse(_read(commit, "dvc.lock"), "dvc.lock").get("stages") or {}
        current = _current(lock, checking.parse(content, "params.yaml"))
        outs = {name: {out["path"]: out.get("md5", "") for out in each.get("outs", [])} for name, each in lock.items()}
        self._digests = {path: digest for name in current for path, digest in outs[name].items()}
        behind = {path for paths in outs.values() for path in paths} - self._digests.keys()
        self._files = [path for path in _listed(commit) if path not in behind]
        lacking = (path for path in self._digests if _of_metrics(path) and path not in self._files)
        self.lacking = sorted({Path(path).parts[1].removesuffix(".json") for path in lacking})
        self.complete = "report" in current and not self.lacking
        done = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True)  # noqa: S607 - the one on PATH
        self._folder = Path(done.stdout.strip() or ".dvc/cache", "files/md5")

    def metrics(self) -> dict[str, Any]:
        """By stage, of families by member, as a report logs them."""
        found: dict[str, Any] = {}
        for path in filter(_of_metrics, self._files):
            *family, stage = Path(path).relative_to("metrics").with_suffix("").parts
            into = found.setdefault(family[0], {}) if family else found
            into[stage] = json.loads(_read(self._commit, path))
        return found

    def curves(self) -> dict[str, list[dict[str, float]]]:
        """Epochs by stage, of stages whose epochs are their own and not those of seeds."""
        paths = {stage: f"plots/{stage}/curves.csv" for stage in CURVES}
        tables = {stage: _read(self._commit, path).decode() for stage, path in paths.items() if path in self._files}
        return {
            stage: [{key: float(x) for key, x in row.items() if x} for row in csv.DictReader(io.StringIO(table))]
            for stage, table in tables.items()
        }

    def read(self, path: str) -> bytes | None:
        """An output of DVC's, where its cache has it."""
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


def _current(lock: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """The stages of dvc.lock that ran with the values `settings`, and on what others of them left."""
    made = {out["path"]: (name, out.get("md5")) for name, each in lock.items() for out in each.get("outs", [])}
    given = {name: {dep["path"]: dep.get("md5") for dep in each.get("deps", [])} for name, each in lock.items()}
    then = {name: each.get("params", {}).get("params.yaml", {}) for name, each in lock.items()}
    found = {name for name, own in then.items() if all(_at(settings, key) == value for key, value in own.items())}

    def fits(name: str) -> bool:
        own = [(*made[path], md5) for path, md5 in given[name].items() if path in made]
        return all(maker in found and left == md5 for maker, left, md5 in own)

    while (fitting := {name for name in found if fits(name)}) != found:
        found = fitting
    return found


def _at(settings: Any, name: str) -> Any:
    for part in name.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def _of_metrics(path: str) -> bool:
    return path.startswith("metrics/") and path.endswith(".json")


def _listed(commit: str) -> list[str]:
    return _git("ls-tree", "-r", "--name-only", commit, "metrics/", "plots/").decode().splitlines()


def _read(commit: str, path: str) -> bytes:
    """The file `path` of `commit`.

    Raises:
        ValueError: it has none.
    """
    try:
        return _git("show", f"{commit}:{path}")
    except subprocess.CalledProcessError:
        raise ValueError(f"its commit {commit[:7]} has no {path}; allowed: one of a pipeline that ran") from None


def _git(*command: str) -> bytes:
    whole = ["git", *command]
    return subprocess.run(whole, capture_output=True, check=True).stdout  # noqa: S603 - git's own words
