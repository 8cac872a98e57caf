"""What the values of a full grid have to do with a score: its variance, shared out among them.

No training stage imports this module: editing it retrains nothing.
"""

import math
from collections.abc import Sequence
from itertools import chain, combinations

import numpy as np
import pandas as pd


def variance_shares(rows: pd.DataFrame, parameters: Sequence[str], score: str) -> dict[tuple[str, ...], float]:
    """Share of each of `parameters`, and of each of their combinations, in the variance of `score`, a fraction.

    The functional analysis of variance (Hoeffding; Hutter et al., ICML 2014), exact, since every combination of values
    is there once: the variance of the mean at each combination of some parameters, less what fewer of them explain.
    What is missing to 1 is due to the other columns. Zero for all where the score has no variance.

    Raises:
        ValueError: some combination of values is there more often than another.
    """
    total = float(np.var(rows[score]))
    found: dict[tuple[str, ...], float] = {}
    for names in _subsets(parameters):
        groups = rows.groupby(list(names))[score]
        combined = math.prod(rows[name].nunique() for name in names)
        if groups.size().nunique() > 1 or groups.ngroups < combined:
            raise ValueError(f"{', '.join(names)}: not every combination of values is there equally often")
        explained = float(np.var(groups.mean())) / total if total else 0.0
        found[names] = explained - sum(found[fewer] for fewer in _subsets(names) if fewer != names)
    return found


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All but the empty one, the smaller first."""
    return list(chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1)))
