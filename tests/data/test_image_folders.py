"""Images come out of folders as Pillow and torchvision see them, in an order that no archive decides."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.base.splits import Split
from src.data import archives, image_folders, own_images, splitting
from tests.builders.data import PACKED, dataset, encoded, photos, pixels, write_archive, write_folder


def read(path: Path, size: int = 8, **changes: object) -> dict[str, Split]:
    return dict(own_images.load(path, dataset(image_size=size, **changes)).splits)


def test_labels_and_images_match_the_folders(tmp_path: Path) -> None:
    files = photos(train=3, test=2, val=1)
    splits = read(write_folder(files, tmp_path))
    for split, count in (("train", 3), ("test", 2), ("val", 1)):
        names = [f"{split}/{name}/{i:02d}.png" for name in ("cat", "dog") for i in range(count)]
        expected = np.stack([np.asarray(Image.open(io.BytesIO(files[name]))) for name in names]).transpose(0, 3, 1, 2)
        assert splits[split].classes == ("cat", "dog")
        assert splits[split].labels.tolist() == [0] * count + [1] * count
        np.testing.assert_array_equal(splits[split].images.numpy(), expected)


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("wrapper", ["", "photos/"])
def test_every_archive_gives_what_the_folder_gives_whatever_its_order(kind: str, wrapper: str, tmp_path: Path) -> None:
    files = photos(train=40, test=40)
    expected = read(write_folder(files, tmp_path / "folder"))
    shuffled = {wrapper + name: files[name] for name in sorted(files, key=lambda name: name[::-1])}
    found = read(write_archive(shuffled | {f"{wrapper}LICENSE": b"free"}, tmp_path / f"photos{kind}"))
    for split, images in expected.items():
        assert torch.equal(found[split].images, images.images)
        assert torch.equal(found[split].labels, images.labels)


def test_only_the_images_that_a_limit_keeps_are_read(tmp_path: Path) -> None:
    path = write_folder(photos(train=40), tmp_path)
    whole, limited = read(path), read(path, train_limit=10)
    assert torch.equal(limited["val"].images, whole["val"].images)
    assert len(limited["train"].images) == 10
    kept = {image.numpy().tobytes() for image in whole["train"].images}
    assert all(image.numpy().tobytes() in kept for image in limited["train"].images)


def without(files: dict[str, bytes], beginning: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.startswith(beginning)}


PHOTOS = photos()
BOMB = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
BOMB += (30_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
BAD = {
    "a class missing from test": (without(PHOTOS, "test/dog"), r"class 'dog' is in train/ but missing from test/"),
    "a class missing from train": (without(PHOTOS, "train/cat"), r"class 'cat' is in test/ but missing from train/"),
    "a class missing from val": (PHOTOS | {"val/cat/1.png": b"x"}, r"class 'dog' is in train/ but missing from val/"),
    "an empty class": (without(PHOTOS, "test/dog") | {"test/dog/": b""}, r"test/dog/ holds no image; allowed: one or"),
    "a class of hidden files": (without(PHOTOS, "test/dog") | {"test/dog/.x.png": b"x"}, r"test/dog/ holds no image"),
    "one class": (photos(classes=("cat",)), r"fewer than 2 classes: cat; allowed: 2 or more"),
    "no class": ({"train/": b"", "test/": b""}, r"fewer than 2 classes: none"),
    "no train": (without(PHOTOS, "train"), r"no train/ in it; allowed: train/<class>/\*"),
    "no test": (without(PHOTOS, "test"), r"no test/ in it; allowed"),
    "two wrappers": (
        {f"{a}/{name}": b"x" for a in "ab" for name in PHOTOS},
        r"several train/ in it: a/train/, b/train/",
    ),
    "nothing": (
        {},
        r"no images in it \(\.jpg, \.jpeg, \.png, \.webp, \.bmp\); allowed: train/<class>/\*, .*; "
        r"or <class>/\* alone, to be split here",
    ),
    "folders of classes in folders that are no splits": (
        {f"{name}_set/{file}": b"x" for name in ("training", "test") for file in ("cat/1.png", "dog/1.png")},
        r"test_set/cat/1.png lies deeper than in a class",
    ),
    "one class without splits": ({"photos/cat/1.png": b"x"}, r"fewer than 2 classes: cat"),
    "an empty class without splits": ({"cat/1.png": b"x", "dog/": b""}, r"source: dog/ holds no image"),
    "an unknown split": (PHOTOS | {"valid/cat/1.png": b"x"}, r"valid/ is no split; allowed"),
    "an image without a class": (PHOTOS | {"train/1.png": b"x"}, r"train/1.png lies in no class"),
    "a text file": (
        PHOTOS | {"train/cat/notes.txt": b"hello"},
        r"source: 1 bad file: train/cat/notes.txt \(no image by its name\); allowed: images \(\.jpg",
    ),
    "a text called an image": (
        PHOTOS | {"train/dog/1.jpg": b"hello"},
        r"train/dog/1.jpg \(no JPEG, PNG, WEBP, BMP\); allowed: .* or dataset.bad_files=skip",
    ),
    "a GIF called an image": (PHOTOS | {"test/dog/1.png": encoded(pixels(8, 8), "GIF")}, r"test/dog/1.png \(no JPEG"),
    "a truncated image": (
        PHOTOS | {"test/cat/9.jpg": encoded(pixels(64, 64), "JPEG")[:-900]},
        r"source: 1 bad file: test/cat/9.jpg \(damaged: .*truncated",
    ),
    "too many pixels": (
        PHOTOS | {"test/cat/9.bmp": BOMB},
        r"test/cat/9.bmp \(more pixels than are decoded safely\)",
    ),
    "a class that turns what follows around": (
        {name.replace("dog", "d\u202eg"): c for name, c in PHOTOS.items()},
        r"'d\\u202eg' is no name for a class",
    ),
    "an unprintable class": (
        {name.replace("dog", "d\tg"): c for name, c in PHOTOS.items()},
        r"'d\\tg' is no name for a class",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(what: str, tmp_path: Path) -> None:
    files, message = BAD[what]
    path = write_folder(files, tmp_path / "source")
    path.mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["می\u200cخواهم", "ශ්\u200dරී", "👩\u200d🍳", "New\u00a0York", "Müsli & Co"])
def test_a_class_may_be_named_in_any_script(name: str, tmp_path: Path) -> None:
    files = {path.replace("dog", name): content for path, content in PHOTOS.items()}
    assert name in image_folders.scan(write_folder(files, tmp_path)).classes


def test_an_archive_that_holds_a_name_twice_says_so(tmp_path: Path) -> None:
    content = PACKED[".tar"](PHOTOS).rstrip(b"\0")
    content += bytes(-len(content) % 512)
    (tmp_path / "photos.tar").write_bytes(content + PACKED[".tar"](PHOTOS))
    with pytest.raises(ValueError, match=r"photos.tar: holds test/cat/00.png twice"):
        read(tmp_path / "photos.tar")


def test_a_file_that_vanishes_while_the_folder_is_read_is_an_error(tmp_path: Path) -> None:
    folder = image_folders.scan(write_folder(photos(), tmp_path))
    chosen = splitting.choose(folder.labels, folder.classes, dataset())
    (tmp_path / "test" / "cat" / "00.png").unlink()
    with pytest.raises(ValueError, match="changed while it was read: 11 of 12 images"):
        image_folders.decode(folder, chosen, 8)


def test_the_digest_of_a_source_changes_with_an_image(tmp_path: Path) -> None:
    before = archives.sha256(write_folder(photos(), tmp_path))
    (tmp_path / "test" / "cat" / "00.png").write_bytes(encoded(pixels(8, 8, 99)))
    assert archives.sha256(tmp_path) != before
