"""The report's sections: which tables and figures show a study. A further section takes its place in `report`.

N images, K classes.
"""

import pandas as pd

from src import findings, plots, provenance, scaling_findings, scaling_sections, statistics
from src.findings import LABELS, TRAINED, Study, count, interval, percent
from src.pages import Figure, Page, Section, Table

MATRIX_CLASSES = 20  # of more classes, a confusion matrix cannot be read
PAIRS = 12


def report(study: Study) -> Page:
    """The whole report."""
    accuracies = statistics.accuracy_table(study.answers, list(LABELS))
    chance, commonest = 1 / len(study.answers.classes), statistics.commonest_class_accuracy(study.answers)
    return Page(
        title=study.settings["report"].title,
        answer=findings.answer(accuracies, chance),
        facts=findings.facts(study),
        warnings=[
            *provenance.duplicate_warnings(study.metrics["download"]),
            *provenance.version_warnings(study.records),
        ],
        lead=[
            _accuracy_figure(study, accuracies),
            findings.context(accuracies, commonest, chance),
            *filter(None, [scaling_findings.verdict(study)]),
            _accuracy_rows(study, accuracies),
        ],
        sections=[
            _mistakes(study),
            _training(study),
            _search(study),
            *([scaling_sections.ablation(study)] if study.scaling.arms else []),
            scaling_sections.search(study),
            provenance.data(study),
            provenance.machine(study),
            provenance.settings(study),
        ],
    )


def _untrained(study: Study) -> tuple[str, float, float]:
    """How many untrained heads there were, and the mean and standard deviation of their accuracy on test."""
    scores = study.metrics["baseline"]["test"]
    return str(study.settings["baseline"].head_seeds), scores["untrained"], scores["untrained_std"]


def _accuracy_figure(study: Study, accuracies: pd.DataFrame) -> Figure:
    rows = pd.DataFrame([findings.on_test(accuracies, method) for method in LABELS]).assign(label=list(LABELS.values()))
    rows["text"] = [interval(row) for row in rows.to_dict("records")]
    heads, mean, spread = _untrained(study)
    rows.loc[0, ["accuracy", "low", "high"]] = [mean, max(mean - spread, 0.0), min(mean + spread, 1.0)]
    rows.loc[0, "text"] = f"{percent(mean)} ± {100 * spread:.1f}"
    values = "; ".join(f"{label}: {text}" for label, text in zip(rows["label"], rows["text"], strict=True))
    return Figure(
        name="accuracy",
        svg=plots.accuracy_bars(rows, 1 / len(study.answers.classes)),
        alt=f"Bars of test accuracy. {values}.",
        caption="Accuracy on the test images with 95 % Wilson intervals, which cover the luck in which images were "
        "drawn, not the luck of another seed. Of the untrained head, the mean and standard deviation over "
        f"{heads} heads.",
    )


def _accuracy_rows(study: Study, accuracies: pd.DataFrame) -> Table:
    cells = accuracies.assign(cell=[interval(row) for row in accuracies.to_dict("records")])
    wide = cells.pivot(index="method", columns="split", values="cell")
    rows = [[LABELS[method], *(wide.loc[method, split] for split in ("train", "val", "test"))] for method in LABELS]
    heads, mean, spread = _untrained(study)
    rows[0][0] = f"{LABELS['untrained']}, one of {heads}"
    val = percent(study.metrics["baseline"]["val"]["untrained"])
    rows.insert(0, [f"{LABELS['untrained']}, mean of {heads}", "", val, f"{percent(mean)} ± {100 * spread:.1f}"])
    return Table(
        caption="Accuracy with 95 % Wilson intervals. On the training images, unaugmented, it says how much a method "
        "remembers. Validation images chose the head and the epochs; test images chose nothing.",
        rows=pd.DataFrame(rows, columns=["Method", "Train", "Validation", "Test"]),
        marked=len(rows) - 1,
    )


def _mistakes(study: Study) -> Section:
    """Where both classifiers err: classes, the confusion matrices of few classes, the most confused pairs."""
    pairs = statistics.confused_pairs(study.answers, TRAINED, PAIRS if _few(study) else 2 * PAIRS)
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
        caption="The most frequent mistakes of the fine-tuned network on test, beside the frozen backbone's; "
        "images are those of the actual class.",
        rows=pairs.assign(images=pairs["images"].map(count)).rename(columns=names),
        text_columns=2,
    )
    matrices = [_matrix_figure(study)] if _few(study) else []
    return Section(title="Where it errs", blocks=[_class_figure(study), *matrices, table])


def _few(study: Study) -> bool:
    return len(study.answers.classes) <= MATRIX_CLASSES


def _class_figure(study: Study) -> Figure:
    rows = {method: statistics.accuracy_per_class(study.answers, method) for method in TRAINED}
    order = rows["finetuned"]["accuracy"].sort_values(ascending=False, kind="stable").index
    chosen = order if _few(study) else order[:8].append(order[-12:])
    extent = "every class" if _few(study) else "the 8 easiest and the 12 hardest classes"
    hardest = rows["finetuned"].loc[order[-1]]
    return Figure(
        name="classes",
        svg=plots.class_ranges({method: frame.loc[chosen] for method, frame in rows.items()}),
        alt=f"Test accuracy of {extent}, frozen and fine-tuned. "
        f"Hardest when fine-tuned: {hardest['class']}, {interval(hardest)}.",
        caption=f"Test accuracy of {extent}, easiest on top, with 95 % Wilson intervals.",
    )


def _matrix_figure(study: Study) -> Figure:
    matrices = {method: statistics.confusion_matrix(study.answers, method) for method in TRAINED}
    return Figure(
        name="confusion",
        svg=plots.confusion_matrices(matrices, study.answers.classes),
        alt="Two confusion matrices, frozen and fine-tuned; the largest mistakes are in the table below.",
        caption="Per cent of the test images of each actual class (row) by the class named (column); blank below 0.5.",
    )


def _training(study: Study) -> Section:
    curves = {"frozen": study.frozen_curve, "finetuned": study.finetuned_curve}
    stages = {"frozen": study.metrics["train_frozen"], "finetuned": study.metrics["finetune"]}
    rows = [
        [LABELS[method], len(curves[method]), scores["best_epoch"]]
        + [f"{scores[split]['loss']:.3f}" for split in ("train", "val", "test")]
        for method, scores in stages.items()
    ]
    columns = ["Method", "Epochs", "Epoch kept", "Train loss", "Val. loss", "Test loss"]
    figure = Figure(
        name="curves",
        svg=plots.learning_curves(curves, {method: scores["best_epoch"] for method, scores in stages.items()}),
        alt="Accuracy, loss and learning rate by epoch, of the head on the frozen backbone and of the whole network.",
        caption="The dot marks the epoch that was kept, by validation. Training values are means over augmented images "
        "while the epoch was running, so they may well look worse than validation.",
    )
    table = Table(
        caption="Cross-entropy of the kept networks, in nats, on unaugmented images.",
        rows=pd.DataFrame(rows, columns=columns),
    )
    return Section(title="How training went", blocks=[figure, table])


def _search(study: Study) -> Section:
    """All trials, best first, and what mattered in them."""
    best, draws = study.metrics["tune_head"]["best_trial"], len(study.trials)
    shares = dict(zip(study.importances["parameter"].map(str), study.importances["importance"].map(float), strict=True))
    parts = {name.replace("_", " "): percent(share) for name, share in shares.items()}
    drawn = Figure(
        name="search",
        svg=plots.search_values(study.trials, shares, best),
        alt=f"Validation accuracy by value drawn. Importance: {', '.join(map(' '.join, parts.items()))}.",
        caption="Each dot is a trial, the coloured one the best; bars are means. In the titles, the parameter's "
        "importance: its share in the variance of validation accuracy (fANOVA), a rough guide from so few draws.",
    )
    curves = Figure(
        name="search_curves",
        svg=plots.search_curves(study.trial_curves, best),
        alt=f"Validation accuracy by epoch of all {draws} trials, trial {best} marked.",
        caption="Validation accuracy of every trial, epoch by epoch.",
    )
    text = (
        f"{draws} draws, trained on cached features and judged on validation images alone. "
        f"Trial {best} won: it is the head of both networks above."
    )
    importances = pd.DataFrame(parts.items(), columns=["Parameter", "Importance"])
    tables = [_trial_rows(study, best), Table(caption="Importance of each parameter.", rows=importances)]
    return Section(title="The search for a head", blocks=[text, drawn, curves, *tables])


def _trial_rows(study: Study, best: int) -> Table:
    ranked = study.trials.sort_values(["val_accuracy", "val_loss", "trial"], ascending=[False, True, True])
    words = list(ranked.select_dtypes(exclude="number"))
    shown = ranked[["trial", *words, *(name for name in ranked if name not in ("trial", *words))]].astype(object)
    shown["trial"] = [f"{trial} ★" if trial == best else str(trial) for trial in ranked["trial"]]
    shown["val_accuracy"] = ranked["val_accuracy"].map(percent)
    shown["val_loss"] = ranked["val_loss"].map("{:.3f}".format)
    for name in ("learning_rate", "weight_decay", "dropout"):
        shown[name] = ranked[name].map("{:g}".format)
    return Table(
        caption="All trials, the best validation accuracy first; ★ the one that was chosen.",
        rows=shown.rename(columns=lambda name: str(name).replace("_", " ").replace("val ", "val. ").capitalize()),
        text_columns=1 + len(words),
        marked=ranked["trial"].tolist().index(best),
    )
