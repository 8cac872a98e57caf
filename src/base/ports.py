"""Ports of this machine, for what is served to this machine alone."""

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

HOST = "127.0.0.1"
PORTS = 65536
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine's own ports
SECONDS = 120.0  # until a server that does not answer has failed


def chosen(first: int) -> int:
    """PORT of the environment, else `first`, or the next one from there on that is free."""
    return free_port(os.environ.get("PORT") or str(first))


def free_port(wanted: str) -> int:
    """The first from `wanted` on that nothing listens at.

    Raises:
        ValueError: `wanted` is no port, or none is free from there on.
    """
    if not wanted.isdecimal() or not 0 < int(wanted) < PORTS:
        raise ValueError(f"PORT={wanted} in the environment: allowed: 1 to {PORTS - 1}, or unset")
    found = next((port for port in range(int(wanted), PORTS) if free(port)), None)
    if found is None:
        raise ValueError(f"PORT={wanted} in the environment: no port from there on is free; allowed: a lower one")
    return found


def free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True


def wait_for(page: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once `server` answers at `page`.

    Raises:
        ValueError: it ended, or did not answer in time; what it said stands in `log`.
    """
    deadline = time.monotonic() + SECONDS
    while not _answers(page):
        if server.poll() is not None or time.monotonic() > deadline:
            raise ValueError(f"no answer from {page}: {log} has what the server said")
        time.sleep(0.3)


def _answers(page: str) -> bool:
    try:
        with _DIRECT.open(page, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
