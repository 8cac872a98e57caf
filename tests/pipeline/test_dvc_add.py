"""A person's images in DVC instead of git: README's command for each layout works, and the pipeline watches them."""

import re
import subprocess
from pathlib import Path

import pytest

from src.base import artifacts
from src.base.splits import SPLITS
from tests.builders.data import encoded, photos, pixels, write_folder
from tests.builders.repository import ROOT, Repository

SETTINGS = ("dataset.name=folder", "dataset.image_size=8", "dataset.val_fraction=0.25")
FLAT = {name.removeprefix("train/"): content for name, content in photos(train=9, test=0).items()}
LAYOUTS = {
    "photos": {f"photos/{name}": content for name, content in FLAT.items()},
    "train": photos(train=6, test=3),
    "*/": FLAT,
}
COMMANDS = re.findall(r"^(dvc add data/source\S+[^#\n]*?) *#", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_readme_has_a_command_for_each_layout() -> None:
    assert [command.split()[2].removeprefix("data/source/") for command in COMMANDS] == list(LAYOUTS)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_readmes_command_gives_the_images_to_dvc_and_the_study_runs_as_before(command: str, tmp_path: Path) -> None:
    files = LAYOUTS[command.split()[2].removeprefix("data/source/")]
    repository = Repository(tmp_path)
    write_folder(files, tmp_path / "data/source")
    environment = repository.environment()
    whole = subprocess.run(["dvc", "add", "data/source"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert whole.returncode == 1
    assert "'data/source' is already tracked by SCM" in whole.stderr
    repository.run("bash", "-c", command)
    repository.git("add", "data/source")
    assert not [name for name in repository.git("ls-files", "data/source").splitlines() if name.endswith(".png")]
    repository.set_params(SETTINGS)
    repository.commit()

    assert repository.repro("download") == ["download"]
    found = artifacts.read_json(tmp_path / "metrics/download.json")
    assert sum(found[split]["images"] for split in SPLITS) == len(files) == 18
    assert repository.repro("download") == []
    edited = tmp_path / "data/source" / min(files)
    edited.unlink()
    edited.write_bytes(encoded(pixels(8, 8, 99)))
    assert repository.repro("download") == ["download"]
    repository.commit()
    said = repository.run("dvc", "exp", "run", "--temp", "-S", "dataset.split_seed=1", "download").stdout
    assert "Running stage 'download'" in said
