"""A Python that has the big libraries imported, and forks itself for each stage: starting one takes half a second.

Libraries alone: a stage imports the project's own files itself, as ever. What a stage does while it starts, what kills
it and what it says then have tests of their own, which start it as DVC does (tests/pipeline/test_starting.py).
"""

import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

LIBRARIES = ("torch._dynamo", "torchvision", "mlflow", "matplotlib.figure", "pandas", "sklearn.datasets", "optuna")
# Read while mlflow is imported.
SILENT = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "CRITICAL"}
LIMIT = 1 << 20  # bytes of a request
SHIM = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:2] != ["-m"] or not sys.argv[2].startswith("stages."):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect("{address}")
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [request], [0, 1, 2])
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
    """Fork for each connection, one after another, for ever."""
    del sys.path[0]  # this script's own folder
    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has no other threads"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen()
    os.rename(f"{address}.new", address)
    while True:
        asking, _ = server.accept()
        request, files, _, _ = socket.recv_fds(asking, LIMIT, 3)
        child = os.fork()
        if not child:
            _become(*json.loads(request), files)
        for file in files:
            os.close(file)
        asking.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        asking.close()


def _become(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> NoReturn:
    """Be the process that was asked for, to its end."""
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
