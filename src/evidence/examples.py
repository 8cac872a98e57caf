"""Which images show best what a method does: its surest mistakes, what another repaired, what it confuses.

No training stage imports this module: editing it retrains nothing. It imports no other statistic: editing one explains
no image again.
N test images, K classes.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from src.base.splits import SPLITS

COLUMNS = ("index", "actual", "named", "confidence")


def named_on_test(predictions: Mapping[str, Any], method: str, temperature: float = 1.0) -> pd.DataFrame:
    """What `method` named each test image, and how sure it was: COLUMNS, surest first.

    Args:
        predictions: data/predictions/*.pt as loaded, or what `answers.joined` returns.
        temperature: by which logits are divided; it changes how sure, and never what is named.

    Returns:
        index of the image within test, actual and named class as numbers 0..K-1, confidence a fraction; N rows.
    """
    chosen = predictions["split"] == SPLITS.index("test")
    logits = predictions["logits"][method][chosen].double()
    sure, named = (logits / temperature).softmax(dim=1).max(dim=1)
    columns = (predictions["index"][chosen], predictions["label"][chosen], named, sure)
    rows = pd.DataFrame({name: each.numpy() for name, each in zip(COLUMNS, columns, strict=True)})
    return rows.sort_values("confidence", ascending=False, kind="stable", ignore_index=True)


def mistakes(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are wrong, surest first."""
    return rows[rows["actual"] != rows["named"]]


def repaired(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The rows of `after` that are right where `before` was wrong, in the order of `after`."""
    return after[(after["actual"] == after["named"]) & after["index"].isin(mistakes(before)["index"])]


def broken(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """The rows of `after` that are wrong where `before` was right, in the order of `after`."""
    return mistakes(after)[~mistakes(after)["index"].isin(mistakes(before)["index"])]


def of_pair(rows: pd.DataFrame, actual: int, named: int) -> pd.DataFrame:
    """Images of one class that were taken for another, surest first."""
    return rows[(rows["actual"] == actual) & (rows["named"] == named)]


def to_explain(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The surest mistakes, and of as many classes the image that was named right most surely; `count` of each at most.

    Chosen without a temperature, so that what was explained does not depend on it.
    """
    right = rows[rows["actual"] == rows["named"]].drop_duplicates("actual")
    return pd.concat([mistakes(rows).head(count), right.head(count)], ignore_index=True)
