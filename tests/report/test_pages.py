"""The report: what it says follows from the numbers, it stands alone, and no class name breaks it."""

import base64
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest

from src.base import proportions
from src.evidence import answers, paired, questions, repeated
from src.interface import params
from src.report import answer, contents, numbers, pages, provenance
from src.report.study import LABELS
from tests.builders.report import (
    HUNDRED,
    METHODS,
    NAMES,
    SETTINGS,
    SIZES,
    VERSIONS,
    Document,
    plain,
    predictions,
    record,
    records,
    study,
    undrawn,
)


def rendered(classes=NAMES):
    """The page of `study`, drawn once for all tests that only look at it."""
    return drawn(classes)


@cache
def drawn(classes):
    return contents.report(study(classes))


@cache
def blank(classes=NAMES):
    """The same with blank figures, for what only looks at words and names."""
    with undrawn():
        return contents.report(study(classes))


@cache
def with_copies():
    """The page of a study of whose test images two are in train, too; its figures are blank."""
    with undrawn():
        return contents.report(study(train_test=2))


@cache
def nasty():
    """The page of classes with NASTY names; its figures are blank: test_transfer.py draws such names."""
    with undrawn():
        return contents.report(study(NASTY))


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
            name = LABELS[method] + (", one of 5" if method == "untrained" else "")
            right = [int((logits.argmax(1) == label)[split == i].sum()) for i in range(3)]
            assert rows[name] == [with_interval(n, size) for n, size in zip(right, SIZES.values(), strict=True)]
    assert rows["Untrained head, mean of 5"] == ["", "10.4 %", "10.4 % ± 1.2"]


def test_the_other_tables_show_what_the_stages_left():
    made = study()
    page = Document(plain(pages.as_html(with_copies())))
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
    ran_on = dict(page.table("The study."))
    assert (ran_on["Resolution"], ran_on["Resolution when fine-tuned"]) == ("64 pixels", "96 pixels")
    assert ran_on["Features computed by"] == "onnxruntime 1.32.0"
    assert " at 64 pixels, fine-tuned at 96, on CIFAR-10: " in plain(answer.facts(made))
    settings = dict(page.table("Every value"))
    assert settings["lr"] == "0.0005"
    assert "backbone_lr_ratio 0.1, optimizer adamw" in settings["finetune"]
    assert "learning_rate (0.01, 0.005, 0.001, 0.0005)" in settings["tune_head"]


def test_most_confused_pairs_are_the_ones_counted_by_hand():
    made = study()
    table = Document(plain(pages.as_html(rendered()))).table("The most frequent mistakes")
    rows = answers.confusion_rows(made.answers, "finetuned")
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
        (0.95, "Fine-tuning reached", "above the frozen backbone"),
        (0.40, "Fine-tuning did harm: it reached", "below the frozen backbone"),
        (0.73, "Fine-tuning made no clear difference", "with the same head"),
        (0.0, "Fine-tuning did harm", "; chance is 10.0 %"),
    ],
)
def test_the_answer_claims_a_difference_only_where_the_images_settle_it(tuned, begins, says):
    files = predictions(NAMES, METHODS | {"finetuned": tuned}, SIZES)
    found, right = answers.collect(*files), questions.right_on_test(answers.joined(*files))
    sentence = said(answers.accuracy_table(found, list(LABELS)), right["finetuned"][None], right["frozen"])
    assert sentence.startswith(begins)
    assert says in sentence


def accuracies(frozen, tuned, images=1000):
    counts = {"nearest_mean": 0.5, "nearest_neighbours": 0.6, "frozen": frozen, "finetuned": tuned}
    rows = [
        {"method": method, "split": "test", "images": images, "accuracy": share} for method, share in counts.items()
    ]
    for row in rows:
        row["low"], row["high"] = proportions.wilson_interval(round(row["accuracy"] * images), images)
    return pd.DataFrame(rows)


def alone(first, second, both, images):
    """Right answers of a run, (1, N), and of another method: both, `first` and `second` images alone."""
    place = np.arange(images)
    return (place < both + first)[None], (place < both) | (place >= images - second)


def said(rows, right, other):
    """The answer for right answers of runs, (R, N), and of the frozen backbone."""
    found = {"accuracy": repeated.accuracy(right), "difference": repeated.difference(right, other)}
    return plain(answer.answer(rows, found, 0.1))


def told(right, other):
    (found,) = paired.compare({"finetuned": right[0], "frozen": other})
    return plain(answer.how_told(found, repeated.difference(right, other)))


def test_intervals_that_overlap_hide_no_difference_that_the_same_images_show():
    """Twelve images against two of 360: exact p 0.013 and 2.8 points above 0, though the two intervals overlap."""
    runs, rows = alone(12, 2, 343, 360), accuracies(345 / 360, 355 / 360, 360)
    tuned, frozen = (answer.on_test(rows, method) for method in ("finetuned", "frozen"))
    assert tuned["low"] < frozen["high"]
    assert said(rows, *runs).startswith(
        "Fine-tuning reached 98.6 % [96.8, 99.4] on 360 test images, 2.8 points [+0.7, +5.3] above the frozen backbone"
    )
    assert told(*runs).startswith(
        "Of the test images, 12 are right only when fine-tuned and 2 only when frozen: by chance they would part so, "
        "or further, with p = 0.013 (McNemar's exact test). The intervals of these accuracies cover the "
        "luck in which images were drawn, not that of another seed"
    )
    assert told(*alone(0, 0, 300, 360)).startswith("Both name the same test images right.")
    assert "1 is right only when fine-tuned" in told(*alone(1, 0, 300, 360))


def test_of_several_seeds_the_answer_is_their_mean_and_says_what_its_intervals_cover():
    """Three runs of 1 000 images, two points apart, against a frozen backbone five points below their mean."""
    place = np.arange(1000)
    right, other = np.stack([place < 860, place < 880, place < 900]), place < 830
    found = repeated.difference(right, other)
    sentence, rows = said(accuracies(0.83, 0.86), right, other), accuracies(0.83, 0.86)
    assert " on 1 000 test images, the mean of 3 seeds, 5.0 points [" in sentence
    assert sentence.startswith("Fine-tuning made no clear difference: it reached 88.0 % [")
    wide, narrow = repeated.accuracy(right), answer.on_test(rows, "finetuned")
    assert wide.high - wide.low > 2 * (narrow["high"] - narrow["low"])
    assert f"5.0 points [{numbers.points(found.low)}, {numbers.points(found.high)}]" in sentence
    assert "that of the seed of fine-tuning, from which the accuracy varies by 2.00 points" in told(right, other)


def test_the_answer_is_a_sentence_that_can_be_checked_by_hand():
    assert said(accuracies(0.723, 0.784), *alone(100, 39, 684, 1000)) == (
        "Fine-tuning reached 78.4 % [75.7, 80.8] on 1 000 test images, 6.1 points [+3.8, +8.4] above the frozen "
        "backbone with the same head (72.3 % [69.4, 75.0]); chance is 10.0 %."
    )
    same, worse, worst = alone(10, 10, 690, 1000), alone(0, 590, 110, 1000), alone(0, 680, 20, 1000)
    assert "made no difference: it reached 70.0 %" in said(accuracies(0.7, 0.7), *same)
    assert said(accuracies(0.7, 0.11), *worse).endswith("chance is 10.0 %, within its interval.")
    assert "59.0 points [+55.8, +61.9] below" in said(accuracies(0.7, 0.11), *worse)
    assert said(accuracies(0.7, 0.02), *worst).endswith("chance is 10.0 %, more than that.")


def context(frozen, commonest):
    """Of 1 000 test images, of which nearest neighbours name 600 right and `frozen` as many more or less."""
    place = np.arange(1000)
    right = {"nearest_mean": place < 500, "nearest_neighbours": place < 600, "frozen": place < 1000 * frozen}
    found = questions.differences(right | {"finetuned": place < 900})
    return plain(answer.context(accuracies(frozen, 0.9), found, commonest, 0.1))


def test_what_needs_no_training_is_compared_with_the_trained_head_as_carefully():
    assert "less than the head" in context(0.8, 0.1)
    assert "less than the head" in context(0.61, 0.1)  # ten images, and none the other way
    assert "not clearly different from the head" in context(0.603, 0.1)
    assert "more than the head" in context(0.4, 0.1)
    assert "equally common" not in context(0.4, 0.11)
    assert "commonest one reaches 19.6 %" in context(0.4, 0.196)


def test_a_warning_names_test_images_that_are_in_train_and_only_then():
    assert not rendered().warnings
    text = plain(pages.as_html(with_copies()))
    assert "2 of 360 test images (0.6 %) also occur in the training split" in text
    assert text.index("2 of 360") < text.index("<figure ")
    (single,) = provenance.duplicate_warnings(study(train_test=1).metrics["download"])
    assert "1 of 360 test images (0.3 %) also occurs in" in plain(single)


def test_one_warning_names_all_that_differed_between_stages():
    made = records()
    assert provenance.version_warnings(made) == []
    versions = VERSIONS | {"torch": "2.16.0"}
    made["finetune"] = record("finetune", 3475.5, versions=versions, device="NVIDIA H200", threads=1)
    (warning,) = provenance.version_warnings(made)
    assert "with different device, threads, torch: the chapter What it took" in warning


def test_a_table_says_which_stages_ran_with_which_version():
    made = study()
    versions = VERSIONS | {"torch": "2.16.0"}
    other = record("finetune", 3475.5, versions=versions)
    section = provenance.machine(replace(made, records=dict(made.records) | {"finetune": other}))
    rows = next(block for block in section.blocks if getattr(block, "name", "") == "versions").rows.values.tolist()
    assert ["torch", "2.16.0", "finetune"] in rows
    others = next(stages for name, version, stages in rows if (name, version) == ("torch", "2.15.0"))
    assert others.startswith("download, extract_features")
    assert {stages for name, _, stages in rows if name == "numpy"} == {"all"}


MADE = {"finetune": {"lr": 0.0021, "finetune": {"epochs": 3}}, "scaling_ablation@width": {"scaling_arms.width": {}}}
SECTIONS = {"lr": 0.0021, "finetune": {"epochs": 3}, "scaling_arms": {"width": {}, "depth": {}}}


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"lr": 0.0022}, "finetune ran with lr 0.0021, and params.yaml has 0.0022: `dvc repro -f -s finetune`"),
        ({"finetune": {"epochs": 4}}, "finetune ran with finetune.epochs 3, and params.yaml has 4: "),
        (
            {"scaling_arms": {"width": {"epochs": 2}}},
            "scaling_ablation@width ran with scaling_arms.width.epochs None, and params.yaml has 2: "
            "`dvc repro -f -s scaling_ablation@width` makes it again with that",
        ),
    ],
)
def test_a_record_of_other_values_than_the_reports_own_is_refused(sections, line):
    """What changes between a stage's end and DVC's look at params.yaml is filed under values that it did not have."""
    made = {stage: replace(record(stage, 1.0), params=values) for stage, values in MADE.items()}
    provenance.require_same_settings(made, SECTIONS)
    with pytest.raises(ValueError, match=re.escape(line)):
        provenance.require_same_settings(made, SECTIONS | sections)


@pytest.mark.parametrize(
    "classes", [NAMES, pytest.param(HUNDRED, marks=pytest.mark.slow)], ids=["10 classes", "100 classes"]
)
def test_the_page_loads_nothing_and_is_small(classes):
    text = pages.as_html(rendered(classes))
    assert len(text.encode()) <= 1_500_000
    page = Document(text)
    named = [
        (tag, value)
        for tag, attrs in page.tags
        for key, value in attrs.items()
        if key in ("src", "href", "srcset", "data")
    ]
    own = {f"#{attrs['id']}" for _, attrs in page.tags if "id" in attrs}
    assert {value for tag, value in named if tag == "a"} == {f"#{section.id}" for section in rendered(classes).sections}
    assert {value for tag, value in named if tag == "a"} <= own
    loading = [value for tag, value in named if tag != "a"]
    assert loading
    assert all(re.match("data:image/(svg[+]xml|png|jpeg);base64,", value) for value in loading)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    for uri in (uri for uri in loading if "svg" in uri[:20]):
        drawing = base64.b64decode(uri.split(",")[1]).decode()
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in re.findall(r'href="([^"]*)"', drawing))
        assert not re.search(r"<script|<style[^>]*>[^<]*(@import|url\()", drawing)


def test_the_tab_of_a_page_says_which_experiment_it_is():
    page = replace(rendered(), made="gentle, a1b2c3d, 2026-11-26")
    assert "<title>EfficientNet on CIFAR-10 · gentle, a1b2c3d, 2026-11-26</title>" in pages.as_html(page)
    assert "<title>EfficientNet on CIFAR-10</title>" in pages.as_html(rendered())


def test_what_few_ask_for_is_folded_and_open_in_print():
    text = pages.as_html(rendered())
    assert re.findall(r"<summary><h2>(.*?)</h2>", text) == ["What it took", "Settings"]
    assert "details::details-content" in text[text.index("@media print") :]


def test_every_region_that_scrolls_is_reached_by_the_keyboard_and_named():
    page = Document(pages.as_html(rendered()))
    regions = [attrs for _, attrs in page.tags if attrs.get("class", "").startswith("scroll")]
    assert regions
    named = {attrs["id"] for tag, attrs in page.tags if tag == "figcaption" and "id" in attrs}
    assert all(attrs["tabindex"] == "0" and attrs["role"] == "region" for attrs in regions)
    assert all(attrs.get("aria-label") or attrs["aria-labelledby"] in named for attrs in regions)


def test_more_classes_than_a_matrix_shows_get_pairs_instead():
    names = [
        [block.name for block in page.sections[0].blocks if isinstance(block, pages.Figure)]
        for page in (blank(), blank(HUNDRED))
    ]
    assert names == [["classes", "confusion"], ["classes"]]
    tables = [
        [len(block.rows) for block in page.sections[0].blocks if isinstance(block, pages.Table)]
        for page in (blank(), blank(HUNDRED))
    ]
    assert [each[0] for each in tables] == [10, 20]
    assert tables[1][1] == 24


def test_every_figure_has_a_text_for_those_who_cannot_see_it_and_every_table_a_caption():
    text = pages.as_html(rendered())
    images = [attrs for tag, attrs in Document(text).tags if tag == "img"]
    drawings = [attrs["alt"] for attrs in images if attrs["src"].startswith("data:image/svg")]
    assert len(drawings) == 14
    assert all(len(alt) > 40 for alt in drawings)
    assert {attrs["alt"] for attrs in images if not attrs["src"].startswith("data:image/svg")} == {""}, "texts beside"
    assert text.count("<table ") == text.count('<figcaption id="table-') == 26
    assert text.count("<h1>") == 1


def test_class_names_cannot_break_the_page():
    text = pages.as_html(nasty())
    page = Document(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in Document(pages.as_html(rendered())).tags}
    assert {cell for row in page.table("The most frequent")[1:] for cell in row[:2]} <= set(NASTY)


def test_markdown_tables_keep_their_columns_whatever_a_class_is_called():
    text = pages.as_markdown(nasty())
    blocks = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 26
    for block in blocks:
        rows = markdown_rows(block)
        assert len({len(row) for row in rows}) == 1
        assert set("".join(rows[1])) <= set(" :-")
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http" not in text.replace("\\](http", "")


def test_markdown_says_what_the_page_says():
    made = with_copies()
    page, text = Document(pages.as_html(made)), pages.as_markdown(made)
    cells = {re.sub(r"[\\*]", "", cell).strip() for row in markdown_rows(text) for cell in row}
    assert {cell for rows in page.tables.values() for row in rows for cell in row} <= cells
    assert f"**{made.answer}**" in text
    assert "> **Warning:** 2 of 360" in plain(text)


def test_markdown_escapes_what_would_be_markup():
    assert pages.markdown_text("a|b <i> *x* `c` snake_case _u_ [a](b) ![c](d) [1, 2] 5 & 6\nend") == (
        r"a\|b \<i\> \*x\* \`c\` snake_case \_u\_ [a\](b) \![c\](d) [1, 2] 5 \& 6 end"
    )


@pytest.mark.parametrize("text", ["81.4 % [78.1, 84.2]: less than", "[78.1, 84.2]", "[a] (b)", "0 [1, 2]; 3 [4, 5], 6"])
def test_brackets_that_are_no_link_get_no_backslash(text):
    assert pages.markdown_text(text) == text


@pytest.mark.parametrize(("text", "escaped"), [("[a]: http://x", r"\[a]: http://x"), ("[a][b]", r"[a\][b]")])
def test_brackets_of_a_links_reference_get_one(text, escaped):
    assert pages.markdown_text(text) == escaped


@pytest.mark.parametrize(
    ("name", "source", "title"),
    [
        ("cifar100", None, "EfficientNet on CIFAR-100"),
        ("digits", None, "EfficientNet on handwritten digits"),
        ("cifar10", "/downloads/cifar-10-python.tar.gz", "EfficientNet on CIFAR-10"),
        ("folder", "/photos/ants and bees", "EfficientNet on ants and bees"),
        ("folder", "../ants.v2.tar.xz", "EfficientNet on ants.v2"),
        ("folder", None, "EfficientNet on the images of data/source"),
    ],
)
def test_a_page_without_a_title_is_called_by_its_images(name, source, title):
    dataset = replace(SETTINGS.dataset, name=name, source=source)
    assert answer.title(study(dataset=dataset, report=params.Report(title=None))) == title
    assert answer.title(study(dataset=dataset, report=params.Report(title="Mine"))) == "Mine"


def test_each_figure_and_each_table_is_a_file_and_markdown_finds_the_figures(tmp_path):
    pages.write(rendered(), str(tmp_path / "reports"), str(tmp_path / "plots/page"))
    text = (tmp_path / "reports" / "report.md").read_text()
    named = re.findall(r"\]\((\S+\.svg)\)", text)
    assert len(set(named)) == len(named) == 14
    assert all((tmp_path / "reports" / path).is_file() for path in named)
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {"report.html", "report.md"}
    tables = [block for section in rendered().sections for block in section.blocks if isinstance(block, pages.Table)]
    assert len({table.name for table in tables}) == len(tables)
    kept = {path.name for path in (tmp_path / "plots/page").iterdir()}
    assert kept == {f"{table.name}.csv" for table in tables} | {path.rpartition("/")[2] for path in named}
    for table in tables:
        pd.testing.assert_frame_equal(
            pd.read_csv(tmp_path / f"plots/page/{table.name}.csv", dtype=str, keep_default_na=False),
            table.rows.reset_index(drop=True).astype(str),
        )


def test_equal_results_give_equal_words_and_tables():
    """Of its figures, each has a test of its own (tests/figures), and all together the next."""
    first = blank()
    with undrawn():
        second = contents.report(study())
    assert pages.as_html(first) == pages.as_html(second)
    assert pages.as_markdown(first) == pages.as_markdown(second)


@pytest.mark.slow
def test_equal_results_give_equal_bytes():
    first, second = rendered(), contents.report(study())
    assert pages.as_html(first) == pages.as_html(second)
    assert pages.as_markdown(first) == pages.as_markdown(second)


def test_the_smallest_study_has_a_report():
    with undrawn():  # test_transfer.py draws one epoch and one trial
        page = contents.report(study(("no", "yes"), sizes={"train": 2, "val": 1, "test": 2}, epochs=1, trials=1))
    assert "nan" not in pages.as_markdown(page).lower().split()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (59, "59 s"), (60, "1.0 min"), (3475.5, "57.9 min"), (9000, "2.5 h")]
)
def test_durations_have_sensible_digits(seconds, text):
    assert plain(numbers.duration(seconds)) == text
