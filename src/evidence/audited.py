"""What the audit of the images means for the scores: accuracy without near copies, and who else doubts a label.

No training stage imports this module: editing it retrains nothing.
N images.
"""

from collections.abc import Sequence

import pandas as pd

from src.evidence.answers import Answers
from src.evidence.copied import with_copies
from src.evidence.intervals import proportion


def accuracies(answers: Answers, copies: pd.DataFrame, methods: Sequence[str], split: str, other: str) -> pd.DataFrame:
    """Accuracy on `split`: of all images, of those without a near copy in `other`, and of those with one.

    Returns:
        Columns method, part (all, without, with), images, accuracy, low, high: fractions, with the 95 % Wilson
        interval; no row for a part that has no image.
    """
    rows = answers.rows[answers.rows["split"] == split]
    has = rows["index"].isin(with_copies(copies, split, other))
    parts = {"all": has | True, "without": ~has, "with": has}
    return pd.DataFrame(
        [
            {"method": method, "part": part, **proportion(int(right[chosen].sum()), int(chosen.sum()))}
            for method in methods
            for right in [rows[method] == rows["actual"]]
            for part, chosen in parts.items()
            if chosen.any()
        ]
    )


def seconded(answers: Answers, labels: pd.DataFrame, method: str) -> pd.Series:
    """Of each doubtful label, whether `method` names the class that the audit suggests, too, by the rows of `labels`.

    Args:
        labels: plots/audit/doubtful_labels.csv.
    """
    named = answers.rows.set_index(["split", "index"])[method]
    places = named.reindex(pd.MultiIndex.from_frame(labels[["split", "index"]])).to_numpy()
    classes = pd.Series([answers.classes[place] for place in places], index=labels.index, dtype=object)
    return classes == labels["suggested"]
