"""Stages, one script each. This comes before a stage's script and its imports, which take seconds.

Started by another Python than the project's, a stage says so instead of a traceback. What it is given is noted here,
before anything of `src` is imported; then its values and inputs are checked, and it says what begins.
"""

import gc
import os
import signal
import sys
from importlib.util import find_spec


def _started() -> list[str]:
    """Of `python -m stages.<name> ...`, the name and what follows it; nothing in another process."""
    module, *rest = [*sys.orig_argv[sys.orig_argv.index("-m") + 1 :], ""] if "-m" in sys.orig_argv else [""]
    package, _, name = module.partition(".")
    return [name, *rest[:-1]] if package == "stages" and name else []


def _end(number: int, _: object) -> None:
    """End at once, in one line of the first process: while a stage imports, nothing has begun that needs an end."""
    if os.environ.get("RANK", "0") == "0":
        how = "interrupted" if number == signal.SIGINT else "terminated"
        os.write(2, f"{_started()[0]}: {how} while it was starting\n".encode())
    os._exit(128 + number)


if _started():
    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) is not signal.SIG_IGN:  # as a shell's background job has it
            signal.signal(_number, _end)

missing = [name for name in ("yaml", "torch", "torchvision", "mlflow", "pandas", "psutil") if find_spec(name) is None]
if missing:
    mend = "put .venv/bin first on PATH (source .venv/bin/activate), or use `make run`"
    sys.stderr.write(f"{sys.executable} has no {', '.join(missing)}: {mend}\n")
    raise SystemExit(2)

if _started():
    from stages import given  # only now is it known that there is a yaml to import

    given.note(*_started()[:2])

    from stages import starting

    starting.begin(*_started())
    gc.disable()  # for the imports, a fifth of whose time goes into looking for garbage; console.run enables it again
