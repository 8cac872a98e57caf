"""The chapter on how training went."""

from functools import partial

import pandas as pd

from src.figures import transfer
from src.figures.style import both
from src.report.pages import Figure, Section, Table
from src.report.study import LABELS, Study


def training_chapter(study: Study) -> Section:
    curves = {"frozen": study.frozen_curve, "finetuned": study.finetuned_curve}
    stages = {"frozen": study.metrics["train_frozen"], "finetuned": study.metrics["finetune"]}
    rows = [
        [LABELS[method], len(curves[method]), scores["best_epoch"]]
        + [f"{scores[split]['loss']:.3f}" for split in ("train", "val", "test")]
        for method, scores in stages.items()
    ]
    columns = ["Method", "Epochs", "Epoch kept", "Train loss", "Val. loss", "Test loss"]
    kept = {method: scores["best_epoch"] for method, scores in stages.items()}
    figure = Figure(
        name="curves",
        **both(partial(transfer.learning_curves, curves, kept)),
        alt="Accuracy, loss and learning rate by epoch, of the head on the frozen backbone and of the whole network.",
        caption="The dot marks the epoch that was kept, by validation. Training values are means over augmented images "
        "while the epoch was running, so they may well look worse than validation.",
    )
    table = Table(
        name="training",
        caption="Cross-entropy of the kept networks, in nats, on unaugmented images.",
        rows=pd.DataFrame(rows, columns=columns),
    )
    return Section(title="How training went", blocks=[figure, table])
