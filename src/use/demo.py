"""A page on this machine that takes an image and says what the model takes it for.  `python -m src.use.demo`

It shows the calibrated probability, and the training images nearest to the image in the frozen features of the study,
where these are there. Nothing leaves this machine. PORT=5003 takes another port.
"""

import argparse
import base64
import json
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.base import ports
from src.images.decoding import BadImageError, decode_image
from src.images.encoding import png
from src.interface import console
from src.use import answering, nearest
from src.use.answering import Model
from src.use.answers import answer, values
from src.use.nearest import Neighbours

PORT = 5002
MODEL = "models/finetuned.onnx"
PAGE = Path(__file__).with_name("demo.html")
MAX_BYTES = 64 * 2**20  # of an image
LENGTH = 20  # digits of a length that are read as a number
SECONDS = 30  # that a request may be silent
AT_ONCE = 2  # images that are decoded at a time, each within 1 GiB (decoding.MAX_MEMORY)
TOP, NEAR = 5, 5  # classes named, and training images shown


class Server(ThreadingHTTPServer):
    """The page at /, answers to images that are sent to /answer."""

    daemon_threads = True

    def __init__(self, port: int, model: Model, neighbours: Neighbours | None) -> None:
        super().__init__((ports.HOST, port), Handler)
        self.model, self.neighbours = model, neighbours
        self.turns = threading.Semaphore(AT_ONCE)

    def said_of(self, content: bytes) -> dict[str, Any]:
        """What the page shows of an image file.

        Raises:
            BadImageError: it is no image.
        """
        with self.turns:
            pixels = decode_image(content, self.model.size)
        found = answer(self.model, "", pixels, top=TOP, threshold=self.model.threshold)
        return {**values(found), "seen": _url(pixels), "near": self._near(pixels)}

    def _near(self, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
        if self.neighbours is None:
            return []
        return [
            {
                "class": each.label,
                "similarity": round(each.similarity, 3),
                "image": _url(self.neighbours.pixels(each.index)),
            }
            for each in self.neighbours.of(pixels, NEAR)
        ]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a browser that went away
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request. A page elsewhere cannot ask: the host and the origin that a browser names must be this machine's."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        if not self._is_here():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, PAGE.read_bytes(), "text/html; charset=utf-8")
        else:
            self._say(HTTPStatus.NOT_FOUND, {"error": "nothing is here; allowed: /"})

    def do_POST(self) -> None:
        if not self._is_here():
            return
        length = self.headers.get("Content-Length", "")
        if self.path != "/answer":
            self._refuse(HTTPStatus.NOT_FOUND, "nothing is here; allowed: /answer")
        elif not length.isdecimal():
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "no Content-Length; allowed: an image file as the body")
        elif len(length) > LENGTH or int(length) > MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MAX_BYTES >> 20} MiB")
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, content: bytes) -> None:
        try:
            if not content:
                raise BadImageError("is empty")
            self._say(HTTPStatus.OK, self.server.said_of(content))
        except BadImageError as error:
            self._say(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def _is_here(self) -> bool:
        """Whether it is asked for by an address of this machine, since a name of somebody else's may lead here, too,
        and by a page of ours or no page at all.
        """
        host = self.headers.get("Host", "")
        own = host.partition(":")[0] in (ports.HOST, "localhost")
        if own and self.headers.get("Origin") in (None, f"http://{host}"):
            return True
        self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"allowed: http://{ports.HOST}")
        return False

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer without reading the body, which ends the connection."""
        self.close_connection = True
        self._say(status, {"error": why})

    def _say(self, status: HTTPStatus, said: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(said, ensure_ascii=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...


def _url(pixels: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.use.demo", description=__doc__.partition("  ")[0])
    parser.add_argument("--model", default=MODEL, help=f"default: {MODEL}")
    model = answering.load(parser.parse_args().model)
    try:
        neighbours = nearest.load(model.classes, model.size)
    except ValueError as error:
        console.warn(f"no nearest training images: {error}")
        neighbours = None
    with Server(ports.chosen(PORT), model, neighbours) as server:
        console.say(f"drop an image at http://{ports.HOST}:{server.server_address[1]}, on this machine; Ctrl-C ends it")
        server.serve_forever()


if __name__ == "__main__":
    console.run(main)
