"""A registered model behind MLflow's own server: real requests, bad ones, many at a time, and large ones."""

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from src.data import own_images
from src.images.decoding import decode_image
from src.use import demo, predict
from src.use.answers import answer, values
from tests.builders import exported, registered
from tests.builders.data import dataset, encoded, pixels, write_folder

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
SECONDS = 180.0
REQUESTS, AT_ONCE = 1000, 16
GROWTH = 24 * 2**20  # bytes that a server may be larger after many requests than after some


@dataclass
class Served:
    port: int
    process: psutil.Process  # the one that answers

    def post(self, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": kind})
            found = connection.getresponse()
            return found.status, found.read()
        finally:
            connection.close()

    def ask(self, *images: str, **params: object) -> tuple[int, Any]:
        body = {"dataframe_records": [{"image": each} for each in images]} | ({"params": params} if params else {})
        status, said = self.post(json.dumps(body).encode())
        found = json.loads(said)
        return status, found["predictions"] if status == 200 else found["message"].partition("\nError: ")[2]


def command(module: str, *arguments: str) -> list[str]:
    """`python -m module` whose children do not find the project: what is served must bring its code."""
    script = f"import runpy, sys; sys.path[0] = {str(ROOT)!r}; runpy.run_module(sys.argv[1], None, '__main__', True)"
    return [sys.executable, "-c", script.replace("sys.argv[1]", repr(module)), *arguments]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """What `make register` and `make serve` do, in a folder that has a study's files and no code."""
    folder = registered.leave(tmp_path_factory.mktemp("study"), count=30)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    subprocess.run(command("src.use.register"), cwd=folder, env=environment, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = folder / "said.txt"
    with log.open("wb") as said:
        serving = subprocess.Popen(
            command("src.use.serve"), cwd=folder, env=environment | {"PORT": str(port)}, stdout=said, stderr=said
        )
    try:
        deadline = time.monotonic() + SECONDS
        while b"Ctrl-C" not in log.read_bytes():
            assert serving.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        (process,) = (
            each
            for each in psutil.Process(serving.pid).children(recursive=True)
            if any(c.laddr.port == port for c in each.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
        )
        assert f"digits-classifier@champion answers at http://127.0.0.1:{port}/invocations" in log.read_text()
        yield Served(port, process)
    finally:
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(SECONDS) == 143
    deadline = time.monotonic() + SECONDS
    while not over(process):
        assert time.monotonic() < deadline, "it outlived `make serve`"
        time.sleep(0.05)


def over(process: psutil.Process) -> bool:
    """Whether it has ended: gone, or only left for its parent to ask, as where no init of a container does."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def offline(content: bytes, *, top: int = 5, threshold: float = exported.THRESHOLD) -> dict[str, object]:
    stored = decode_image(content, exported.SIDE)
    return values(answer(exported.model(), "", stored, top=min(top, len(exported.CLASSES)), threshold=threshold))


def test_one_picture_has_one_answer_at_every_entrance(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turned photos of all sizes and formats: the study's own path, the file, the command line, MLflow, the page."""
    files = exported.turned_photos()
    folder = write_folder(files, tmp_path / "photos")
    (tmp_path / "model.onnx").write_bytes(exported.content())
    assert predict.main([str(folder), "--json", "--model", str(tmp_path / "model.onnx")]) == 0
    by_command = {each.pop("image"): each for each in json.loads(capsys.readouterr().out)}
    status, by_mlflow = served.ask(*map(text, files.values()))
    assert status == 200
    stored = own_images.load(folder, dataset(image_size=exported.SIDE)).splits.values()
    by_study = exported.by_study(np.concatenate([split.images.numpy() for split in stored]))
    with demo.Server(0, exported.model(), None) as page:
        by_page = [page.said_of(content) for content in files.values()]
    for (name, content), one, other in zip(files.items(), by_mlflow, by_page, strict=True):
        meant = offline(content)
        assert by_command[str(folder / name)] == meant
        assert one == meant
        assert {key: other[key] for key in meant} == meant
        shares = {each["class"]: each["probability"] for each in one["top"]}
        row = np.array([shares[each] for each in exported.CLASSES])
        assert np.abs(by_study - row).max(axis=1).min() < 1e-5


def test_a_request_says_how_many_classes_and_from_which_probability_on(served: Served) -> None:
    content = encoded(pixels(20, 30))
    status, (found,) = served.ask(text(content), top=2, threshold=0.99)
    assert (status, found) == (200, offline(content, top=2, threshold=0.99))
    assert served.ask(f"data:image/png;base64,{text(content)}") == (200, [offline(content)])
    for form in (
        {"inputs": {"image": [text(content)]}},
        {"dataframe_split": {"columns": ["image"], "data": [[text(content)]]}},
    ):
        status, said = served.post(json.dumps(form).encode())
        assert json.loads(said) == {"predictions": [offline(content)]}


BAD = {
    "wrong shape": ({"inputs": [[1, 2], [3, 4]]}, "list is no text; allowed: a file in base64"),
    "pixels": ({"inputs": [[[[0, 255], [3, 4]]]]}, "list is no text; allowed: a file in base64"),
    "no image": ({"inputs": [text(b"hello")]}, "image 0: no JPEG, PNG, WEBP, BMP"),
    "a cut one": ({"inputs": [text(encoded(pixels(40, 40))[:900])]}, "image 0: damaged: "),
    "no base64": ({"inputs": ["%%%"]}, "image 0: no base64; allowed: "),
    "nothing": ({"inputs": [""]}, "image 0: is empty"),
    "the second": ({"inputs": [text(encoded(pixels(8, 8))), "?"]}, "image 1: no base64"),
    "null": ({"dataframe_records": [{"image": None}]}, "image 0: NoneType is no text"),
    "another column": ({"dataframe_records": [{"photo": ""}]}, "Model is missing inputs ['image']"),
    "no rows": ({"dataframe_records": []}, "Model is missing inputs ['image']"),
    "no class": ({"inputs": [text(encoded(pixels(8, 8)))], "params": {"top": 0}}, "top: 0; allowed: 1 or more classes"),
    "no share": (
        {"inputs": [text(encoded(pixels(8, 8)))], "params": {"threshold": 1.5}},
        "threshold: 1.5; allowed: a probability, 0 to 1",
    ),
    "a list": ([], "exactly one of the input fields"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_400_and_says_what_is_wrong(served: Served, what: str) -> None:
    body, why = BAD[what]
    status, said = served.post(json.dumps(body).encode())
    assert (status, why in json.loads(said)["message"]) == (400, True), said
    assert served.ask(text(encoded(pixels(8, 8))))[0] == 200


def test_what_is_no_json_and_no_known_kind_is_refused(served: Served) -> None:
    assert served.post(b'{"inputs": ["')[0] == 400
    assert served.post(b"\xff\xfe")[0] == 400
    assert served.post(encoded(pixels(8, 8)), "image/png")[0] == 415


def test_fifty_megabytes_and_a_bomb_are_refused_within_a_gibibyte(served: Served) -> None:
    assert served.ask("A" * 50_000_000) == (400, "image 0: more than 20 MiB")
    bomb = io.BytesIO()
    Image.new("RGB", (20_000, 20_000)).save(bomb, "PNG")
    sixteen = [text(bomb.getvalue())] * AT_ONCE
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert set(pool.map(served.ask, sixteen)) == {(400, "image 0: more pixels than are decoded safely")}
    peak = next(line for line in Path(f"/proc/{served.process.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 2**20  # KiB
    assert served.ask(text(encoded(pixels(8, 8))))[0] == 200


def test_a_thousand_requests_sixteen_at_a_time_get_their_own_answers_in_flat_memory(served: Served) -> None:
    contents = [encoded(pixels(20 + index % 30, 40, index)) for index in range(REQUESTS)]
    memory, count, lock = list[int](), 0, threading.Lock()

    def ask(content: bytes) -> tuple[int, Any]:
        nonlocal count
        found = served.ask(text(content))
        with lock:
            count += 1
            if count % 100 == 0:
                memory.append(served.process.memory_info().rss)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(ask, contents))
    assert found == [(200, [offline(content)]) for content in contents]
    assert len({json.dumps(said) for _, said in found}) > REQUESTS // 2, "the answers differ, or equality says nothing"
    assert max(memory[2:]) - memory[1] < GROWTH, memory


def test_it_serves_without_torch(served: Served) -> None:
    libraries = Path(f"/proc/{served.process.pid}/maps").read_text()
    assert "onnxruntime" in libraries
    assert "libtorch" not in libraries
