"""What a stage shows a person: errors in one line, plain sentences, and progress. The only module that prints.

An observer: nothing here can change what a stage computes.
"""

import atexit
import gc
import os
import signal
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn, Protocol

from tqdm import tqdm

from src.base import ranks

EXPECTATION_STEPS, EXPECTATION_SECONDS = 10, 1.0  # what an expected time is measured over, at least
SECONDS_BETWEEN_LINES = 10.0  # of progress that goes to a file or a pipe
COLUMNS = 80  # that a line on stdout has at most
BEGAN = time.monotonic()  # all but the start of Python itself: a stage imports this first
_folded = textwrap.TextWrapper(COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left"

tqdm.monitor_interval = 0  # no thread: a stage may fork workers
tqdm.set_lock(threading.RLock())  # its own is a semaphore between processes, which nothing here needs


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill`, `docker stop` and schedulers send it: whatever holds for Ctrl-C holds for this."""


class Progress(Protocol):
    """What `progress` gives: tell it how much was done since the last call."""

    def advance(self, n: int = 1) -> None: ...


def run(main: Callable[[], None]) -> None:
    """Run a stage; what a person can mend (a bad value, file or loss) ends in one line on stderr and exit status 2.

    Ctrl-C ends with 130, SIGTERM with 143. With TRACEBACK=1 in the environment the traceback comes instead of the line.
    Every other exception is a bug of ours and keeps its traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class name must not end a stage in a latin-1 terminal
    stage = not gc.isenabled()  # by stages/__init__.py, for the imports
    if stage:
        gc.freeze()  # imports stay: looking through them for garbage would take a tenth of a short stage's time
    gc.enable()
    status = 0
    try:
        with _interruptible():
            main()
    except (ValueError, OSError, FloatingPointError, MemoryError, KeyboardInterrupt) as error:
        if os.environ.get("TRACEBACK") == "1":
            traceback.print_exc()
        else:
            _write(_line(f"{_stage()}: {_message(error)}"), sys.stderr)
        if isinstance(error, BrokenPipeError):  # or the interpreter fails once more when it flushes stdout at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 143 if isinstance(error, Terminated) else 130 if isinstance(error, KeyboardInterrupt) else 2
    if stage:
        _leave(status)
    if status:
        sys.exit(status)


def _leave(status: int) -> NoReturn:
    """End the process without taking apart all that was imported, which takes seconds; files are on disk by now."""
    atexit._run_exitfuncs()
    with suppress(OSError):  # a reader that went away
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C and, in the first process, SIGTERM raise, unless they are ignored; afterwards all is as before.

    The other processes have nothing to put in order: torchrun's SIGTERM ends them at once, also where they wait for one
    another in C++, which no exception reaches.
    """
    terminate = _terminate if ranks.leads() else signal.SIG_DFL
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}
    before = {number: signal.getsignal(number) for number in handlers}
    for number in (number for number in handlers if before[number] is not signal.SIG_IGN):
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # often it comes twice, and what it began shall end
    raise Terminated


def say(text: str) -> None:
    """Print `text` as one line on stdout, or as several where it is longer than COLUMNS, at once.

    A progress bar steps aside. Of many processes, the first speaks.
    """
    if ranks.leads():
        _write("\n".join(_folded.wrap(_line(text))), sys.stdout)


def answer(label: str, text: str) -> None:
    """Say what the stage `label` found, and how long that took since its process began."""
    say(f"{label}: {text}, {duration(time.monotonic() - BEGAN)}")


def warn(text: str) -> None:
    """Print `text` as one line on stderr, after the word "warning"."""
    _write(_line(f"{_stage()}: warning: {text}"), sys.stderr)


@contextmanager
def progress(total: int | None, unit: str, label: str, *, start: int = 0) -> Iterator[Progress]:
    """Show how far a loop is, on stderr: a bar on a terminal, otherwise a plain line every ten seconds or so.

    Args:
        total: of `unit`, the whole; None where it is not known.
        unit: a plural noun ("images"), shown per second; "B" is bytes, shown in kB, MB, ...
        label: what is being done, in a word or two.
        start: how much of `total` was done before (a resumed download); it does not count as speed.
    """
    scaled = unit == "B"
    if not ranks.leads():
        yield _Silence()
        return
    expectation = _Expectation(total - start if total else 0, unit, label)
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        lines = _Lines(total, unit, label, start, expectation)
        yield lines
        lines.close()
        return
    sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # some terminals, of containers say, have no size
    with tqdm(
        total=total,
        initial=start,
        desc=label,
        unit=unit if scaled else f" {unit}",
        unit_scale=scaled,
        bar_format=_FORMAT,
        ncols=None if sized else 80,
        dynamic_ncols=sized,
        miniters=1,
        file=sys.stderr,
    ) as bar:
        yield _Bar(bar, expectation)


def epoch_line(label: str, epochs: int) -> Callable[[dict[str, Any]], None]:
    """A callback that says one line per row of a training curve; of a member of a family, without the family's name."""

    def line(row: dict[str, Any]) -> None:
        train, val = (
            f"{part} {row[f'{part}_accuracy']:.1%}, loss {row[f'{part}_loss']:.2f}" for part in ("train", "val")
        )
        say(f"{label.rpartition('@')[2]}: epoch {row['epoch']}/{epochs}: {train}; {val}")

    return line


class _Expectation:
    """Says once, from the first steps but the very first, how long the whole will take."""

    def __init__(self, total: int, unit: str, label: str) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.steps, self.done, self.began, self.said = 0, 0, 0.0, not total

    def advance(self, n: int) -> None:
        if self.said:
            return
        now = time.monotonic()
        if not self.steps:
            self.began = now
        else:
            self.done += n
        self.steps += 1
        if self.steps > EXPECTATION_STEPS and now - self.began >= EXPECTATION_SECONDS:
            self.said = True
            rate = self.done / (now - self.began)
            say(
                f"{self.label}: about {duration(self.total / rate)} at {_amount(rate, self.unit)}/s, by its first steps"
            )


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3.5 h`: as exactly as an estimate deserves."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Silence:
    """The progress of a process that does not speak."""

    def advance(self, n: int = 1) -> None: ...


class _Bar:
    """Progress as a bar with percent, rate and the time left."""

    def __init__(self, bar: "tqdm[Any]", expectation: _Expectation) -> None:
        self.bar, self.expectation = bar, expectation

    def advance(self, n: int = 1) -> None:
        self.bar.update(n)
        self.expectation.advance(n)


class _Lines:
    """Progress as plain lines; none at all for what is done within SECONDS_BETWEEN_LINES."""

    def __init__(self, total: int | None, unit: str, label: str, start: int, expectation: _Expectation) -> None:
        self.expectation = expectation
        self.total, self.unit, self.label = total, unit, label
        self.start = self.done = self.shown = start
        self.began = self.printed = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self.done += n
        self.expectation.advance(n)
        if time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self._print()

    def close(self) -> None:
        if self.printed > self.began and self.done > self.shown:
            self._print()

    def _print(self) -> None:
        self.printed, self.shown = time.monotonic(), self.done
        rate = (self.done - self.start) / max(self.printed - self.began, 1e-9)
        done, speed = _amount(self.done, self.unit), f"{_amount(rate, self.unit)}/s"
        if self.total:
            left = tqdm.format_interval((self.total - self.done) / rate) if rate > 0 else "?"
            done = f"{self.done / self.total:.0%} of {_amount(self.total, self.unit)}"
            speed += f", {left} left" if self.done < self.total else ""
        _write(_line(f"{self.label}: {done}, {speed}"), sys.stderr)


def _amount(value: float, unit: str) -> str:
    if unit == "B":
        return f"{tqdm.format_sizeof(value)}B"
    return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.2g} {unit}"


def _write(text: str, stream: Any) -> None:
    tqdm.write(text, file=stream)
    stream.flush()


def _line(text: str) -> str:
    """One line, whatever `text` holds: newlines folded, control characters spelled out."""
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())
    return "".join(c if c.isprintable() else " " if c.isspace() else ascii(c)[1:-1] for c in line)


def _stage() -> str:
    """`finetune` for `python -m stages.finetune`; of many processes, all but the first say which they are."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem or "python"
    if name == "-m":  # Python has imported the package, and not yet begun the module in it
        name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    name = name.rpartition(".")[2]
    return name if ranks.leads() else f"{name} (process {ranks.rank()})"


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "terminated" if isinstance(error, Terminated) else "interrupted"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    if isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return f"{' -> '.join(names)}: {error.strerror}" if names else error.strerror
    return str(error) or type(error).__name__
