"""Images come out of folders as Pillow and torchvision see them, in an order that no archive decides."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import CenterCrop, Compose, InterpolationMode, Resize

from src.base.splits import Split
from src.data import archives, image_folders, splitting
from tests.builders.data import PACKED, dataset, encoded, photos, pixels, write_archive, write_folder


def read(path: Path, size: int = 8, **changes: object) -> dict[str, Split]:
    folder = image_folders.scan(path)
    chosen = splitting.choose(folder.labels, folder.classes, dataset(**changes))
    return image_folders.decode(folder, chosen, size)


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


@pytest.mark.parametrize(("height", "width"), [(48, 96), (96, 48), (32, 64), (16, 40), (8, 24)])
def test_another_size_is_resized_and_cropped_as_torchvision_does(height: int, width: int) -> None:
    image = Image.fromarray(pixels(height, width))
    reference = Compose([Resize(16, InterpolationMode.BICUBIC, antialias=True), CenterCrop(16)])
    found = image_folders.decode_image(encoded(np.asarray(image)), 16).transpose(1, 2, 0).astype(int)
    assert np.abs(found - np.asarray(reference(image))).max() <= 1  # Pillow picks which axis it rounds first


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("BMP", {})]
)
def test_an_image_of_the_right_size_keeps_the_pixels_that_pillow_decodes(kind: str, options: dict[str, bool]) -> None:
    content = encoded(pixels(8, 8), kind, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(image_folders.decode_image(content, 8).transpose(1, 2, 0), expected)


def test_a_large_photo_that_is_decoded_at_an_eighth_looks_like_the_whole_one() -> None:
    smooth = np.asarray(Image.fromarray(pixels(12, 16)).resize((1600, 1200), Image.Resampling.BICUBIC))
    content = encoded(smooth, "JPEG", quality=95)
    found = image_folders.decode_image(content, 64).astype(int).transpose(1, 2, 0)
    whole = ImageOps.fit(Image.open(io.BytesIO(content)), (64, 64), Image.Resampling.BICUBIC)
    assert np.abs(found - np.asarray(whole).astype(int)).max() <= 6


@pytest.mark.parametrize("side", [8, 24])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(orientation: int, side: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = pixels(side, side)
    turns = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    turns |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, 1)}
    upright = turns.get(orientation, lambda a: a)(array)
    found = image_folders.decode_image(encoded(array, "PNG", exif=exif), 8)
    np.testing.assert_array_equal(found, image_folders.decode_image(encoded(np.ascontiguousarray(upright)), 8))


@pytest.mark.parametrize(
    ("array", "mode", "expected"),
    [
        (np.full((8, 8), 200, np.uint8), None, (200, 200, 200)),
        (np.full((8, 8), 200 * 256 + 7, np.uint16), None, (200, 200, 200)),  # 16 bits a pixel
        (np.full((8, 8), True), None, (255, 255, 255)),
        (np.full((8, 8, 4), (10, 20, 30, 128), np.uint8), None, (10, 20, 30)),
        (np.full((8, 8, 3), (10, 20, 30), np.uint8), "P", (10, 20, 30)),
        (np.full((8, 8, 2), (90, 0), np.uint8), None, (90, 90, 90)),
    ],
)
def test_every_mode_of_png_becomes_rgb(array: np.ndarray, mode: str | None, expected: tuple[int, int, int]) -> None:  # type: ignore[type-arg]
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode, palette=Image.Palette.ADAPTIVE) if mode else image).save(buffer, "PNG")
    found = image_folders.decode_image(buffer.getvalue(), 8)
    assert [np.unique(channel).tolist() for channel in found] == [[value] for value in expected]


def without(files: dict[str, bytes], beginning: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.startswith(beginning)}


PHOTOS = photos()
BOMB = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
BOMB += (30_000).to_bytes(4, "little") * 2 + b"\1\0\x18\0" + bytes(24)
BAD = {
    "a class missing from test": (without(PHOTOS, "test/dog"), r"class 'dog' is in train/ but missing from test/"),
    "a class missing from train": (without(PHOTOS, "train/cat"), r"class 'cat' is in test/ but missing from train/"),
    "a class missing from val": (PHOTOS | {"val/cat/1.png": b"x"}, r"class 'dog' is in train/ but missing from val/"),
    "an empty class": (without(PHOTOS, "test/dog") | {"test/dog/": b""}, r"test/dog is empty"),
    "a class of hidden files": (without(PHOTOS, "test/dog") | {"test/dog/.x.png": b"x"}, r"test/dog is empty"),
    "one class": (photos(classes=("cat",)), r"fewer than 2 classes in train/: cat; allowed: 2 or more"),
    "no class": ({"train/": b"", "test/": b""}, r"fewer than 2 classes in train/: none"),
    "no train": (without(PHOTOS, "train"), r"no train/ in it; allowed: train/<class>/\*"),
    "no test": (without(PHOTOS, "test"), r"no test/ in it; allowed"),
    "two wrappers": (
        {f"{a}/{name}": b"x" for a in "ab" for name in PHOTOS},
        r"several train/ in it: a/train/, b/train/",
    ),
    "nothing": ({}, r"no train/ in it"),
    "an unknown split": (PHOTOS | {"valid/cat/1.png": b"x"}, r"valid/ is no split; allowed"),
    "an image without a class": (PHOTOS | {"train/1.png": b"x"}, r"train/1.png lies in no class"),
    "a text file": (PHOTOS | {"train/cat/notes.txt": b"hello"}, r"source/train/cat/notes.txt is no image; allowed"),
    "a text called an image": (
        PHOTOS | {"train/dog/1.jpg": b"hello"},
        r"source/train/dog/1.jpg is no image; allowed: JPEG",
    ),
    "a GIF called an image": (PHOTOS | {"test/dog/1.png": encoded(pixels(8, 8), "GIF")}, r"test/dog/1.png is no image"),
    "a truncated image": (
        PHOTOS | {"test/cat/9.jpg": encoded(pixels(64, 64), "JPEG")[:-900]},
        r"source/test/cat/9.jpg is a damaged image: .*truncated",
    ),
    "too many pixels": (
        PHOTOS | {"test/cat/9.bmp": BOMB},
        r"source/test/cat/9.bmp has more pixels than are decoded safely",
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


def test_an_archive_that_holds_a_name_twice_says_so(tmp_path: Path) -> None:
    content = PACKED[".tar"](PHOTOS).rstrip(b"\0")
    content += bytes(-len(content) % 512)
    (tmp_path / "photos.tar").write_bytes(content + PACKED[".tar"](PHOTOS))
    with pytest.raises(ValueError, match=r"photos.tar: holds train/cat/00.png twice"):
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
