"""The report: what it says follows from the numbers, it stands alone, and no class name breaks it."""

import base64
import re
from dataclasses import asdict
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from src import findings, pages, params, provenance, sections, statistics

METHODS = {"untrained": 0.0, "nearest_mean": 0.6, "nearest_neighbours": 0.65, "frozen": 0.72, "finetuned": 0.8}
SIZES = {"train": 1200, "val": 240, "test": 360}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = tuple(f"class {i}" for i in range(100))
SETTINGS = params.load(Path(__file__).parent.parent / "params.yaml")


def predictions(classes, shares, sizes, seed=0):
    """Files of predictions as the stages write them; `shares` of each method's answers are right, others are drawn."""
    generator = np.random.default_rng(seed)
    split = np.repeat(np.arange(3), list(sizes.values()))
    label = generator.integers(len(classes), size=len(split))
    label[: len(classes)] = np.arange(len(classes))
    neighbour = (label + 1) % len(classes)
    files = []
    for names in (("untrained", "nearest_mean", "nearest_neighbours"), ("frozen",), ("finetuned",)):
        logits = {}
        for name in names:
            guess = np.where(
                generator.random(len(label)) < 0.5, neighbour, generator.integers(len(classes), size=len(label))
            )
            answer = np.where(generator.random(len(label)) < shares[name], label, guess)
            logits[name] = torch.nn.functional.one_hot(torch.from_numpy(answer), len(classes)).float() * 5
        index = np.concatenate([np.arange(size) for size in sizes.values()])
        files.append(
            {key: torch.from_numpy(value) for key, value in {"label": label, "split": split, "index": index}.items()}
        )
        files[-1] |= {"classes": tuple(classes), "logits": logits}
    return files


def curve(epochs, reached, *, backbone):
    """A curve as a training stage writes it."""
    rows = []
    for epoch in range(1, epochs + 1):
        done = reached - 0.25 * 0.7**epoch
        rate = 5e-4 * (0.02 + 0.5 * (1 + np.cos(np.pi * epoch / epochs)))
        rows.append(
            {"epoch": epoch, "train_loss": 2.4 - 2 * done, "train_accuracy": done - 0.03, "val_loss": 2.3 - 2 * done}
        )
        rows[-1] |= {"val_accuracy": done, "head_lr": rate, "gradient_norm": 1.0}
        rows[-1] |= {"backbone_lr": rate / 10} if backbone else {}
    return pd.DataFrame(rows)


def search(trials, epochs):
    generator, space = np.random.default_rng(1), asdict(SETTINGS.tune_head)
    names = ("learning_rate", "weight_decay", "dropout", "optimizer", "schedule", "classifier")
    rows, curves = [], []
    for trial in range(trials):
        drawn = {name: space[name][generator.integers(len(space[name]))] for name in names}
        accuracy = 0.66 + 0.04 * (drawn["classifier"] == "deep") + 0.02 * generator.random()
        rows.append(
            {"trial": trial, "val_accuracy": accuracy, "val_loss": 1.7 - accuracy, "best_epoch": epochs} | drawn
        )
        curves.append(curve(epochs, accuracy, backbone=False).assign(trial=trial))
    shares = np.sort(generator.dirichlet(np.ones(len(names))))[::-1]
    return pd.DataFrame(rows), pd.concat(curves), pd.DataFrame({"parameter": names[::-1], "importance": shares})


def records():
    common = {"python": "3.11.2", "platform": "Linux", "torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.4.6"}
    machine = {"device": "cpu (x86_64)", "threads": 2}
    seconds = {"download": 3.2, "extract_features": 415.8, "baseline": 12.4, "tune_head": 88.0}
    seconds |= {"train_frozen": 21.0, "finetune": 3475.5}
    made = {stage: {"stage": stage, "seconds": s, "peak_memory_mb": 1210} | common for stage, s in seconds.items()}
    for stage in list(made)[1:]:
        made[stage] |= machine
    made["download"] |= {"dataset": "cifar10", "source": None, "source_sha256": None}
    made["extract_features"] |= {"images_per_second": 1250.4, "weights": "weights/pico.safetensors", "resolution": 64}
    made["extract_features"] |= {"weights_sha256": "ab" * 32}
    made["finetune"] |= {"images_per_second": 181.6}
    return made


def study(classes=NAMES, shares=METHODS, sizes=SIZES, *, train_test=0, epochs=10, trials=20):
    files = predictions(classes, shares, sizes)
    found = statistics.answers(*files)
    trial_rows, trial_curves, importances = search(trials, 6)
    scores = {split: {"accuracy": 0.7, "loss": 0.9 + i / 10} for i, split in enumerate(("train", "val", "test"))}
    baseline = {"untrained": 0.1037, "untrained_std": 0.0123, "nearest_mean": 0.6, "nearest_neighbours": 0.65}
    download = {split: {"images": size, "duplicates": 3 * i} for i, (split, size) in enumerate(sizes.items())}
    download |= {"across": {"train_val": 7, "train_test": train_test, "val_test": 5}, "classes": len(classes)}
    best = int(trial_rows["val_accuracy"].idxmax())
    return findings.Study(
        settings={key: getattr(SETTINGS, key) for key in asdict(SETTINGS)},
        metrics={
            "download": download,
            "baseline": {"val": baseline, "test": baseline},
            "tune_head": {"val": {"accuracy": 0.7, "loss": 1.0}, "best_trial": best, "trials": trials},
            "train_frozen": scores | {"best_epoch": epochs},
            "finetune": scores | {"best_epoch": max(1, epochs - 2)},
        },
        records=records(),
        answers=found,
        best_head={"classifier": "deep", "dropout": 0.3, "learning_rate": 0.001, "optimizer": "adamw"},
        frozen_curve=curve(2 * epochs, 0.72, backbone=False),
        finetuned_curve=curve(epochs, 0.8, backbone=True),
        trials=trial_rows,
        trial_curves=trial_curves,
        importances=importances,
    )


@cache
def rendered(classes=NAMES, train_test=0):
    """The page of `study`, drawn once for all tests that only look at it."""
    return sections.report(study(classes, train_test=train_test))


class Document(HTMLParser):
    """What a browser would make of the page: its tags with their attributes, its tables as lists of rows."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.cell, self.words = [], {}, None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        self.cell = "" if tag in ("td", "th", "caption") else self.cell

    def handle_data(self, data):
        self.words += data
        self.cell = None if self.cell is None else self.cell + data

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self.cell] = self.rows
        elif tag in ("td", "th"):
            self.rows[-1].append(self.cell)
        self.cell = None if tag in ("td", "th", "caption") else self.cell

    def table(self, caption):
        return next(rows for name, rows in self.tables.items() if name.startswith(caption))


def plain(text):
    return text.replace(findings.NARROW, " ")


def with_interval(right, images):
    low, high = binomtest(int(right), int(images)).proportion_ci(0.95, "wilson")
    return f"{100 * right / images:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def markdown_rows(text):
    """Cells of every table line, split at the pipes that are not escaped."""
    return [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]


NASTY = (
    "<script>alert(1)</script>",
    "a|b",
    "$x_1$ & co",
    "![i](http://x)",
    "名前",
    "very " * 40 + "long",
    "*new*\nline",
    "`",
    "_u_",
    "x\x07y",
)


def test_every_accuracy_of_the_page_is_the_one_counted_from_the_predictions():
    page = Document(plain(pages.as_html(rendered())))
    rows = {row[0]: row[1:] for row in page.table("Accuracy with")}
    label, split = (
        torch.cat([file[key] for file in predictions(NAMES, METHODS, SIZES)[:1]]) for key in ("label", "split")
    )
    for file in predictions(NAMES, METHODS, SIZES):
        for method, logits in file["logits"].items():
            name = findings.LABELS[method] + (", one of 5" if method == "untrained" else "")
            right = [int((logits.argmax(1) == label)[split == i].sum()) for i in range(3)]
            assert rows[name] == [with_interval(n, size) for n, size in zip(right, SIZES.values(), strict=True)]
    assert rows["Untrained head, mean of 5"] == ["", "10.4 %", "10.4 % ± 1.2"]


def test_the_other_tables_show_what_the_stages_left():
    made = study()
    page = Document(plain(pages.as_html(rendered(train_test=2))))
    assert page.table("Images, and how many")[1:] == [
        ["train", "1 200", "0", "", ""],
        ["val", "240", "3", "7", ""],
        ["test", "360", "6", "2", "5"],
    ]
    stages = {row[0]: row[1:] for row in page.table("What each stage took")}
    assert stages["finetune"] == ["cpu (x86_64)", "57.9 min", "1 210 MiB", "2", "182"]
    assert stages["download"] == ["", "3.2 s", "1 210 MiB", "", ""]
    ranked = made.trials.sort_values("val_accuracy", ascending=False)
    trials = page.table("All trials")[1:]
    assert [row[0].removesuffix(" ★") for row in trials] == [str(trial) for trial in ranked["trial"]]
    assert [row[4] for row in trials] == [f"{100 * accuracy:.1f} %" for accuracy in ranked["val_accuracy"]]
    assert [row[0].endswith("★") for row in trials] == [True] + [False] * 19
    shares = dict(page.table("Importance")[1:])
    expected = zip(made.importances["parameter"], made.importances["importance"], strict=True)
    assert shares == {name.replace("_", " "): f"{100 * share:.1f} %" for name, share in expected}
    settings = dict(page.table("Every value"))
    assert settings["lr"] == "0.0005"
    assert "backbone_lr_ratio 0.1, optimizer adamw" in settings["finetune"]
    assert "learning_rate (0.01, 0.005, 0.001, 0.0005)" in settings["tune_head"]


def test_most_confused_pairs_are_the_ones_counted_by_hand():
    made = study()
    table = Document(plain(pages.as_html(rendered()))).table("The most frequent mistakes")
    rows = statistics.confusion_rows(made.answers, "finetuned")
    wrong = rows[rows["actual"] != rows["predicted"]].value_counts()
    sizes = rows["actual"].value_counts()
    assert len(table) == 13
    for actual, predicted, images, _, tuned in table[1:]:
        assert int(images) == sizes[actual]
        number = int(wrong[(actual, predicted)])
        assert tuned == f"{number} ({100 * number / sizes[actual]:.1f} %)"
    assert int(table[1][4].split()[0]) == wrong.max()


@pytest.mark.parametrize(
    ("tuned", "begins", "says"),
    [
        (0.95, "Fine-tuning reached", "points above the frozen backbone"),
        (0.40, "Fine-tuning did harm: it reached", "points below the frozen backbone"),
        (0.73, "Fine-tuning made no clear difference", "but the intervals overlap"),
        (0.0, "Fine-tuning did harm", "; chance is 10.0 %"),
    ],
)
def test_the_answer_claims_a_difference_only_where_the_intervals_part(tuned, begins, says):
    answers = statistics.answers(*predictions(NAMES, METHODS | {"finetuned": tuned}, SIZES))
    answer = plain(findings.answer(statistics.accuracy_table(answers, list(findings.LABELS)), 0.1))
    assert answer.startswith(begins)
    assert says in answer


def accuracies(frozen, tuned, images=1000):
    counts = {"nearest_mean": 0.5, "nearest_neighbours": 0.6, "frozen": frozen, "finetuned": tuned}
    rows = [
        {"method": method, "split": "test", "images": images, "accuracy": share} for method, share in counts.items()
    ]
    for row in rows:
        row["low"], row["high"] = statistics.wilson_interval(round(row["accuracy"] * images), images)
    return pd.DataFrame(rows)


def test_the_answer_is_a_sentence_that_can_be_checked_by_hand():
    assert plain(findings.answer(accuracies(0.723, 0.784), 0.1)) == (
        "Fine-tuning reached 78.4 % [75.7, 80.8] on 1 000 test images, 6.1 points above the frozen backbone with the "
        "same head (72.3 % [69.4, 75.0]); chance is 10.0 %."
    )
    assert "made no difference: it reached 70.0 %" in plain(findings.answer(accuracies(0.7, 0.7), 0.1))
    assert plain(findings.answer(accuracies(0.7, 0.11), 0.1)).endswith("chance is 10.0 %, within its interval.")
    assert plain(findings.answer(accuracies(0.7, 0.02), 0.1)).endswith("chance is 10.0 %, more than that.")


def test_what_needs_no_training_is_compared_with_the_trained_head_as_carefully():
    assert "less than the head" in findings.context(accuracies(0.8, 0.9), 0.1, 0.1)
    assert "not clearly different from the head" in findings.context(accuracies(0.61, 0.9), 0.1, 0.1)
    assert "more than the head" in findings.context(accuracies(0.4, 0.9), 0.1, 0.1)
    assert "equally common" not in findings.context(accuracies(0.4, 0.9), 0.11, 0.1)
    assert "commonest one reaches 19.6 %" in plain(findings.context(accuracies(0.4, 0.9), 0.196, 0.1))


def test_a_warning_names_test_images_that_are_in_train_and_only_then():
    assert not rendered().warnings
    text = plain(pages.as_html(rendered(train_test=2)))
    assert "2 of 360 test images (0.6 %) also occur in the training split" in text
    assert text.index("2 of 360") < text.index("<figure>")
    (single,) = provenance.duplicate_warnings(study(train_test=1).metrics["download"])
    assert "1 of 360 test images (0.3 %) also occurs in" in plain(single)


def test_a_warning_names_what_differed_between_stages():
    made = records()
    made["finetune"] |= {"device": "NVIDIA H200", "torch": "2.16.0"}
    device, torch_version = provenance.version_warnings(made)
    assert (
        "different device: cpu (x86_64) in extract_features, baseline, tune_head, train_frozen; NVIDIA H200 in finetune"
        in device
    )
    assert "different torch: 2.15.0 in download," in torch_version
    assert "2.16.0 in finetune" in torch_version


@pytest.mark.parametrize("classes", [NAMES, HUNDRED], ids=["10 classes", "100 classes"])
def test_the_page_loads_nothing_and_is_small(classes):
    text = pages.as_html(rendered(classes))
    assert len(text.encode()) <= 1_500_000
    page = Document(text)
    loading = [
        value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href", "srcset", "data")
    ]
    assert loading
    assert all(value.startswith("data:image/svg+xml;base64,") for value in loading)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    for uri in loading:
        drawing = base64.b64decode(uri.split(",")[1]).decode()
        assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', drawing))
        assert not re.search(r"<script|<style[^>]*>[^<]*(@import|url\()", drawing)


def test_more_classes_than_a_matrix_shows_get_pairs_instead():
    names = [
        [block.name for block in page.sections[0].blocks if isinstance(block, pages.Figure)]
        for page in (rendered(), rendered(HUNDRED))
    ]
    assert names == [["classes", "confusion"], ["classes"]]
    assert len(rendered(HUNDRED).sections[0].blocks[-1].rows) == 24


def test_every_figure_has_a_text_for_those_who_cannot_see_it_and_every_table_a_caption():
    text = pages.as_html(rendered())
    images = [attrs for tag, attrs in Document(text).tags if tag == "img"]
    assert len(images) == 6
    assert all(len(attrs["alt"]) > 40 for attrs in images)
    assert text.count("<table>") == text.count("<caption>") == 10
    assert text.count("<h1>") == 1


def test_class_names_cannot_break_the_page():
    text = pages.as_html(rendered(NASTY))
    page = Document(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Document(pages.as_html(rendered())).tags}
    assert {cell for row in page.table("The most frequent")[1:] for cell in row[:2]} <= set(NASTY)


def test_markdown_tables_keep_their_columns_whatever_a_class_is_called():
    text = pages.as_markdown(rendered(NASTY))
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 10
    for block in blocks:
        rows = markdown_rows(block)
        assert len({len(row) for row in rows}) == 1
        assert set("".join(rows[1])) <= set(" :-")
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http" not in text.replace("\\](http", "")


def test_markdown_says_what_the_page_says():
    made = rendered(train_test=2)
    page, text = Document(pages.as_html(made)), pages.as_markdown(made)
    cells = {re.sub(r"[\\*]", "", cell).strip() for row in markdown_rows(text) for cell in row}
    assert {cell for rows in page.tables.values() for row in rows for cell in row} <= cells
    assert f"**{made.answer}**" in text
    assert "> **Warning:** 2 of 360" in plain(text)


def test_markdown_escapes_what_would_be_markup():
    assert pages.markdown_text("a|b <i> *x* `c` snake_case _u_ [a](b) ![c](d) [1, 2] 5 & 6\nend") == (
        r"a\|b \<i\> \*x\* \`c\` snake_case \_u\_ [a\](b) \![c\](d) [1, 2] 5 \& 6 end"
    )


def test_the_folder_holds_the_two_pages_and_the_figures_that_markdown_names(tmp_path):
    pages.write(rendered(), str(tmp_path / "reports"))
    text = (tmp_path / "reports" / "report.md").read_text()
    named = set(re.findall(r"\]\((\w+\.svg)\)", text))
    assert {path.name for path in (tmp_path / "reports").iterdir()} == named | {"report.html", "report.md"}
    assert len(named) == 6


def test_equal_results_give_equal_bytes():
    first, second = rendered(), sections.report(study())
    assert pages.as_html(first) == pages.as_html(second)
    assert pages.as_markdown(first) == pages.as_markdown(second)


def test_the_smallest_study_has_a_report():
    page = sections.report(study(classes=("no", "yes"), sizes={"train": 2, "val": 1, "test": 2}, epochs=1, trials=1))
    assert "nan" not in pages.as_markdown(page).lower().split()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (59, "59 s"), (60, "1.0 min"), (3475.5, "57.9 min"), (9000, "2.5 h")]
)
def test_durations_have_sensible_digits(seconds, text):
    assert plain(findings.duration(seconds)) == text
