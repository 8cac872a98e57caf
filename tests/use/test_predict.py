"""The command line: images in every way that people name them, answers in three forms, one line for what is wrong."""

import csv
import io
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data import own_images
from src.images.decoding import decode_image
from src.use import predict
from tests.builders import exported
from tests.builders.data import dataset, encoded, pixels, write_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(exported.content())
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good and bad files, in which the test then is."""
    files = {f"good/{i}.png": encoded(pixels(20 + i, 30, i)) for i in range(4)}
    files |= {
        "good/deep er/ünï 名.jpg": encoded(pixels(9, 9), "JPEG"),
        "good/notes.txt": b"none",
        "good/.hidden.png": b"",
    }
    files |= {"bad/empty.png": b"", "bad/text.jpg": b"no image", "bad/cut.png": encoded(pixels(40, 40))[:900]}
    files |= {"bad/film.gif": encoded(pixels(8, 8), "GIF"), "bad/really a.png": encoded(pixels(8, 8), "JPEG")}
    monkeypatch.chdir(write_folder(files, tmp_path))
    return tmp_path


def ran(model: Path, *arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = predict.main([*arguments, "--model", str(model)])
    out, err = capsys.readouterr()
    return status, out, err


def test_an_answer_is_the_models_own_for_the_decoded_image(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = ran(model, "good/0.png", "--json", capsys=capsys)
    meant = exported.model().probabilities(decode_image((photos / "good/0.png").read_bytes(), exported.SIDE)[None])[0]
    (found,) = json.loads(out)
    assert status == 0
    assert {each["class"]: each["probability"] for each in found["top"]} == {
        name: round(float(share), 6) for name, share in zip(exported.CLASSES, meant, strict=True)
    }
    assert found["answer"] == (exported.CLASSES[meant.argmax()] if meant.max() >= exported.THRESHOLD else None)


def test_files_folders_patterns_and_a_list_are_read_in_order_and_each_once(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = ["good/0.png", "good/1.png", "good/2.png", "good/3.png", "good/deep er/ünï 名.jpg"]
    _, out, err = ran(model, "good/3.png", "good", "--json", capsys=capsys)
    assert [each["image"] for each in json.loads(out)] == ["good/3.png", *inside[:3], inside[4]]
    assert err == "predict: left out, as their names are no image's: 1 file\n"
    _, out, _ = ran(model, "good/[12].png", "good/**/*.jpg", "--json", capsys=capsys)
    assert [each["image"] for each in json.loads(out)] == [inside[1], inside[2], inside[4]]
    for text in ("\n".join(inside), "\0".join(inside) + "\0", "\r\n".join(inside)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        _, out, _ = ran(model, "-", "--json", capsys=capsys)
        assert [each["image"] for each in json.loads(out)] == inside


def test_what_is_no_image_is_said_and_the_rest_goes_on(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = ran(model, "bad", "no.png", "good/0.png", "--json", capsys=capsys)
    found = {each["image"]: each.get("error", "fine") for each in json.loads(out)}
    assert status == 1
    assert found == {
        **{"bad/cut.png": found["bad/cut.png"], "bad/empty.png": "is empty", "bad/really a.png": "fine"},
        **dict.fromkeys(("bad/film.gif", "bad/text.jpg"), "no JPEG, PNG, WEBP, BMP"),
        **{"no.png": "does not exist", "good/0.png": "fine"},
    }
    assert found["bad/cut.png"].startswith("damaged: ")
    assert err.endswith("predict: 5 of 7 could not be read\n")
    status, out, err = ran(model, "bad/empty.png", "bad/really a.png", capsys=capsys)
    assert (status, len(out.splitlines())) == (1, 1)
    assert err == "predict: bad/empty.png: is empty\npredict: 1 of 2 could not be read\n"


def test_folders_are_followed_through_links_once_and_one_that_cannot_be_read_is_said(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("all/locked", "all/a"):
        (photos / name).mkdir(parents=True)
    (photos / "all/linked").symlink_to(photos / "good")
    (photos / "all/a/back").symlink_to(photos / "all")
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    status, out, err = ran(model, "all", "--json", capsys=capsys)
    found = {each["image"]: each.get("error", "fine") for each in json.loads(out)}
    inside = [f"all/linked/{name}" for name in ("0.png", "1.png", "2.png", "3.png", "deep er/ünï 名.jpg")]
    assert found == {**dict.fromkeys(inside, "fine"), "all/locked": "Permission denied"}
    assert status == 1
    assert err.endswith("predict: 1 of 6 could not be read\n")


def test_below_the_threshold_an_answer_is_not_sure(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    highest = (
        exported.model().probabilities(decode_image((photos / "good/0.png").read_bytes(), exported.SIDE)[None]).max()
    )
    below, above = str(float(highest) - 0.001), str(float(highest) + 0.001)
    _, sure, _ = ran(model, "good/0.png", "--threshold", below, "--top", "2", capsys=capsys)
    _, unsure, _ = ran(model, "good/0.png", "--threshold", above, "--top", "2", capsys=capsys)
    assert unsure == sure.replace(": ", ": not sure (").replace("\n", ")\n")
    assert sure.count(" %") == 2
    _, out, _ = ran(model, "good/0.png", "--threshold", above, "--json", capsys=capsys)
    assert json.loads(out)[0]["answer"] is None


def test_csv_has_a_row_for_each_image_whatever_its_name(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = photos / 'a, "b"\n.png'
    odd.write_bytes(encoded(pixels(8, 8)))
    _, out, _ = ran(model, str(odd), "bad/empty.png", "--csv", "--threshold", "0", capsys=capsys)
    first, second = csv.DictReader(io.StringIO(out))
    assert first["image"] == str(odd)
    assert first["answer"] == first["class"] in exported.CLASSES
    assert first["others"].count(";") == 2
    assert (second["answer"], second["error"]) == ("", "is empty")


def test_json_over_two_runs_has_the_same_bytes_and_no_image_depends_on_those_beside_it(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [ran(model, "good", "bad", "--json", capsys=capsys)[1] for _ in range(2)]
    assert runs[0] == runs[1]
    _, alone, _ = ran(model, "good/2.png", "--json", capsys=capsys)
    assert alone.splitlines()[1] + "," in runs[0].splitlines()


def test_one_picture_has_one_answer_in_training_in_the_file_and_on_the_command_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turned photos of all sizes and formats, through `download`'s own way and by their paths."""
    folder = write_folder(exported.turned_photos(), tmp_path)
    stored = own_images.load(folder, dataset(image_size=exported.SIDE)).splits
    _, out, _ = ran(model, str(folder), "--json", capsys=capsys)
    said = [{each["class"]: each["probability"] for each in image["top"]} for image in json.loads(out)]
    trained = np.concatenate([split.images.numpy() for split in stored.values()])
    by_study = exported.by_study(trained)
    rows = np.array([[answer[name] for name in exported.CLASSES] for answer in said])
    assert len(rows) == len(trained) == 16
    for row in rows:
        assert np.abs(by_study - row).max(axis=1).min() < 1e-5
    assert len({int(np.abs(by_study - row).max(axis=1).argmin()) for row in rows}) == 16


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x.png", "--model", "no.onnx"), "no.onnx does not exist; allowed: a file that `dvc repro export` made"),
        (("x.png", "--model", "bad/text.jpg"), "bad/text.jpg is no ONNX model: "),
        (("none/*.png",), "no file matches 'none/*.png'; allowed: a pattern of files that exist"),
        (("empty",), "empty holds no image; allowed: files with the suffixes .jpg, .jpeg, .png, .webp, .bmp"),
    ],
)
def test_what_keeps_it_from_beginning_is_one_line_and_status_2(
    photos: Path,
    model: Path,
    arguments: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (photos / "empty").mkdir()
    monkeypatch.setattr("sys.argv", ["predict", *arguments])
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "reconfigure", lambda **_: None, raising=False)
    assert predict.run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"predict: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("threshold", ["1.1", "-0.1", "nan", "high"])
def test_a_threshold_that_is_no_probability_is_refused(threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict.main(["x.png", f"--threshold={threshold}"])
    assert "is no probability; allowed: 0 to 1" in capsys.readouterr().err


def test_it_loads_nothing_but_onnx_runtime_numpy_and_pillow_and_starts_in_less_than_a_second(
    model: Path, photos: Path
) -> None:
    """Of three starts the fastest, in CPU time: a busy machine makes all of them longer."""
    command = [sys.executable, "-X", "importtime", "-m", "src.use.predict", "good/0.png", "--model", str(model)]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert {"numpy", "PIL", "onnxruntime"} <= imported
    assert not imported & {
        "torch",
        "torchvision",
        "onnx",
        "pandas",
        "scipy",
        "psutil",
        "tqdm",
        "yaml",
        "mlflow",
        "sklearn",
    }
    assert min(seconds) < 1


def test_a_list_that_comes_through_a_pipe_needs_no_argument_and_a_reader_may_leave(model: Path, photos: Path) -> None:
    names = "\n".join(["good/0.png"] * 1 + [f"good/{i}.png" for i in range(1, 4)])
    command = [sys.executable, "-m", "src.use.predict", "--model", str(model)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stdin.write(names.encode())
    process.stdin.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""


@pytest.mark.slow
def test_progress_is_said_on_many_images(
    model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.use.showing.SECONDS_BETWEEN_LINES", 0.05)
    for index in range(300):
        (photos / f"good/more{index}.png").write_bytes(encoded(pixels(60, 60, index)))
    began = time.monotonic()
    _, out, err = ran(model, "good", "--csv", capsys=capsys)
    lines = [line for line in err.splitlines() if " of 305 images, " in line]
    assert 1 <= len(lines) <= (time.monotonic() - began) / 0.05 + 1
    assert len(out.splitlines()) == 306
