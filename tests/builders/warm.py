"""A Python that has the big libraries imported, and forks itself for each stage: starting one takes half a second.

Libraries alone: a stage imports the project's own files itself, as ever. What a stage does while it starts, and what it
says when it is interrupted then, have tests of their own, which start it as DVC does (tests/pipeline/test_starting.py).
What ends the process that asked ends the stage: kill -9 as kill -9, Ctrl-C and SIGTERM as themselves.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "torch._dynamo",
    "torchvision",
    "mlflow",
    "matplotlib.figure",
    "pandas",
    "sklearn.datasets",
    "optuna",
    "cleanlab.filter",
)
# Read while mlflow is imported.
SILENT = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
LIMIT = 1 << 20  # bytes of a request
SHIM = """#!{python} -IS
import json, os, signal, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith("stages."):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect("{address}")
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [request], [0, 1, 2])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
sys.exit(int(server.recv(8) or 1))
"""


@contextmanager
def python(folder: Path) -> Iterator[Path]:
    """A folder whose `python`, first on PATH, runs `python -m stages.…` in a process that is warm already."""
    address, shim = folder / "socket", folder / "bin/python"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(python=sys.executable, address=address))
    shim.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(address)], env={**os.environ, **SILENT})
    try:
        while not address.exists():
            assert server.poll() is None, "the warm Python ended"
            time.sleep(0.05)
        yield shim.parent
    finally:
        server.kill()
        server.wait()


def serve(address: str) -> None:
    """Fork a process for each connection, for ever, which forks the stage and watches over it."""
    del sys.path[0]  # this script's own folder
    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has no other threads"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen()
    os.rename(f"{address}.new", address)
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        asking, _ = server.accept()
        if not os.fork():
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _watch(asking)
        asking.close()


def _reap(*_: object) -> None:
    """Wait for those who watch that have ended: so their processor time, and the stage's, counts as the tests' own."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _watch(asking: socket.socket) -> NoReturn:
    """Fork the stage, in a process group of its own; pass on the signals that `asking` names, and its end."""
    request, files, _, _ = socket.recv_fds(asking, LIMIT, 3)
    child = os.fork()
    if not child:
        asking.close()
        _become(*json.loads(request), files)
    with suppress(OSError):  # it has one, or is gone
        os.setpgid(child, child)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(child)
    while ended not in select.select([asking, ended], [], [])[0]:
        number = asking.recv(1)  # none: who asked is gone
        with suppress(ProcessLookupError):
            os.killpg(child, number[0] if number else signal.SIGKILL)
        if not number:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        asking.send(str(status).encode())
    os._exit(0)


def _become(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """Be the process that was asked for, in a group of its own, to its end."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.orig_argv = [sys.executable, *arguments]
    sys.argv = arguments[1:]
    audit = Path(os.environ.get("PYTHONPATH", "nowhere")) / "sitecustomize.py"
    if audit.is_file():
        runpy.run_path(str(audit))
    sys.path.insert(0, folder)
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    serve(sys.argv[1])
