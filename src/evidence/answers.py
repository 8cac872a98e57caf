"""How sure an accuracy is, and where a classifier errs, computed from the per-image predictions that stages leave.

No training stage imports this module: editing it retrains nothing.
N images, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from src.base.splits import SPLITS
from src.evidence.intervals import proportion

SAME = ("split", "index", "label")  # what all files of predictions share


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The classes that each method named, image by image, so that methods can be compared on the same images.

    Attributes:
        rows: a row per image: split (of SPLITS), index (row in that split), actual, and a column per method; the
            latter two are class indices.
        classes: the K class names.
    """

    rows: pd.DataFrame
    classes: Sequence[str]

    @property
    def test(self) -> pd.DataFrame:
        """The rows of the test split."""
        return self.rows[self.rows["split"] == "test"]


def collect(*predictions: Mapping[str, Any]) -> Answers:
    """The classes that the methods of data/predictions/*.pt named; arguments and errors as of `joined`."""
    return named(joined(*predictions))


def named(found: Mapping[str, Any]) -> Answers:
    """The classes that the methods named, of what `joined` returns."""
    rows = pd.DataFrame({key: found[key].numpy() for key in SAME}).rename(columns={"label": "actual"})
    rows["split"] = pd.Categorical(np.array(SPLITS)[rows["split"]], categories=SPLITS)
    for method, logits in found["logits"].items():
        rows[method] = logits.argmax(dim=1).numpy()
    return Answers(rows=rows, classes=found["classes"])


def joined(*predictions: Mapping[str, Any]) -> dict[str, Any]:
    """One table of data/predictions/*.pt as loaded: label, split, index int64 (N,), logits (N, K) by method, classes.

    Raises:
        ValueError: the files are not about the same images.
    """
    first, *others = predictions
    for other in others:
        if not all(first[key].equal(other[key]) for key in SAME):
            raise ValueError(
                f"data/predictions: {', '.join(other['logits'])} and {', '.join(first['logits'])} are about different "
                "images; `dvc repro -f` makes both again"
            )
    logits = {method: each for file in predictions for method, each in file["logits"].items()}
    return {key: first[key] for key in (*SAME, "classes")} | {"logits": logits}


def accuracy_table(answers: Answers, methods: Sequence[str]) -> pd.DataFrame:
    """Accuracy of each method on each split that has images.

    Returns:
        Columns method, split, images, accuracy, low, high: fractions, with the 95 % Wilson interval.
    """
    correct = answers.rows[list(methods)].eq(answers.rows["actual"], axis=0)
    groups = correct.groupby(answers.rows["split"], observed=True)
    sums, sizes = groups.sum(), groups.size()
    return pd.DataFrame(
        [
            {"method": method, "split": split, **proportion(int(right), int(size))}
            for method in methods
            for split, right, size in zip(sums.index, sums[method], sizes, strict=True)
        ]
    )


def accuracy_per_class(answers: Answers, method: str) -> pd.DataFrame:
    """Share of each class's test images that `method` recognised.

    Returns:
        Columns class, images, accuracy, low, high: a row per class that has test images, in the order of the classes.
    """
    matrix = confusion_matrix(answers, method)
    rows = zip(answers.classes, matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), strict=True)
    return pd.DataFrame([{"class": name, **proportion(right, size)} for name, right, size in rows if size])


def confusion_matrix(answers: Answers, method: str) -> NDArray[np.int64]:
    """Number of test images by actual class (rows) and the class that `method` named (columns), int64 (K, K)."""
    count, test = len(answers.classes), answers.test
    cells = test["actual"].to_numpy() * count + test[method].to_numpy()
    return np.bincount(cells, minlength=count**2).reshape(count, count)


def confusion_rows(answers: Answers, method: str) -> pd.DataFrame:
    """A row per test image with the names of its class and of the one that `method` named: actual, predicted."""
    names, test = np.array(answers.classes, dtype=object), answers.test
    return pd.DataFrame({"actual": names[test["actual"]], "predicted": names[test[method]]})


def predictions_csv(answers: Answers) -> str:
    """The predictions on test as CSV: a row per image with its index, its class, and the one that each method named."""
    names, test = np.array(answers.classes, dtype=object), answers.test
    methods = [column for column in test.columns if column not in ("split", "index", "actual")]
    named = {name: names[test[name]] for name in ("actual", *methods)}
    return pd.DataFrame({"index": test["index"], **named}).to_csv(index=False, lineterminator="\n")


def confused_pairs(answers: Answers, methods: Sequence[str], limit: int) -> pd.DataFrame:
    """The pairs of classes that the last of `methods` confuses most on test, beside what the others do there.

    Returns:
        Columns actual, predicted, images (of the actual class), and one per method: how many of them it took for
        `predicted`; most first, at most `limit` rows, none without a mistake.
    """
    matrices = {method: confusion_matrix(answers, method) for method in methods}
    mistakes = matrices[methods[-1]].copy()
    images = mistakes.sum(axis=1)
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    actual, predicted = np.unravel_index(order[mistakes.ravel()[order] > 0], mistakes.shape)
    names = np.array(answers.classes, dtype=object)
    counts = {method: matrix[actual, predicted] for method, matrix in matrices.items()}
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted], "images": images[actual], **counts})


def commonest_class_accuracy(answers: Answers, split: str = "test") -> float:
    """Accuracy on `split` of always naming the class that is commonest in train."""
    commonest = answers.rows.loc[answers.rows["split"] == "train", "actual"].mode().iloc[0]
    rows = answers.rows[answers.rows["split"] == split]
    return float((rows["actual"] == commonest).mean())
