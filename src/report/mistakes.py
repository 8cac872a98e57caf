"""The chapter on where a network errs. K classes."""

from functools import partial

from src.evidence import answers
from src.figures import transfer
from src.figures.style import both
from src.report import pictures
from src.report.certainty_tables import class_rows
from src.report.numbers import count, interval, percent
from src.report.pages import Block, Figure, Section, Table
from src.report.study import TRAINED, Study

MATRIX_CLASSES = 20  # of more classes, a confusion matrix cannot be read
PAIRS = 12


def mistakes(study: Study) -> Section:
    """Where both classifiers err: classes, confusion matrices of few classes, each class, most confused pairs."""
    pairs = answers.confused_pairs(study.answers, TRAINED, PAIRS if _few(study) else 2 * PAIRS)
    for method in TRAINED:
        pairs[method] = [
            f"{count(n)} ({percent(n / images)})" for n, images in zip(pairs[method], pairs["images"], strict=True)
        ]
    names = {
        "actual": "Actual class",
        "predicted": "Taken for",
        "images": "Images",
        "frozen": "Frozen",
        "finetuned": "Fine-tuned",
    }
    table = Table(
        name="mistakes",
        caption="The most frequent mistakes of the fine-tuned network on test, beside the frozen backbone's; "
        "images are those of the actual class.",
        rows=pairs.assign(images=pairs["images"].map(count)).rename(columns=names),
        text_columns=2,
    )
    matrices = [_matrix_figure(study)] if _few(study) else []
    blocks: list[Block] = [*pictures.mistakes(study.images), _class_figure(study), *matrices, class_rows(study), table]
    blocks += [*pictures.confusions(study.images, study.answers), *pictures.looked_at(study.images)]
    return Section(title="Where it errs", blocks=blocks)


def _few(study: Study) -> bool:
    return len(study.answers.classes) <= MATRIX_CLASSES


def _class_figure(study: Study) -> Figure:
    rows = {method: answers.accuracy_per_class(study.answers, method) for method in TRAINED}
    order = rows["finetuned"]["accuracy"].sort_values(ascending=False, kind="stable").index
    chosen = order if _few(study) else order[:8].append(order[-12:])
    extent = "every class" if _few(study) else "the 8 easiest and the 12 hardest classes"
    hardest = rows["finetuned"].loc[order[-1]]
    return Figure(
        name="classes",
        **both(partial(transfer.class_ranges, {method: frame.loc[chosen] for method, frame in rows.items()})),
        alt=f"Test accuracy of {extent}, frozen and fine-tuned. "
        f"Hardest when fine-tuned: {hardest['class']}, {interval(hardest)}.",
        caption=f"Test accuracy of {extent}, easiest on top, with 95 % Wilson intervals.",
    )


def _matrix_figure(study: Study) -> Figure:
    matrices = {method: answers.confusion_matrix(study.answers, method) for method in TRAINED}
    return Figure(
        name="confusion",
        **both(partial(transfer.confusion_matrices, matrices, study.answers.classes)),
        alt="Two confusion matrices, frozen and fine-tuned; the largest mistakes are in the table below.",
        caption="Per cent of the test images of each actual class (row) by the class named (column); blank below 0.5.",
    )
