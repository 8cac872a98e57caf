"""Tables for a terminal, of texts: the first column's words to the left, all else to the right."""

from collections.abc import Iterator, Sequence

from src.interface.console import COLUMNS

GAP = "  "
FEWEST = 8  # characters that a column of words keeps


def lines(rows: Sequence[Sequence[str]], width: int = COLUMNS) -> Iterator[str]:
    """A line a row, the first row being the head; words that leave no room for the rest end in `…`.

    Where even that is too wide, the last columns go below, a line each.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = width - sum(len(GAP) + each for each in widths[1:])
    if room < FEWEST:
        yield from _stacked(rows, width)
        return
    first = min(widths[0], room)
    for row in rows:
        words = _cut(row[0], first).ljust(first)
        yield GAP.join([words, *(text.rjust(each) for text, each in zip(row[1:], widths[1:], strict=True))]).rstrip()


def _stacked(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    head, *others = rows
    for row in others:
        yield _cut(row[0], width)
        for name, text in zip(head[1:], row[1:], strict=True):
            if text:
                yield _cut(f"- {name}: {text}", width)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
