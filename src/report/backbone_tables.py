"""The tables of the comparison of backbones: what each entry reaches and costs, and every difference."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from src.evidence import answers
from src.evidence.paired import Difference
from src.report.answer import on_test
from src.report.numbers import count, digits, duration, interval, p_value, percent, points
from src.report.pages import Table
from src.report.study import Study

IMAGENET = "ImageNet-1k"
MOST_COLUMNS = 12  # of the table of all pairs


def pretraining(study: Study, key: str) -> str:
    """The images that an entry's weights are from."""
    return str(study.compared.runs[key].facts["pretraining"])


def short(network: str) -> str:
    """A network's name without what all of them share."""
    return network.removeprefix("efficientnet_").removeprefix("timm/")


def seen_from(best: str, each: Difference) -> tuple[str, float, bool]:
    """The other one of a pair, how far `best` is above it, and whether they can be told apart."""
    own = each.first == best
    return (each.second if own else each.first), (each.difference if own else -each.difference), each.settled


def result_rows(study: Study) -> Table:
    results, tuned = study.compared, _fine_tuned(study)
    rows = [
        [
            key,
            short(study.settings["compared_backbones"][key].name),
            pretraining(study, key),
            count(found["resolution"]),
            interval(found["val"]),
            interval(found["test"]),
            percent(found["test"]["neighbours"]),
            *([tuned.get(key, "")] if tuned else []),
        ]
        for key, found in results.metrics.items()
    ]
    columns = ["Entry", "Network", "Pretrained on", "Pixels", "Validation", "Test", "Neighbours"]
    images = next(iter(results.runs.values())).facts["train_images"]
    more = " Fine-tuned is what this study's own fine-tuning reaches on the same test images." if tuned else ""
    return Table(
        name="backbones",
        caption=f"Accuracy of a linear probe on frozen, clean features of {count(images)} training images, with 95 % "
        f"Wilson intervals; and of {study.settings['comparison'].neighbours} nearest neighbours on test. Validation "
        f"chose the penalty.{more}",
        rows=pd.DataFrame(rows, columns=[*columns, *(["Fine-tuned"] if tuned else [])]),
        text_columns=3,
        marked=results.keys.index(results.best),
    )


def _fine_tuned(study: Study) -> dict[str, str]:
    """Beside the entries that are the study's own backbone, what fine-tuning it reached on test."""
    own, resolution = study.settings["backbone"], study.records["extract_features"].facts["resolution"]
    table = answers.accuracy_table(study.answers, ["finetuned"])
    tuned_at = study.records["finetune"].facts["resolution"]
    text = interval(on_test(table, "finetuned")) + ("" if tuned_at == resolution else f" at {tuned_at}")
    return {
        key: text
        for key, entry in study.settings["compared_backbones"].items()
        if (entry.name, entry.weights) == (own.name, own.weights)
        and study.compared.metrics[key]["resolution"] == resolution
    }


def cost_rows(study: Study) -> Table:
    rows = [
        [
            key,
            *(count(found[name]) for name in ("parameters", "multiply_adds", "features")),
            *_measured(study.compared.runs[key].facts),
            f"{found['penalty']:g}",
        ]
        for key, found in study.compared.metrics.items()
    ]
    columns = ["Entry", "Parameters", "Multiply-adds", "Features", "Images/s", "Extraction", "Probe", "Penalty"]
    return Table(
        name="backbones_cost",
        caption="What it costs: parameters and multiply-adds of one image, without a classifier, products within "
        "attention counted; the width of its features; images/s and time of their extraction, time of the whole path "
        "of probes; and the penalty that validation chose.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _measured(run: Mapping[str, Any]) -> list[str]:
    return [
        digits(run["images_per_second"]),
        duration(run["extraction_seconds"]),
        duration(run["probe_seconds"]),
    ]


def difference_rows(study: Study, found: Sequence[Difference]) -> Table:
    """The best one on validation against each other."""
    best, rows = study.compared.best, []
    for each in found:
        if best not in (each.first, each.second):
            continue
        other, gain, settled = seen_from(best, each)
        low, high = (each.low, each.high) if each.first == best else (-each.high, -each.low)
        alone = each.alone if each.first == best else each.alone[::-1]
        verdict = ("better" if gain > 0 else "worse") if settled else "cannot be told apart"
        rows.append([f"{best} − {other}", verdict, f"{points(gain)} [{points(low)}, {points(high)}]"])
        rows[-1] += [*map(count, alone), p_value(each.p_value)]
    columns = ["Comparison", "Verdict", "Difference", "Only the first right", "Only the second right", "p"]
    corrected = f", both corrected, by Holm's procedure, for all {count(len(found))} pairs" if len(found) > 1 else ""
    return Table(
        name="backbones_best",
        caption="The best on validation against each other one: differences in test accuracy, in percentage points, "
        "paired image by image; p of McNemar's exact test, which decides, and Newcombe's paired "
        f"intervals{corrected}. They cover the luck in which images were drawn.",
        rows=pd.DataFrame(rows, columns=columns),
        text_columns=2,
    )


def pairs(study: Study, found: Sequence[Difference]) -> list[Table]:
    """Every pair, in a square; none for two entries, or for too many."""
    keys = study.compared.keys
    if not 2 < len(keys) <= MOST_COLUMNS:
        return []
    cells = {(each.first, each.second): (each.difference, each.settled) for each in found}
    cells |= {(b, a): (-difference, settled) for (a, b), (difference, settled) in cells.items()}
    rows = [[one, *("" if one == other else _cell(*cells[one, other]) for other in keys)] for one in keys]
    return [
        Table(
            name="backbones_pairs",
            caption="Every pair: test accuracy of the row minus that of the column, in percentage points, = where the "
            "two cannot be told apart.",
            rows=pd.DataFrame(rows, columns=["Entry", *keys]),
        )
    ]


def _cell(difference: float, settled: bool) -> str:
    return f"{points(difference)}{'' if settled else ' ='}"
