"""The report's first answer: what fine-tuning brought, in sentences that claim no more than the numbers bear.

N images, K classes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from src.base.stage_records import StageRecord
from src.evidence.paired import Difference
from src.evidence.repeated import Repeated
from src.figures import transfer
from src.figures.style import both
from src.report.numbers import count, duration, interval, listed, p_value, percent, points
from src.report.pages import Figure, Table
from src.report.study import LABELS, Study

ARCHIVE = r"\.(zip|tar(\.\w+)?)$"
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "digits": "handwritten digits"}


def title(study: Study) -> str:
    """As params.yaml has it, or by the dataset; a folder or an archive elsewhere is called by its own name."""
    return study.settings["report"].title or f"EfficientNet on {images_called(study)}"


def images_called(study: Study) -> str:
    """The dataset's name for people."""
    dataset = study.settings["dataset"]
    own = re.sub(ARCHIVE, "", Path(dataset.source).name) if dataset.source else "the images of data/source"
    return DATASETS.get(dataset.name, own)


def devices(records: Iterable[StageRecord]) -> str:
    """What they ran on, for people: the table of stages has more."""
    names = dict.fromkeys(record.facts["device"] for record in records if "device" in record.facts)
    return listed("a CPU" if name.startswith("cpu") else name for name in names) if names else "one machine"


def answer(accuracies: pd.DataFrame, found: Mapping[str, Repeated], chance: float) -> str:
    """What fine-tuning brought on test, in one sentence that claims a difference only where the images settle it.

    Args:
        found: accuracy of the fine-tuned network, and its difference to the frozen backbone's, on the same images.
    """
    frozen, tuned, gain = on_test(accuracies, "frozen"), found["accuracy"], found["difference"]
    seeds = f", the mean of {count(tuned.runs)} seeds" if tuned.runs > 1 else ""
    reached = f"{interval({**vars(tuned), 'accuracy': tuned.mean})} on {count(frozen['images'])} test images{seeds}"
    other = f"the frozen backbone with the same head ({interval(frozen)})"
    low, high = (gain.low, gain.high) if gain.mean > 0 else (-gain.high, -gain.low)
    side = "above" if gain.mean > 0 else "below"
    amount = f"{100 * abs(gain.mean):.1f} points [{points(low)}, {points(high)}] {side} {other}"
    if gain.mean == 0:
        sentence = f"Fine-tuning made no difference: it reached {reached}, as many as {other}"
    elif not gain.settled:
        sentence = f"Fine-tuning made no clear difference: it reached {reached}, {amount}"
    elif gain.mean > 0:
        sentence = f"Fine-tuning reached {reached}, {amount}"
    else:
        sentence = f"Fine-tuning did harm: it reached {reached}, {amount}"
    doubt = "" if tuned.low > chance else ", within its interval" if tuned.high >= chance else ", more than that"
    return f"{sentence}; chance is {percent(chance)}{doubt}."


def how_told(found: Difference, over_seeds: Repeated) -> str:
    """How fine-tuned and frozen were told apart, and which chances their intervals cover.

    Args:
        found: the difference of the model, by image.
        over_seeds: that of all trainings.
    """
    if over_seeds.deviation is not None:
        return (
            "What the first sentence says of fine-tuning is over seeds and images: these intervals cover the luck in "
            "which images were drawn and that of the seed of fine-tuning, from which the accuracy varies by "
            f"{100 * over_seeds.deviation:.2f} points (standard deviation of {count(over_seeds.runs)}); not that of "
            "the search for a head, of its own training, or of the split."
        )
    covered = (
        "The intervals of these accuracies cover the luck in which images were drawn, not that of another seed "
        "(finetune.repeats)."
    )
    tuned, frozen = found.alone
    if not tuned + frozen:
        return f"Both name the same test images right. {covered}"
    return (
        f"Of the test images, {count(tuned)} {_are(tuned)} right only when fine-tuned and {count(frozen)} only when "
        f"frozen: by chance they would part so, or further, with p {_equals(found.p_value)} (McNemar's exact test). "
        f"{covered}"
    )


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _equals(chance: float) -> str:
    return p_value(chance) if chance < 0.001 else f"= {p_value(chance)}"


def facts(study: Study) -> str:
    """What ran on what, in one line."""
    download, records = study.metrics["download"], study.records.values()
    images = sum(download[split]["images"] for split in ("train", "val", "test"))
    frozen, tuned = (study.records[stage].facts.get("resolution") for stage in ("extract_features", "finetune"))
    own = study.records["download"].facts.get("copies") is not None
    return (
        f"{study.settings['backbone'].name} at {frozen} pixels{f', fine-tuned at {tuned},' if tuned != frozen else ''} "
        f"on {images_called(study)}: {count(images)} images, {count(len(study.answers.classes))} classes. "
        f"{duration(sum(record.seconds for record in records))} in all, on {devices(records)}."
        + (" The split into train, validation and test is this study's own." if own else "")
    )


def context(accuracies: pd.DataFrame, found: Sequence[Difference], commonest: float, chance: float) -> str:
    """How far no training gets; where classes are not equally common, how far naming the commonest one gets.

    Args:
        found: of frozen minus what needs no training, among others, each on the same images.
    """
    plain = [on_test(accuracies, method) for method in ("nearest_mean", "nearest_neighbours")]
    best = max(plain, key=lambda row: float(row["accuracy"]))
    against = next(each for each in found if (each.first, each.second) == ("frozen", best["method"]))
    if not against.settled:
        verdict = "not clearly different from"
    else:
        verdict = "more than" if against.difference < 0 else "less than"
    name = {"nearest_mean": "the nearest class mean", "nearest_neighbours": "a vote of nearest neighbours"}[
        best["method"]
    ]
    text = f"Without any training, {name} reaches {interval(best)}: {verdict} the head trained on the same features."
    if commonest > 1.2 * chance:
        text += f" Classes are not equally common: always naming the commonest one reaches {percent(commonest)}."
    return text


def on_test(accuracies: pd.DataFrame, method: str) -> dict[str, Any]:
    """The row of `method` on test, of answers.accuracy_table."""
    chosen = accuracies[(accuracies["method"] == method) & (accuracies["split"] == "test")]
    return dict(chosen.iloc[0])


def untrained(study: Study) -> tuple[str, float, float]:
    """How many untrained heads there were, and the mean and standard deviation of their accuracy on test."""
    scores = study.metrics["baseline"]["test"]
    return str(study.settings["baseline"].head_seeds), scores["untrained"], scores["untrained_std"]


def accuracy_figure(study: Study, accuracies: pd.DataFrame) -> Figure:
    rows = pd.DataFrame([on_test(accuracies, method) for method in LABELS]).assign(label=list(LABELS.values()))
    rows["text"] = [interval(row) for row in rows.to_dict("records")]
    heads, mean, spread = untrained(study)
    rows.loc[0, ["accuracy", "low", "high"]] = [mean, max(mean - spread, 0.0), min(mean + spread, 1.0)]
    rows.loc[0, "text"] = f"{percent(mean)} ± {100 * spread:.1f}"
    values = "; ".join(f"{label}: {text}" for label, text in zip(rows["label"], rows["text"], strict=True))
    return Figure(
        name="accuracy",
        **both(partial(transfer.accuracy_bars, rows, 1 / len(study.answers.classes))),
        alt=f"Bars of test accuracy. {values}.",
        caption="Accuracy on the test images with 95 % Wilson intervals, which cover the luck in which images were "
        "drawn, not the luck of another seed. Of the untrained head, the mean and standard deviation over "
        f"{heads} heads.",
    )


def accuracy_rows(study: Study, accuracies: pd.DataFrame) -> Table:
    cells = accuracies.assign(cell=[interval(row) for row in accuracies.to_dict("records")])
    wide = cells.pivot(index="method", columns="split", values="cell")
    rows = [[LABELS[method], *(wide.loc[method, split] for split in ("train", "val", "test"))] for method in LABELS]
    heads, mean, spread = untrained(study)
    rows[0][0] = f"{LABELS['untrained']}, one of {heads}"
    val = percent(study.metrics["baseline"]["val"]["untrained"])
    rows.insert(0, [f"{LABELS['untrained']}, mean of {heads}", "", val, f"{percent(mean)} ± {100 * spread:.1f}"])
    return Table(
        name="accuracy",
        caption="Accuracy with 95 % Wilson intervals. On the training images, unaugmented, it says how much a method "
        "remembers. Validation images chose the head and the epochs; test images chose nothing.",
        rows=pd.DataFrame(rows, columns=["Method", "Train", "Validation", "Test"]),
        marked=len(rows) - 1,
    )
