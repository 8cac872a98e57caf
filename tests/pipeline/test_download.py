"""The download stage as a person runs it: what it writes, every bad input by its message, and kill -9 half-way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from src import expectations
from src.base import artifacts
from src.base.splits import SPLITS, load_split, save_split
from src.data import datasets, splitting
from stages import download
from tests.builders.data import (
    Mirror,
    archive,
    dataset,
    photos,
    serving,
    small_cifar10,
    wait_until,
    write_archive,
    write_folder,
)

ROOT = Path(__file__).parents[2]
CIFAR10, *_ = small_cifar10()
TABLE = {"cifar10": (archive(CIFAR10),)}


@pytest.fixture(autouse=True)
def _in_a_checkout_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # refuses at once
    monkeypatch.setattr(expectations, "announce", lambda _: None)  # measures networks; test_expectations.py


def set_params(**changes: object) -> None:
    """params.yaml in the working directory: another dataset, and a network whose expected time is measured soon."""
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("name: efficientnet_b0", "name: efficientnet_pico").replace(
        "resolution: native", "resolution: 32"
    )
    start, end = text.index("dataset:\n"), text.index("backbone:\n")
    lines = [f"  {key}: {json.dumps(value)}\n" for key, value in vars(dataset(**changes)).items()]  # type: ignore[arg-type]
    Path("params.yaml").write_text(text[:start] + "dataset:\n" + "".join(lines) + text[end:])


def test_the_stage_writes_the_splits_the_counts_and_the_record(tmp_path: Path) -> None:
    files = photos()
    files["test/cat/00.png"] = files["train/cat/00.png"]
    write_archive(files, tmp_path / "my photos.zip")
    set_params(source=str(tmp_path / "my photos.zip"))
    download.main()
    found = artifacts.read_json("metrics/download.json")
    assert {name: found[name]["images"] for name in SPLITS} == {"train": 6, "val": 2, "test": 4}
    assert found["across"]["train_test"] + found["across"]["val_test"] == 1
    facts = artifacts.read_json("data/runs/download.json")["facts"]
    assert facts["source"] == str(tmp_path / "my photos.zip")
    assert facts["source_sha256"] == hashlib.sha256((tmp_path / "my photos.zip").read_bytes()).hexdigest()
    splits = {name: load_split(f"data/images/{name}.pt") for name in SPLITS}
    assert splitting.describe(splits) | {"skipped": 0} == found


def test_images_without_splits_are_split_and_what_was_left_out_is_recorded(tmp_path: Path) -> None:
    files = {name.removeprefix("train/"): content for name, content in photos(train=9, test=0).items()}
    write_archive(files | {"cat/copy.png": files["cat/00.png"], "dog/notes.txt": b"hello"}, tmp_path / "mine.zip")
    set_params(source=str(tmp_path / "mine.zip"), bad_files="skip")
    download.main()
    found, facts = artifacts.read_json("metrics/download.json"), artifacts.read_json("data/runs/download.json")["facts"]
    assert sum(found[name]["images"] for name in SPLITS) == 19
    assert found["across"] == {"train_val": 0, "train_test": 0, "val_test": 0}
    assert found["skipped"] == 1
    assert (facts["skipped"], facts["copies"]) == ({"dog/notes.txt": "no image by its name"}, 1)


PHOTOS = photos()
TORN = {"source": "photos.tar.gz"}
BAD_INPUTS = {  # files to write, params, the message
    "a wrong checksum": (
        {"copy.tar.gz": CIFAR10[:-1] + b"x"},
        {"name": "cifar10", "source": "copy.tar.gz"},
        "wrong checksum",
    ),
    "a truncated official archive": (
        {"copy.tar.gz": CIFAR10[:-9]},
        {"name": "cifar10", "source": "copy.tar.gz"},
        "is truncated",
    ),
    "a folder without the archive": ({"d/x": b""}, {"name": "cifar10", "source": "d"}, "no cifar-10-python.tar.gz in"),
    "a truncated archive": ({"photos.tar.gz": "cut"}, TORN, "photos.tar.gz is no whole archive"),
    "a path that escapes": (
        {"photos.tar.gz": {**PHOTOS, "../../x.png": b"x"}},
        TORN,
        "'../../x.png' points outside the archive",
    ),
    "a source that is not there": ({}, {"source": "nowhere.zip"}, "^dataset.source: 'nowhere.zip' does not exist"),
    "a home that is not there": ({}, {"source": "~nobody-at-all/x"}, "'~nobody-at-all/x' names no user's home"),
    "no data/source": ({}, {}, "'data/source' does not exist"),
    "an empty data/source": ({"data/source/README.md": b""}, {}, "data/source: no images in it"),
    "a source that is no archive": (
        {"photos.rar": b"x"},
        {"source": "photos.rar"},
        "photos.rar is no archive known here",
    ),
    "more images than memory": (
        {"photos.tar.gz": PHOTOS},
        TORN | {"image_size": 10**5},
        r"^dataset.image_size: 12 images .* need 335.3 GiB",
    ),
    "more digits than memory": (
        {},
        {"name": "digits", "image_size": 10**5},
        "^dataset.image_size: 1797 images .* need ",
    ),
    "more training images than there are": (
        {},
        {"name": "digits", "train_limit": 1079},
        "^dataset.train_limit: 1079 is not allowed",
    ),
    "fewer training images than classes": (
        {},
        {"name": "digits", "train_limit": 9},
        "^dataset.train_limit: 9 is not allowed",
    ),
    "one image to hold out from": (
        {"photos.tar.gz": photos(train=1)},
        TORN,
        "class 'cat' has 1 image, too few to hold one out",
    ),
    "a missing class": (
        {"photos.tar.gz": photos() | photos(classes=("eel",), test=0)},
        TORN,
        "class 'eel' is in train/ but missing",
    ),
    "an empty class": (
        {"photos.tar.gz": photos() | {"train/eel/": b"", "test/eel/": b""}},
        TORN,
        "eel/ holds no image",
    ),
    "one class": ({"photos.tar.gz": photos(classes=("eel",))}, TORN, "fewer than 2 classes: eel"),
    "no image": (
        {"photos.tar.gz": PHOTOS | {"test/cat/x.png": b"hello"}},
        TORN,
        r"photos.tar.gz: 1 bad file: test/cat/x.png \(no JPEG",
    ),
}


@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input_is_one_line_and_leaves_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "OFFICIAL", TABLE)
    files, settings, message = BAD_INPUTS[what]
    for name, content in files.items():
        if isinstance(content, bytes):
            write_folder({name: content}, tmp_path)
        else:
            write_archive(PHOTOS if content == "cut" else content, tmp_path / name)
            if content == "cut":
                (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-200])
    set_params(**settings)
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(ValueError, match=message) as raised:
        download.main()
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_without_network_or_copy_the_stage_ends_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "OFFICIAL", {"cifar10": (archive(CIFAR10, "http://127.0.0.1:9/cifar"),)})
    set_params(name="cifar10")
    with pytest.raises(
        ValueError, match=r"http://127.0.0.1:9/cifar: Connection refused.*Ways out: dataset.source=.*`make run`"
    ):
        download.main()
    assert not (tmp_path / "data" / "images").exists()


STAGE = """
import runpy, sys
from src.data import datasets, downloads
url, name, md5, size = sys.argv[1:]
datasets.OFFICIAL = {"cifar10": (downloads.Archive(name=name, urls=(url,), md5=md5, size=int(size)),)}
runpy.run_module("stages.download", run_name="__main__")
"""


@pytest.mark.slow
def test_a_download_killed_half_way_goes_on_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    slow = Mirror(CIFAR10, stall_after=len(CIFAR10) // 2)
    set_params(name="cifar10", image_size=32)
    part = tmp_path / "data" / "raw" / "cifar-10-python.tar.gz.part"
    with serving(slow=slow) as address:
        official = archive(CIFAR10, f"{address}/slow")
        arguments = [official.urls[0], official.name, official.md5, str(official.size)]
        command = [sys.executable, "-c", STAGE, *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment) as process:
            wait_until(lambda: part.exists() and part.stat().st_size >= len(CIFAR10) // 2, process)
            process.send_signal(signal.SIGKILL)
        kept = part.stat().st_size
        assert not list(tmp_path.glob("data/images/*"))
        slow.released.set()
        subprocess.run(command, env=environment, check=True)
    assert slow.ranges == [None, f"bytes={kept}-"]
    source = tmp_path / "undisturbed.tar.gz"
    source.write_bytes(CIFAR10)
    undisturbed = datasets.load(dataset("cifar10", image_size=32, source=str(source)), TABLE).splits
    for name, split in undisturbed.items():
        save_split(split, tmp_path / "expected.pt")
        assert Path(f"data/images/{name}.pt").read_bytes() == (tmp_path / "expected.pt").read_bytes()
    assert artifacts.read_json("metrics/download.json") == splitting.describe(undisturbed) | {"skipped": 0}
    assert sorted(path.name for path in Path("data/raw").iterdir()) == [".lock", "cifar-10-python.tar.gz"]


def test_a_python_without_the_projects_packages_is_told_which_one_to_use() -> None:
    command = [sys.executable, "-S", "-m", "stages.download"]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for part in (sys.executable, "torch", "source .venv/bin/activate", "`make run`"):
        assert part in done.stderr
