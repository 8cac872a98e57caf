"""The chapter on whether images and labels are sound, and what that means for the scores. T x T pixels."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor

from src.base.splits import SPLITS
from src.evidence import audited
from src.figures import thumbnails
from src.figures.style import both
from src.report.numbers import count, interval, percent
from src.report.pages import Figure, Section, Table
from src.report.study import LABELS, TRAINED, Study

PAIR_COLUMNS, LABEL_COLUMNS, LABELS_SHOWN = 4, 8, 32
PARTS = {"all": "all images", "without": "without a near copy in train", "with": "with one"}
JUDGED = {"val": "Validation", "test": "Test"}


def chapter(study: Study) -> Section:
    """What was found, what the scores are without it, and thumbnails to judge both by."""
    blocks: list[str | Figure | Table] = [answer(study), _meaning(study), _counts(study)]
    blocks += [*_score_rows(study), *_pairs(study), *_labels(study)]
    return Section(title="Are the images and labels sound?", blocks=blocks)


def answer(study: Study) -> str:
    """The fine-tuned network's accuracy on test with and without near copies, and how many labels are doubtful."""
    rows = audited.accuracies(study.answers, study.audit.copies, ["finetuned"], "test", "train").set_index("part")
    copies, runs = study.audit.metrics["test"]["in_train"], study.assessed.over_seeds["accuracy"].runs
    text = f"{percent(rows['accuracy'].iloc[0])} on test{' by the first seed' if runs > 1 else ''}"
    if not copies:
        return f"{text}: no test image has a near copy in train, and {_doubted(study)}."
    images = "1 test image that has" if copies == 1 else f"{count(copies)} test images that have"
    if "without" not in rows.index:
        return f"{text}: each of the {images} a near copy in train, and {_doubted(study)}."
    without = interval(dict(rows.loc["without"]))
    return f"{text}; without the {images} a near copy in train {without}; {_doubted(study)}."


def _doubted(study: Study) -> str:
    """The probe did not learn from the image that it doubts, and the network from no image of test."""
    labels = study.audit.labels[study.audit.labels["split"] == "test"]
    if not len(labels):
        return "no test label is doubtful"
    words = "1 test label is" if len(labels) == 1 else f"{count(len(labels))} test labels are"
    seconded = int(audited.seconded(study.answers, labels, "finetuned").sum())
    return f"{words} doubtful to a probe, {count(seconded)} of them to the fine-tuned network as well"


def _meaning(study: Study) -> str:
    folds, facts = study.settings["audit"].folds, study.audit.run.facts
    images = sum(study.metrics["download"][split]["images"] for split in SPLITS)
    unjudged = images - facts["judged"]
    return (
        "Near copies are neighbours by their frozen features whose details, pixel by pixel, are far more alike than "
        "those of neighbours usually are; brightness, contrast, a small shift and mirroring aside. A label is doubtful "
        f"where a linear probe, fitted on the other {folds - 1} of {folds} parts of all images, near copies on one "
        "side, names another class more surely than it names that class elsewhere (confident learning). Neither is "
        "proof, and nothing was left out: look at the images below, and decide. All of them stand in "
        "plots/audit/near_copies.csv and doubtful_labels.csv, by their place in the split."
        + (f" {count(unjudged)} labels could not be judged: their class has no other image." if unjudged else "")
        + (" Not every probe converged." if facts["unconverged"] else "")
    )


def _counts(study: Study) -> Table:
    found = study.audit.metrics
    rows = [
        [
            split,
            count(study.metrics["download"][split]["images"]),
            *(count(found[split][key]) if key in found[split] else "" for key in ("within", "in_train", "in_val")),
            count(found[split]["doubtful"]),
        ]
        for split in SPLITS
    ]
    columns = ["Split", "Images", "Near copy within", "In train", "In validation", "Doubtful labels"]
    return Table(
        name="audit",
        caption="Images that have a near copy in their own split, in train and in validation, and doubtful labels.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _score_rows(study: Study) -> list[Table]:
    """Accuracy with and without near copies; none where there are none."""
    rows = []
    for split, name in JUDGED.items():
        found = audited.accuracies(study.answers, study.audit.copies, list(TRAINED), split, "train")
        for part, words in PARTS.items() if study.audit.metrics[split]["in_train"] else ():
            chosen = found[found["part"] == part].set_index("method")
            if len(chosen):
                images = count(int(chosen["images"].iloc[0]))
                rows.append([name, words, images, *(interval(dict(chosen.loc[method])) for method in TRAINED)])
    if not rows:
        return []
    columns = ["Split", "Images", "How many", *(LABELS[method] for method in TRAINED)]
    caption = "Accuracy on images with and without a near copy in train, with 95 % Wilson intervals."
    return [Table(name="without_copies", caption=caption, rows=pd.DataFrame(rows, columns=columns), text_columns=2)]


def _pairs(study: Study) -> list[Figure]:
    found = study.audit.thumbnails
    rows = study.audit.copies.iloc[found["pair_rows"].tolist()].to_dict("records")
    if not rows:
        return []
    words = [[_place(row, "first_"), _place(row, "second_"), f"likeness {row['likeness']:.2f}"] for row in rows]
    return [
        Figure(
            name="near_copies",
            **both(partial(thumbnails.sheet, _pixels(found["pairs"]), words, PAIR_COLUMNS)),
            alt=f"{len(rows)} pairs of images side by side: {'; '.join(' and '.join(each[:2]) for each in words[:3])}.",
            caption=f"{count(len(rows))} of {count(len(study.audit.copies))} pairs of near copies, those across splits "
            "first, from the most alike to the least: the last ones say how far to believe the count.",
            photographs=True,
        )
    ]


def _labels(study: Study) -> list[Figure]:
    """Those of test first that the fine-tuned network doubts, too."""
    found = study.audit.thumbnails
    chosen = study.audit.labels.iloc[found["label_rows"].tolist()].reset_index(drop=True)
    if not len(chosen):
        return []
    agreed = audited.seconded(study.answers, chosen, "finetuned") & (chosen["split"] == "test")
    order = (~agreed).sort_values(kind="stable").index[:LABELS_SHOWN]
    words = [
        [f"{row['label']}?", str(row["suggested"]), f"{row['split']} {row['index']}{' ✓' if row['agreed'] else ''}"]
        for row in chosen.assign(agreed=agreed).loc[order].to_dict("records")
    ]
    pixels = _pixels(found["labels"][order.tolist()].unsqueeze(1))
    return [
        Figure(
            name="doubtful_labels",
            **both(partial(thumbnails.sheet, pixels, words, LABEL_COLUMNS)),
            alt=f"{len(words)} images with a doubtful label: "
            f"{'; '.join(f'{label} rather {other}' for label, other, _ in words[:3])}.",
            caption=f"{count(len(words))} of {count(len(study.audit.labels))} doubtful labels: the label, below it the "
            "class that the probe names, and the image's place; ✓ where the fine-tuned network names that class, too. "
            "These come first, then those of test, the least believed first.",
            photographs=True,
        )
    ]


def _place(row: Mapping[Any, Any], prefix: str) -> str:
    return f"{row[f'{prefix}split']} {row[f'{prefix}index']} {row[f'{prefix}label']}"


def _pixels(images: Tensor) -> Any:
    """uint8 (..., T, T, 3), as matplotlib has it."""
    return images.movedim(-3, -1).numpy()
