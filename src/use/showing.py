"""Answers on standard output as text, JSON or CSV, one by one as they come; words and progress on standard error."""

import csv
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from src.use.answers import DIGITS, Answer, values

SECONDS_BETWEEN_LINES = 10.0  # of progress
NOT_SURE = "not sure"


def lines(answers: Iterable[Answer], out: TextIO) -> Iterator[Answer]:
    """`cat.jpg: cat 93.1 %, dog 4.2 %`; errors go to standard error."""
    for answer in answers:
        if answer.error is not None:
            say(f"{answer.image}: {answer.error}")
        else:
            named = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answer.top)
            out.write(f"{_line(answer.image)}: {named if answer.sure else f'{NOT_SURE} ({named})'}\n")
        yield answer


def json_array(answers: Iterable[Answer], out: TextIO) -> Iterator[Answer]:
    """An array with an object a line; equal answers are equal bytes."""
    before = "[\n"
    for answer in answers:
        out.write(before + json.dumps({"image": answer.image, **values(answer)}, ensure_ascii=False))
        before = ",\n"
        yield answer
    out.write("\n]\n" if before == ",\n" else "[]\n")


def csv_rows(answers: Iterable[Answer], out: TextIO) -> Iterator[Answer]:
    """A row per image; where it could not be read, or nothing is sure, `answer` is empty."""
    writer, header = csv.writer(out, lineterminator="\n"), False
    for answer in answers:
        if not header:
            writer.writerow(["image", "answer", "class", "probability", "others", "error"])
            header = True
        name, share = answer.top[0] if answer.top else ("", None)
        others = "; ".join(f"{other} {part:.{DIGITS}f}" for other, part in answer.top[1:])
        shown = "" if share is None else f"{share:.{DIGITS}f}"
        writer.writerow([answer.image, name if answer.sure else "", name, shown, others, answer.error or ""])
        yield answer


def with_progress(answers: Iterable[Answer], total: int) -> Iterator[Answer]:
    """The answers; every ten seconds or so, how far they are, on standard error."""
    began = printed = time.monotonic()
    for count, answer in enumerate(answers, start=1):
        yield answer
        now = time.monotonic()
        if now - printed >= SECONDS_BETWEEN_LINES and count < total:
            rate, printed = count / (now - began), now
            say(f"{count} of {total} images, {rate:.0f}/s, {(total - count) / rate:.0f} s left")


def say(text: str) -> None:
    """One line on standard error, after this program's name."""
    sys.stdout.flush()  # where both go to a terminal, in the order in which they were said
    sys.stderr.write(f"predict: {_line(text)}\n")
    sys.stderr.flush()


def _line(text: str) -> str:
    """One line, whatever `text` holds: what is not printable is spelled out."""
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else ascii(c)[1:-1] for c in text)
