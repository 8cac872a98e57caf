"""The page's server: an image is answered as `predict` does, what is none gets a reason, and nobody else may ask."""

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src.images.decoding import decode_image
from src.use import demo
from src.use.answers import answer, values
from src.use.demo import Server
from tests.builders import exported
from tests.builders.data import encoded, pixels


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(0, exported.model(), None) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        found.shutdown()


def asked(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    try:
        connection.request(method, path, body, headers)
        found = connection.getresponse()
        return found.status, found.read()
    finally:
        connection.close()


def said_of(server: Server, content: bytes) -> dict[str, Any]:
    status, body = asked(server, "POST", "/answer", content)
    assert status == 200, body
    return dict(json.loads(body))


def test_one_picture_has_the_answer_of_the_command_line_and_is_shown_as_the_model_has_it(server: Server) -> None:
    for content in exported.turned_photos().values():
        found, stored = said_of(server, content), decode_image(content, exported.SIDE)
        meant = values(answer(exported.model(), "", stored, top=demo.TOP, threshold=exported.THRESHOLD))
        assert {key: found[key] for key in meant} == meant
        assert found["near"] == []
        shown = base64.b64decode(found["seen"].removeprefix("data:image/png;base64,"))
        np.testing.assert_array_equal(decode_image(shown, exported.SIDE), stored)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "is empty"), (b"no image", "no JPEG, PNG, WEBP, BMP"), (encoded(pixels(40, 40))[:900], "damaged: ")],
)
def test_what_is_no_image_is_said(server: Server, content: bytes, why: str) -> None:
    status, body = asked(server, "POST", "/answer", content)
    assert (status, json.loads(body)["error"][: len(why)]) == (400, why)


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    status, body = asked(server, "POST", "/answer", None, **{"Content-Length": str(demo.MAX_BYTES + 1)})
    assert (status, json.loads(body)["error"]) == (413, "more than 64 MiB")
    assert "const most = 64 * 2 ** 20" in demo.PAGE.read_text(), "the page says so, too"
    status, body = asked(server, "POST", "/answer", None, **{"Transfer-Encoding": "chunked"})
    assert status == 411
    status, body = asked(server, "POST", "/answer", None, **{"Content-Length": "9" * 5000})
    assert status == 413


def test_a_page_of_another_host_that_leads_here_gets_nothing(server: Server) -> None:
    for method, path in (("GET", "/"), ("POST", "/answer")):
        status, body = asked(server, method, path, b"", Host="evil.example:80")
        assert (status, json.loads(body)) == (421, {"error": "allowed: http://127.0.0.1"})


def test_a_page_elsewhere_cannot_ask_and_the_page_itself_can(server: Server) -> None:
    own, image = f"127.0.0.1:{server.server_address[1]}", encoded(pixels(8, 8))
    for origin, status in (("https://evil.example", 421), ("null", 421), (f"http://{own}", 200)):
        assert asked(server, "POST", "/answer", image, Origin=origin)[0] == status
    assert asked(server, "POST", "/answer", image, Host="127.0.0.1", Origin="http://127.0.0.1")[0] == 200, "at port 80"


def test_a_request_has_one_response(server: Server) -> None:
    with socket.create_connection(server.server_address[:2], 10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        said = b""
        while part := connection.recv(4096):
            said += part
    assert said.count(b"HTTP/1.1") == 1


def test_only_so_many_images_are_decoded_at_a_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, lock = 0, 0, threading.Lock()

    def slowly(content: bytes, size: int) -> NDArray[np.uint8]:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return decode_image(content, size)

    monkeypatch.setattr(demo, "decode_image", slowly)
    content = encoded(pixels(8, 8))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: said_of(server, content), range(8)))
    assert most == demo.AT_ONCE
    assert all(each == answers[0] for each in answers)


def test_the_page_is_one_file_and_all_else_is_nowhere(server: Server) -> None:
    status, body = asked(server, "GET", "/")
    assert status == 200
    assert body == demo.PAGE.read_bytes()
    for loaded in (b"http://", b"https://", b"src=", b"@import"):
        assert loaded not in body, "nothing comes from elsewhere"
    for path in ("/../models/finetuned.onnx", "/answer", "/x"):
        assert asked(server, "GET", path)[0] == 404
    assert asked(server, "POST", "/x", b"")[0] == 404
