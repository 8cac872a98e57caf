"""Every dataset arrives as the same kind of splits, its official archive read as it was written."""

import hashlib
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from scipy.io import savemat
from sklearn.datasets import load_digits

from src.base.splits import SPLITS
from src.data import archives, datasets, image_folders
from src.interface.params import Dataset
from tests.builders.data import (
    archive,
    cifar100_bytes,
    dataset,
    encoded,
    photos,
    pixels,
    small_cifar10,
    write_archive,
    write_folder,
)

ROOT = Path(__file__).parents[2]
CIFAR10, IMAGES, TEST_IMAGES = small_cifar10()
TABLE = {"cifar10": (archive(CIFAR10),)}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


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
    train, val, test = (loaded.splits[name] for name in SPLITS)
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
    fine = [i % 20 for i in range(60)]
    content = cifar100_bytes(fine)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(content)
    table = {"cifar100": (archive(content, name="cifar-100-python.tar.gz"),)}
    loaded = datasets.load(dataset("cifar100", image_size=32, source=str(tmp_path)), table)
    assert loaded.splits["test"].labels.tolist() == fine
    assert loaded.splits["train"].classes == tuple(f"fine{i}" for i in range(20))


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
    with pytest.raises(ValueError, match=r"is one file; allowed: a folder with train_32x32.mat and test_32x32.mat"):
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


def test_more_images_than_memory_names_what_is_needed_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"need (.*) GiB of memory, and (.*) GiB are available") as raised:
        datasets.load(dataset("digits", image_size=10**5), {})
    words = str(raised.value).split()
    needed, available = (float(words[words.index("GiB") - 1]), float(words[words.index("and") + 1]))
    assert needed == pytest.approx(1797 * 3 * 10**10 / 2**30, abs=0.1)
    assert available == pytest.approx(psutil.virtual_memory().available / 2**30, rel=0.2)


@pytest.mark.slow
def test_all_60_000_images_of_a_real_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    path = ROOT.parent / "shared" / "data" / "cifar10-jpeg.tar.xz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    splits = datasets.load(Dataset(**vars(dataset(source=str(path), image_size=32)) | {"val_fraction": 0.1}), {}).splits
    assert [len(splits[name].labels) for name in SPLITS] == [45000, 5000, 10000]
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
    assert all(torch.equal(found[0][name].images, found[1][name].images) for name in SPLITS)


def linked_class(root: Path, behind: Path) -> Path:
    """A folder of images at `root`, of which one class is a link to a folder at `behind`."""
    write_folder(photos(), root)
    (root / "train/dog").rename(behind)
    (root / "train/dog").symlink_to(behind)
    return root


@pytest.mark.parametrize(
    "source", [None, "data/source", "data/source/mine", "data/source/train/dog", "{here}/data/source"]
)
def test_a_linked_folder_below_data_source_is_refused_by_name(tmp_path: Path, source: str | None) -> None:
    """DVC records the link, and sees nothing that changes behind it."""
    inside = "mine" if source and source.endswith("mine") else ""
    link = linked_class(Path("data/source") / inside, tmp_path / "behind") / "train/dog"
    given = source and source.format(here=tmp_path)
    with pytest.raises(ValueError, match=rf"^dataset.source: .*{link} is a link to a folder, behind which DVC sees no"):
        datasets.load(dataset(source=given), {})


def test_linked_files_and_a_linked_data_source_are_read_for_dvc_sees_what_they_hold(tmp_path: Path) -> None:
    write_folder(photos(), tmp_path / "behind")
    file = tmp_path / "behind/train/dog/00.png"
    file.rename(tmp_path / "elsewhere.png")
    file.symlink_to(tmp_path / "elsewhere.png")
    Path("data").mkdir()
    Path("data/source").symlink_to(tmp_path / "behind")
    assert len(datasets.load(dataset(), {}).splits["test"].labels) == 4


def test_a_linked_folder_elsewhere_is_read_for_dvc_does_not_watch_there_at_all(tmp_path: Path) -> None:
    source = linked_class(tmp_path / "photos", tmp_path / "behind")
    assert len(datasets.load(dataset(source=str(source)), {}).splits["test"].labels) == 4
