"""A person's folder becomes three splits: without its bad files where that is wanted, split here where it is not."""

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.base.splits import SPLITS, Split
from src.data import own_images
from src.data.own_images import OwnImages
from src.images.decoding import decode_image
from tests.builders.data import dataset, encoded, photos, pixels, write_archive, write_folder

GIF = encoded(pixels(8, 8), "GIF")


def flat(images: int = 20, classes: tuple[str, ...] = ("cat", "dog"), root: str = "") -> dict[str, bytes]:
    """Different images by class, without splits."""
    found = photos(train=images, test=0, classes=classes)
    return {root + name.removeprefix("train/"): content for name, content in found.items()}


def load(path: Path, **changes: object) -> OwnImages:
    return own_images.load(path, dataset(**changes))


def pixels_of(split: Split, label: int | None = None) -> set[bytes]:
    """The distinct images, of one class where it is named."""
    chosen = split.images if label is None else split.images[split.labels == label]
    return {image.numpy().tobytes() for image in chosen}


@pytest.mark.parametrize("root", ["", "photos/", "my/photos/"])
def test_folders_of_classes_are_split_here_whatever_holds_them(root: str, tmp_path: Path) -> None:
    files = flat(20, root=root)
    folder = load(write_folder(files | {f"{root}LICENSE": b"free"}, tmp_path / "folder"))
    archive = load(write_archive(files, tmp_path / "photos.zip"))
    assert folder.copies == 0
    assert {name: torch.bincount(split.labels).tolist() for name, split in folder.splits.items()} == {
        "train": [12, 12],  # 3 quarters of what the test leaves
        "val": [4, 4],
        "test": [4, 4],
    }
    for label, name in enumerate(("cat", "dog")):
        given = {decode_image(content, 8).tobytes() for file, content in files.items() if f"{name}/" in file}
        parts = [pixels_of(split, label) for split in folder.splits.values()]
        assert set.union(*parts) == given
        assert sum(map(len, parts)) == 20
    assert all(torch.equal(folder.splits[name].images, archive.splits[name].images) for name in SPLITS)


def burst(seed: int) -> list[bytes]:
    """Four photographs of one scene, each a file of its own: a little nearer, brighter, in another format and size."""
    big = Image.fromarray(pixels(5, 6, seed)).resize((192, 160), Image.Resampling.BICUBIC)
    nearer, brighter = big.crop((2, 2, 190, 158)), big.point(lambda value: min(255, round(1.15 * value)))
    return [
        encoded(np.asarray(big)),
        encoded(np.asarray(nearer)),
        encoded(np.asarray(brighter), "JPEG", quality=60),
        encoded(np.asarray(big.resize((96, 80))), "WEBP"),
    ]


def test_a_burst_stays_on_one_side_of_every_split(tmp_path: Path) -> None:
    files, scene_of = {}, {}
    for scene in range(24):
        for number, content in enumerate(burst(scene)):
            name = f"{('cat', 'dog')[scene % 2]}/{number}-{scene:02d}.png"  # copies do not lie next to each other
            files[name] = content
            scene_of[decode_image(content, 32).tobytes()] = scene
    loaded = load(write_folder(files, tmp_path), image_size=32, split_seed=3)
    sides = [{scene_of[image] for image in pixels_of(split)} for split in loaded.splits.values()]
    assert [len(side) for side in sides] == [14, 5, 5]
    assert len(set.union(*sides)) == 24, "a scene is on two sides"
    assert loaded.copies == 3 * 24


def test_the_same_photo_in_two_classes_is_on_one_side(tmp_path: Path) -> None:
    files = flat(12)
    files |= {f"dog/copy-{i:02d}.png": files[f"cat/{i:02d}.png"] for i in range(12)}
    loaded = load(write_folder(files, tmp_path))
    seen = [pixels_of(split) for split in loaded.splits.values()]
    assert loaded.copies == 12
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


def test_copies_alone_cannot_be_split_and_the_message_says_so(tmp_path: Path) -> None:
    files = flat(12) | {f"eel/{i}.png": encoded(pixels(8, 8, 500)) for i in range(9)}
    with pytest.raises(
        ValueError, match=r"^class 'eel' has too few images .*: 9, and 1 without copies and near ones; all"
    ):
        load(write_folder(files, tmp_path))


BAD = {f"train/cat/x{i:02d}.jpg": b"no image" for i in range(9)}
BAD |= {
    "test/dog/imageNotFound.gif": GIF,
    "train/dog/notes.txt": b"hello",
    "val/dog/9.png": encoded(pixels(9, 9))[:-99],
}


def test_the_first_ten_bad_files_are_named_at_once_and_the_rest_counted(tmp_path: Path) -> None:
    path = write_folder(photos(val=2) | BAD, tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: 12 bad files: test/dog/imageNotFou") as caught:
        load(path)
    said = str(caught.value)
    assert said.count("(no JPEG, PNG, WEBP, BMP)") + said.count("(no image by its name)") == 10
    assert " and 2 more; allowed: images (.jpg, .jpeg, .png, .webp, .bmp), or dataset.bad_files=skip" in said


def test_bad_files_that_are_skipped_are_named_and_change_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = load(write_folder(photos(val=2), tmp_path / "clean"), val_fraction=0.5)
    capsys.readouterr()
    loaded = load(write_folder(photos(val=2) | BAD, tmp_path / "bad"), val_fraction=0.5, bad_files="skip")
    assert set(loaded.skipped) == set(BAD)
    assert loaded.skipped["test/dog/imageNotFound.gif"] == "no image by its name"
    assert loaded.skipped["val/dog/9.png"].startswith("damaged: ")
    (warning,) = capsys.readouterr().err.splitlines()
    assert (
        "12 bad files left out: test/dog/imageNotFound.gif (no image by its name), train/cat/x00.jpg (no JP" in warning
    )
    for name in SPLITS:
        assert torch.equal(loaded.splits[name].images, clean.splits[name].images)
        assert torch.equal(loaded.splits[name].labels, clean.splits[name].labels)


def test_a_skipped_file_whose_name_is_no_text_is_named_in_text(tmp_path: Path) -> None:
    path = write_folder(flat(), tmp_path)
    (path / os.fsdecode(b"cat/caf\xe9.txt")).write_bytes(b"hello")
    assert dict(load(path, bad_files="skip").skipped) == {"cat/caf\\xe9.txt": "no image by its name"}


def test_a_bad_file_among_classes_without_splits_is_left_out_before_they_are_split(tmp_path: Path) -> None:
    bad = {"cat/99.jpg": b"no image", "dog/imageNotFound.gif": GIF, "overview.png": encoded(pixels(8, 8, 999))}
    clean = load(write_folder(flat(), tmp_path / "clean"))
    loaded = load(write_folder(flat() | bad, tmp_path / "bad"), bad_files="skip")
    assert dict(loaded.skipped) == {
        "cat/99.jpg": "no JPEG, PNG, WEBP, BMP",
        "dog/imageNotFound.gif": "no image by its name",
        "overview.png": "in no class",
    }
    assert all(torch.equal(loaded.splits[name].images, clean.splits[name].images) for name in SPLITS)


def test_a_class_of_bad_files_alone_is_an_error_even_where_they_are_skipped(tmp_path: Path) -> None:
    files = photos() | {f"test/dog/{i:02d}.png": b"no image" for i in range(2)}
    with pytest.raises(ValueError, match="without its bad files, class 'dog' has no image in test; allowed: one"):
        load(write_folder(files, tmp_path), bad_files="skip")


@pytest.mark.parametrize("layout", ["splits", "flat"])
def test_class_names_that_differ_in_unicode_form_alone_are_one_class(layout: str, tmp_path: Path) -> None:
    """macOS writes `é` as two characters, which read as one."""
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    if layout == "splits":
        files = photos(classes=(composed, "dog"))
        files = {name.replace(f"test/{composed}", f"test/{decomposed}"): content for name, content in files.items()}
        files[f"train/{decomposed}/99.png"] = encoded(pixels(8, 8, 99))
    else:
        files = flat(10, classes=(composed, "dog")) | {f"{decomposed}/99.png": encoded(pixels(8, 8, 99))}
    loaded = load(write_archive(files, tmp_path / "photos.zip"))
    assert loaded.splits["train"].classes == (composed, "dog")
    counts = sum(torch.bincount(split.labels, minlength=2) for split in loaded.splits.values())
    assert counts.tolist() == ([7, 6] if layout == "splits" else [11, 10])
