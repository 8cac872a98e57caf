"""Every dataset arrives as the same kind of splits, its official archive read as it was written."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat
from sklearn.datasets import load_digits

from src import archives, artifacts, datasets, image_folders, splitting
from src.params import Dataset
from stages import download
from tests.data_builders import (
    Mirror,
    archive,
    dataset,
    encoded,
    photos,
    pixels,
    serving,
    small_cifar10,
    wait_until,
    write_archive,
    write_folder,
)

ROOT = Path(__file__).parent.parent
CIFAR10, IMAGES, TEST_IMAGES = small_cifar10()
TABLE = {"cifar10": (archive(CIFAR10),)}


@pytest.fixture(autouse=True)
def _in_a_checkout_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # refuses at once


def set_params(**changes: object) -> None:
    """params.yaml in the working directory, with another dataset section."""
    settings = dataset(**changes)  # type: ignore[arg-type]
    text = (ROOT / "params.yaml").read_text()
    start, end = text.index("dataset:\n"), text.index("backbone:\n")
    lines = [f"  {key}: {'null' if value is None else value!r}\n" for key, value in vars(settings).items()]
    Path("params.yaml").write_text(text[:start] + "dataset:\n" + "".join(lines) + text[end:])


def test_digits_are_scikit_learns_and_a_fifth_of_them_is_the_same_test_for_every_seed() -> None:
    loaded = datasets.load(dataset("digits", split_seed=1), {})
    again = datasets.load(dataset("digits", split_seed=2, train_limit=100), {})
    assert {name: len(split.labels) for name, split in loaded.splits.items()} == {
        "train": 1078,
        "val": 360,
        "test": 359,
    }
    assert torch.equal(loaded.splits["test"].images, again.splits["test"].images)
    assert not torch.equal(loaded.splits["val"].images, again.splits["val"].images)
    reference = load_digits()
    expected = {
        (image.tobytes(), label)
        for image, label in zip(np.rint(reference.images * 255 / 16).astype(np.uint8), reference.target, strict=True)
    }
    found = set()
    for split in loaded.splits.values():
        assert split.images.dtype == torch.uint8
        assert split.images.shape[1:] == (3, 8, 8)
        assert torch.equal(split.images[:, 0], split.images[:, 2])
        found |= {
            (image[0].numpy().tobytes(), label)
            for image, label in zip(split.images, split.labels.tolist(), strict=True)
        }
    assert found == expected
    assert torch.bincount(loaded.splits["test"].labels).min() >= 34


def test_cifar10_is_read_out_of_its_archive_with_the_official_test_split(tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(CIFAR10)
    loaded = datasets.load(dataset("cifar10", image_size=32, source=str(tmp_path / "copy.tar.gz")), TABLE)
    train, val, test = (loaded.splits[name] for name in artifacts.SPLITS)
    np.testing.assert_array_equal(test.images.numpy(), TEST_IMAGES)
    assert test.labels.tolist() == [i % 10 for i in range(50)]
    label_of = {image.tobytes(): i % 10 for i, image in enumerate(IMAGES)}
    for split, count in ((train, 150), (val, 50)):
        assert [label_of[image.numpy().tobytes()] for image in split.images] == split.labels.tolist()
        assert torch.bincount(split.labels).tolist() == [count // 10] * 10
        assert split.classes == tuple(f"class{i}" for i in range(10))
    assert loaded.source_sha256 == hashlib.sha256(CIFAR10).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["copy.tar.gz"]  # nothing was unpacked


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    fine, coarse = [i % 20 for i in range(60)], [0] * 60
    content = datasets_cifar100(fine, coarse)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(content)
    table = {"cifar100": (archive(content, name="cifar-100-python.tar.gz"),)}
    loaded = datasets.load(dataset("cifar100", image_size=32, source=str(tmp_path)), table)
    assert loaded.splits["test"].labels.tolist() == fine
    assert loaded.splits["train"].classes == tuple(f"fine{i}" for i in range(20))


def datasets_cifar100(fine: list[int], coarse: list[int]) -> bytes:
    from tests.data_builders import PACKED

    images = np.random.default_rng(0).integers(0, 256, (len(fine), 3072), dtype=np.uint8)
    batch = {b"data": images, b"fine_labels": fine, b"coarse_labels": coarse}
    meta = {b"fine_label_names": [f"fine{i}".encode() for i in range(20)], b"coarse_label_names": [b"coarse"]}
    parts = {"meta": meta, "train": batch, "test": batch, "file.txt~": {}}
    return PACKED[".tar.gz"]({f"cifar-100-python/{name}": pickle.dumps(part) for name, part in parts.items()})


def test_svhn_calls_the_digit_zero_by_its_name(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 40), dtype=np.uint8)
    labels = np.array([1 + i % 10 for i in range(40)], np.uint8)[:, None]
    table = []
    for name in ("train_32x32.mat", "test_32x32.mat"):
        savemat(tmp_path / name, {"X": images, "y": labels})
        table.append(archive((tmp_path / name).read_bytes(), name=name))
    loaded = datasets.load(dataset("svhn", image_size=32, source=str(tmp_path)), {"svhn": tuple(table)})
    test = loaded.splits["test"]
    assert test.labels.tolist() == [(1 + i % 10) % 10 for i in range(40)]
    np.testing.assert_array_equal(test.images[7].numpy(), images[:, :, :, 7].transpose(2, 0, 1))
    with pytest.raises(ValueError, match="is one file; allowed: a folder with train_32x32.mat and test_32x32.mat"):
        datasets.load(dataset("svhn", source=str(tmp_path / "train_32x32.mat")), {"svhn": tuple(table)})


@pytest.mark.parametrize("size", [16, 48])
def test_another_image_size_is_an_antialiased_bilinear_resize(size: int, tmp_path: Path) -> None:
    (tmp_path / "copy.tar.gz").write_bytes(CIFAR10)
    settings = dataset("cifar10", image_size=size, source=str(tmp_path / "copy.tar.gz"))
    test = datasets.load(settings, TABLE).splits["test"]
    expected = F.interpolate(torch.from_numpy(TEST_IMAGES).double(), (size, size), mode="bilinear", antialias=True)
    assert (test.images - expected).abs().max() <= 0.5 + 1e-3


def test_a_folder_in_data_source_is_read_from_this_checkout_and_others_from_the_main_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, here, home = tmp_path / "main", tmp_path / "here", tmp_path / "home"
    for path in (main / "data/source", here / "data/source", main / "photos", home / "photos"):
        path.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.setenv("HOME", str(home))
    assert datasets.resolve("data/source").resolve() == here / "data/source"
    assert datasets.resolve("./data/../data/source").resolve() == here / "data/source"
    assert datasets.resolve("photos") == main / "photos"
    assert datasets.resolve("../main/photos").resolve() == main / "photos"
    assert datasets.resolve("~/photos") == home / "photos"
    assert datasets.resolve(str(home)) == home


def test_a_folder_without_a_source_is_data_source_and_its_digest_is_recorded(tmp_path: Path) -> None:
    path = write_folder(photos(), tmp_path / "data" / "source")
    (path / "README.md").write_text("what to put here")
    loaded = datasets.load(dataset(), {})
    assert (loaded.source, loaded.source_sha256) == ("data/source", archives.sha256(path))


def test_the_stage_writes_the_splits_the_counts_and_the_record(tmp_path: Path) -> None:
    files = photos()
    files["test/cat/00.png"] = files["train/cat/00.png"]
    write_archive(files, tmp_path / "my photos.zip")
    set_params(source=str(tmp_path / "my photos.zip"))
    download.main()
    found = artifacts.read_json("metrics/download.json")
    assert {name: found[name]["images"] for name in artifacts.SPLITS} == {"train": 6, "val": 2, "test": 4}
    assert found["across"]["train_test"] + found["across"]["val_test"] == 1
    record = artifacts.read_json("data/runs/download.json")
    assert record["source"] == str(tmp_path / "my photos.zip")
    assert record["source_sha256"] == hashlib.sha256((tmp_path / "my photos.zip").read_bytes()).hexdigest()
    splits = {name: artifacts.load_split(f"data/images/{name}.pt") for name in artifacts.SPLITS}
    assert splitting.describe(splits) == found


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
    "an empty data/source": ({"data/source/README.md": b""}, {}, "data/source: no train/ in it"),
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
    "an empty class": ({"photos.tar.gz": photos() | {"train/eel/": b"", "test/eel/": b""}}, TORN, "train/eel is empty"),
    "one class": ({"photos.tar.gz": photos(classes=("eel",))}, TORN, "fewer than 2 classes in train/: eel"),
    "no image": (
        {"photos.tar.gz": PHOTOS | {"test/cat/x.png": b"hello"}},
        TORN,
        "photos.tar.gz/test/cat/x.png is no image",
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


def test_more_images_than_memory_names_what_is_needed_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"need (.*) GiB of memory, and (.*) GiB are available") as raised:
        datasets.load(dataset("digits", image_size=10**5), {})
    words = str(raised.value).split()
    needed, available = (float(words[words.index("GiB") - 1]), float(words[words.index("and") + 1]))
    assert needed == pytest.approx(1797 * 3 * 10**10 / 2**30, abs=0.1)
    assert available == pytest.approx(psutil.virtual_memory().available / 2**30, rel=0.2)


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
from src import datasets, downloads
url, name, md5, size = sys.argv[1:]
datasets.OFFICIAL = {"cifar10": (downloads.Archive(name=name, urls=(url,), md5=md5, size=int(size)),)}
runpy.run_module("stages.download", run_name="__main__")
"""


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
            wait_until(lambda: part.exists() and part.stat().st_size >= len(CIFAR10) // 2)
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
        artifacts.save_split(split, tmp_path / "expected.pt")
        assert Path(f"data/images/{name}.pt").read_bytes() == (tmp_path / "expected.pt").read_bytes()
    assert artifacts.read_json("metrics/download.json") == splitting.describe(undisturbed)
    assert sorted(path.name for path in Path("data/raw").iterdir()) == [".lock", "cifar-10-python.tar.gz"]


def test_a_python_without_the_projects_packages_is_told_which_one_to_use() -> None:
    command = [sys.executable, "-S", "-m", "stages.download"]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    for part in (sys.executable, "torch", "source .venv/bin/activate", "`make run`"):
        assert part in done.stderr


@pytest.mark.slow
def test_all_60_000_images_of_a_real_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    splits = datasets.load(Dataset(**vars(dataset(source=str(path), image_size=32)) | {"val_fraction": 0.1}), {}).splits
    assert [len(splits[name].labels) for name in artifacts.SPLITS] == [45000, 5000, 10000]
    assert all(len(set(torch.bincount(split.labels).tolist())) == 1 for split in splits.values())


def test_decoding_gives_the_same_on_one_thread_and_on_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        f"{s}/{c}/{i}.jpg": encoded(pixels(20, 30, i), "JPEG")
        for s in ("train", "test")
        for c in "ab"
        for i in range(200)
    }
    write_archive(files, tmp_path / "photos.tar")
    found = []
    for threads in (1, 7):
        monkeypatch.setattr(image_folders.os, "cpu_count", lambda threads=threads: threads)
        found.append(datasets.load(dataset(source="photos.tar"), {}).splits)
    assert all(torch.equal(found[0][name].images, found[1][name].images) for name in artifacts.SPLITS)
