"""Which state of the project a name means, and what is said where it means none, or several."""

import subprocess
from pathlib import Path

import pytest

from src.report import revisions
from tests.builders.repository import IDENTITY


def git(*command: str) -> str:
    import os

    done = subprocess.run(["git", *command], capture_output=True, text=True, check=True, env=os.environ | IDENTITY)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two commits on main, and experiments: sample and gentle on the second, twice on each; their commits."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "--initial-branch=main")
    commits = []
    for number in range(2):
        git("commit", "-q", "--allow-empty", "-m", f"commit {number}")
        commits.append(git("rev-parse", "HEAD"))
    for name, base in (("sample", 1), ("gentle", 1), ("twice", 0), ("twice", 1), ("old", 0), ("workspace2", 1)):
        tree = git("commit-tree", f"{commits[base]}^{{tree}}", "-p", commits[base], "-m", f"{name} {base}")
        git("update-ref", f"refs/exps/{commits[base][:2]}/{commits[base][2:]}/{name}", tree)
    git("update-ref", "refs/exps/exec/EXEC_HEAD", commits[0])
    return commits


def test_experiments_commits_branches_and_the_workspace_are_found(repository: list[str]) -> None:
    found = revisions.find(["sample", "old", "main", repository[0][:8], "workspace"])
    assert [each.baseline for each in found] == [
        repository[1],
        repository[0],
        repository[1],
        repository[0],
        repository[1],
    ]
    assert found[2].commit == repository[1]
    assert found[4].commit is None
    assert found[0].commit not in repository


def test_of_one_name_on_two_commits_the_one_of_this_commit_is_meant(repository: list[str]) -> None:
    assert revisions.find(["twice"])[0].baseline == repository[1]


def test_of_one_name_on_two_other_commits_none_is_meant(repository: list[str]) -> None:
    git("commit", "-q", "--allow-empty", "-m", "third")
    with pytest.raises(
        ValueError, match=r"^twice is the name of 2 experiments; allowed: one of their commits, \w{7}, \w{7}$"
    ):
        revisions.find(["sample", "twice"])


def test_an_unknown_name_is_refused_with_what_there_is_and_what_was_meant(repository: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"^gentel is no experiment and no revision; allowed: workspace, a commit.*gentle"
    ):
        revisions.find(["sample", "gentel"])
    with pytest.raises(ValueError, match=r"; did you mean gentle\?$"):
        revisions.find(["gentel"])
    with pytest.raises(ValueError, match=r"^--output=x is no experiment"):
        revisions.find(["--output=x"])


def test_two_names_of_one_state_are_refused(repository: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^sample and sample are the same; allowed: two that differ"):
        revisions.find(["sample", "sample"])
    with pytest.raises(ValueError, match=r"^main and HEAD are the same"):
        revisions.find(["main", "HEAD"])


def test_without_experiments_the_way_to_one_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    with pytest.raises(ValueError, match=r"there is none yet: `make run` makes one"):
        revisions.find(["sample"])


def test_the_workspace_is_read_from_disk(repository: list[str]) -> None:
    Path("dvc.yaml").write_text("stages: {a: {cmd: 'true'}}\n")
    (own,) = revisions.find(["workspace"])
    assert own.yaml("dvc.yaml") == {"stages": {"a": {"cmd": "true"}}}
    assert own.read("nothing") is own.load("nothing.pt") is None
    assert own.yaml("dvc.lock") == {}
