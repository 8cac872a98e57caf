"""make says in one line what a machine lacks, before it does anything; what is installed is not installed again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def checkout(folder: Path, *, git: bool = True, commit: bool = True) -> Path:
    """What make needs of this project, under git or not."""
    for path in (ROOT / "Makefile", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    person = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-c", "commit.gpgsign=false"]
    for command in [["init", "-q"], ["add", "-A"], [*person, "commit", "-qm", "start"]][: git * (2 + commit)]:
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True, timeout=60)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that make ended with, and nothing else."""
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("target", ["run", "test", "test-all", "lint", "bench"])
def test_a_folder_without_git_such_as_a_zip_gets_one_line(target, tmp_path):
    assert "'git init && git add -A && git commit -m start'" in complaint(make(checkout(tmp_path, git=False), target))


def test_a_repository_without_a_commit_gets_one_line(tmp_path):
    assert "'git add -A && git commit -m start'" in complaint(make(checkout(tmp_path, commit=False), "run"))


def test_a_broken_repository_gets_one_line(tmp_path):
    (checkout(tmp_path) / ".git/HEAD").unlink()
    assert "git cannot use this repository: fatal:" in complaint(make(tmp_path, "run"))


def test_a_python_that_is_not_there_gets_one_line(tmp_path):
    assert "python9 not found: install Python 3.11" in complaint(make(checkout(tmp_path), "run", "PYTHON=python9"))


def test_an_old_python_gets_one_line(tmp_path):
    old = checkout(tmp_path) / "old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit\nexit 1\n')
    old.chmod(0o755)
    line = complaint(make(tmp_path, "run", f"PYTHON={old}"))
    assert "old is Python 3.9.1, and 3.11 or newer is needed" in line


def test_a_python_without_its_venv_module_gets_one_line(tmp_path):
    (tmp_path / "less").mkdir()
    (tmp_path / "less/ensurepip.py").write_text("raise ImportError\n")
    line = complaint(make(checkout(tmp_path), "run", PYTHONPATH=str(tmp_path / "less")))
    assert "apt install python3-venv" in line


@pytest.mark.parametrize("arguments", [["RECIPE=fast"], []])
def test_an_unknown_recipe_gets_one_line_that_lists_the_recipes(arguments, tmp_path):
    line = complaint(make(checkout(tmp_path), "study", *arguments))
    assert all(recipe.stem in line for recipe in (ROOT / "recipes").glob("*.txt"))


@pytest.mark.parametrize("target", ["run", "test", "lint", "bench", "study"])
def test_what_is_installed_is_not_installed_again(target, tmp_path):
    (checkout(tmp_path) / ".venv").mkdir()
    for stamp in (".created", ".run-installed", ".dev-installed", ".bench-installed"):
        (tmp_path / ".venv" / stamp).touch()
    planned = make(tmp_path, "--dry-run", target, "RECIPE=sample")
    assert planned.returncode == 0
    assert "pip" not in planned.stdout
    assert "venv .venv" not in planned.stdout


def test_torch_and_torchvision_come_from_the_index_that_is_named_in_one_command(tmp_path):
    (checkout(tmp_path) / ".venv").mkdir()
    (tmp_path / ".venv/.created").touch()
    planned = make(tmp_path, "--dry-run", ".venv/.run-installed", "TORCH_INDEX=https://example.org/cpu").stdout
    first, second, *_ = [line for line in planned.splitlines() if "pip" in line]
    assert "--index-url https://example.org/cpu $(grep -E '^torch(vision)?==' requirements.txt)" in first
    assert second.endswith("-r requirements.txt")


def test_a_first_experiment_is_not_met_by_a_warning_for_each_output(tmp_path):
    """What make leaves in the environment is read at each start of its Python; DVC goes on warning of all else."""
    (checkout(tmp_path) / ".venv").mkdir()
    (tmp_path / ".venv/.created").touch()
    planned = make(tmp_path, "--dry-run", ".venv/.run-installed").stdout
    (line,) = [line for line in planned.splitlines() if line.endswith("/first_experiment.pth")]
    (tmp_path / "first_experiment.pth").write_text(line.split('"')[1] + "\n")
    script = (
        f"import logging, site; site.addsitedir({str(tmp_path)!r}); from dvc.logger import setup; setup(); "
        "[logging.getLogger(name).warning(name) for name in ('dvc_data.index.checkout', 'dvc_data.index.other')]"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(done.stderr.splitlines()) == {"WARNING: dvc_data.index.other"}


def test_clean_resume_empties_resume_and_nothing_else(tmp_path):
    checkpoint = checkout(tmp_path) / ".resume/finetune/0123456789abcdef/checkpoint.00000001.0123456789abcdef.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / ".resume")}
    assert make(tmp_path, "clean-resume").returncode == 0
    assert not list(tmp_path.glob(".resume/**/*"))
    assert {path for path in tmp_path.rglob("*") if path != tmp_path / ".resume"} == before


def test_help_names_every_target(tmp_path):
    listed = make(checkout(tmp_path)).stdout
    for target in (
        "run",
        "study",
        "compare",
        "experiments",
        "sweep",
        "check",
        "test",
        "test-all",
        "lint",
        "bench",
        "clean-resume",
    ):
        assert f"make {target} " in listed
