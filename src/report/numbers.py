"""How the report writes numbers for people: everywhere the same, in one place."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

NARROW = "\u202f"  # a narrow space that does not break

MINUS = "\u2212"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}{NARROW}%"


def interval(row: Mapping[Any, Any]) -> str:
    """Accuracy with its interval, in per cent."""
    return f"{percent(row['accuracy'])} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def count(number: int) -> str:
    return f"{number:,}".replace(",", NARROW)


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}{NARROW}s" if seconds >= 10 else f"{seconds:.1f}{NARROW}s"
    if seconds < 7200:
        return f"{seconds / 60:.1f}{NARROW}min"
    return f"{seconds / 3600:.1f}{NARROW}h"


def listed(names: Iterable[str], word: str = "and") -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else str(last)


def digits(number: float) -> str:
    """Three significant ones, a whole number from 100 on, nothing for nan."""
    if math.isnan(number):
        return ""
    return (count(round(number)) if abs(number) >= 100 else f"{number:#.3g}").replace("-", MINUS)


def points(fraction: float, digits: int = 1) -> str:
    """Percentage points with their sign, which 0 has none of."""
    return f"{100 * fraction:{'+' if fraction else ''}.{digits}f}".replace("-", MINUS)


def p_value(chance: float) -> str:
    """Of a test; never 0, which no test finds."""
    return "< 0.001" if chance < 0.001 else f"{chance:.3f}"
