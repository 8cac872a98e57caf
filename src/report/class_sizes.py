"""What the report says of classes that are few in images, or of unequal size. K classes."""

import numpy as np
from numpy.typing import NDArray

from src.base.proportions import wilson_interval
from src.report.certainty_tables import score_text
from src.report.numbers import NARROW, count
from src.report.study import Study

UNEQUAL = 2.0  # times as many images as another class: from here on accuracy says most about the large ones
FEW = 100  # test images of a class, below which its own share is known badly


def in_front(study: Study) -> list[str]:
    """Scores in which each class counts alike, where accuracy would speak for the large ones; else nothing."""
    sizes, classes = _sizes(study), study.answers.classes
    smallest, largest = int(sizes.argmin()), int(sizes.argmax())
    if sizes[largest] <= UNEQUAL * sizes[smallest]:
        return []
    frozen, tuned = (_balanced(study, method) for method in ("frozen", "finetuned"))
    more = " class_weights=balanced trains them so." if study.settings["class_weights"] == "equal" else ""
    return [
        f"With each class counted alike (balanced accuracy), the fine-tuned network is right in {tuned}, the frozen "
        f"backbone in {frozen}: {classes[largest]} has {count(int(sizes[largest]))} training images, "
        f"{classes[smallest]} {count(int(sizes[smallest]))}, and plain accuracy speaks for the large classes.{more}"
    ]


def lacking(study: Study) -> list[str]:
    """Which class has the fewest images, to train on and in test, and how little is known of it; nothing where all have
    many.
    """
    rows = study.assessed.classes
    tested = rows[rows["method"] == "finetuned"]["images"].to_numpy()
    sizes = _sizes(study)
    if tested.min() >= FEW and not in_front(study):
        return []
    least, known = (int(np.lexsort(each)[0]) for each in ((tested, sizes), (sizes, tested)))
    names, images = study.answers.classes, int(tested[known])
    alike = int(((sizes == sizes[least]) & (tested == tested[least])).sum())
    subject = f"{names[least]} has" if alike == 1 else f"{names[least]} and {count(alike - 1)} more have"
    has = f"{subject} the fewest images, {count(int(sizes[least]))} to train on"
    if alike == len(sizes):
        has = f"Each class has {count(int(sizes[least]))} images to train on"
    if tested[least] > images:
        has += f"; {names[known]} has the fewest in test, {count(images) if images else 'none'}"
    else:
        has += f" and {count(images) if images else 'none'} in test"
    if not images:
        return [f"{has}: of its own accuracy nothing is known."]
    low, high = wilson_interval(images // 2, images)
    return [f"{has}, by which its own accuracy is known to ±{100 * (high - low) / 2:.0f}{NARROW}points at worst."]


def _sizes(study: Study) -> NDArray[np.int64]:
    """Training images by class, (K,)."""
    return np.bincount(np.asarray(study.images.labels), minlength=len(study.answers.classes))


def _balanced(study: Study, method: str) -> str:
    return score_text("balanced_accuracy", study.assessed.score(method, "balanced_accuracy"))
