"""Which images have a near copy, and where. Apart, as the audit and the report both ask it.

No training stage imports this module: editing it retrains nothing.
"""

import pandas as pd


def with_copies(copies: pd.DataFrame, split: str, other: str) -> list[int]:
    """Sorted indices of the images of `split` that have a near copy in `other`.

    Args:
        copies: plots/audit/near_copies.csv.
    """
    found = set[int]()
    for one, two in (("first", "second"), ("second", "first")):
        rows = copies[(copies[f"{one}_split"] == split) & (copies[f"{two}_split"] == other)]
        found |= set(rows[f"{one}_index"].tolist())
    return sorted(found)
