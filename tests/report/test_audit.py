"""The chapter on images and labels: what it says follows from rows and predictions, and odd studies have one, too."""

import re
from dataclasses import replace
from functools import cache

import pytest

from src.evidence import audited as evidence
from src.report import audit, pages
from src.report.pages import Figure, Table
from src.report.study import Study
from tests.builders.report import NAMES, SIZES, Document, audited, plain, study, undrawn


@cache
def base() -> Study:
    """A study whose chapter is not asked for, made once."""
    made: Study = study()
    return made


def told(**found: int) -> Study:
    return replace(base(), audit=audited(**found))


def page(made: Study) -> Document:
    """The chapter as a browser reads it; its figures are blank."""
    with undrawn():
        chapter = audit.chapter(made)
    return Document(pages.as_html(pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=[chapter])))


def right_of(made: Study, wanted: list[int]) -> tuple[int, int]:
    """How many of the test images `wanted` the fine-tuned network names right, and of all others."""
    test = made.answers.test
    hits = (test["finetuned"] == test["actual"]).to_numpy()
    return int(hits[wanted].sum()), int(hits.sum() - hits[wanted].sum())


def test_the_answer_counts_the_images_with_copies_and_what_is_right_without_them() -> None:
    made = told(pairs=40, doubtful=5)
    within, without = right_of(made, list(range(40)))
    text = plain(audit.answer(made))
    images = SIZES["test"]
    assert text.startswith(
        f"{100 * (within + without) / images:.1f} % on test; without the 40 test images that have a "
    )
    assert f" a near copy in train {100 * without / (images - 40):.1f} % [" in text
    test = made.answers.test.iloc[:5]
    agreed = int((test["finetuned"] == 1).sum())
    assert text.endswith(
        f"; 5 test labels are doubtful to a probe, {agreed} of them to the fine-tuned network as well."
    )


@pytest.mark.parametrize(
    ("pairs", "doubtful", "part"),
    [
        (0, 1, " on test: no test image has a near copy in train, and 1 test label is doubtful to a probe, "),
        (1, 0, "; without the 1 test image that has a near copy in train "),
        (1, 0, "; no test label is doubtful."),
        (360, 0, ": each of the 360 test images that have a near copy in train, and no test label is doubtful."),
    ],
)
def test_few_all_and_none_are_said(pairs: int, doubtful: int, part: str) -> None:
    assert part in plain(audit.answer(told(pairs=pairs, doubtful=doubtful)))


def test_of_several_seeds_the_answer_says_that_it_is_the_firsts() -> None:
    """The lead sentence is about their mean then, which may be another number."""
    seeds = base().assessed.over_seeds
    several = seeds | {"accuracy": replace(seeds["accuracy"], runs=3)}
    made = replace(base(), assessed=replace(base().assessed, over_seeds=several))
    assert " % on test by the first seed; without the " in plain(audit.answer(made))
    assert "first seed" not in audit.answer(base())


def test_tables_give_counts_and_accuracies_with_and_without_copies() -> None:
    made = told(pairs=40, doubtful=5)
    found = page(made)
    rows = {row[0]: row[1:] for row in found.table("Images that have a near copy")}
    assert plain(" ".join(rows["test"])) == "360 0 40 0 5"
    (all_rows, without, within) = found.table("Accuracy on images with and without")[1:]
    assert [row[:2] for row in (all_rows, without, within)] == [
        ["Test", "all images"],
        ["Test", "without a near copy in train"],
        ["Test", "with one"],
    ]
    assert [row[2] for row in (all_rows, without, within)] == ["360", "320", "40"]
    share = right_of(made, list(range(40)))[0] / 40
    assert plain(within[4]).startswith(f"{100 * share:.1f} % [")


def test_without_copies_and_doubts_there_are_no_empty_figures_or_tables() -> None:
    blocks = audit.chapter(told(pairs=0, doubtful=0)).blocks
    assert not [block for block in blocks if isinstance(block, Figure)]
    assert len([block for block in blocks if isinstance(block, Table)]) == 1


def test_labels_that_the_fine_tuned_network_doubts_too_come_first_with_a_mark() -> None:
    made = told(pairs=0, doubtful=60)
    agreed = evidence.seconded(made.answers, made.audit.labels, "finetuned")
    assert 0 < agreed.sum() < 32
    (figure,) = [block for block in audit.chapter(made).blocks if isinstance(block, Figure)]
    assert figure.photographs
    assert figure.svg.count("✓") == agreed.sum()
    places = [*agreed[agreed].index, *agreed[~agreed].index][:32]
    assert [int(place) for place in re.findall(r">test (\d+)", figure.svg)] == places


def test_photographs_keep_their_colours_on_a_dark_page() -> None:
    text = pages.as_html(
        pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=[audit.chapter(told(doubtful=0))])
    )
    assert '<figure class="drawing photographs">' in text
    assert ".drawing:not(.photographs) img { filter:" in text


def test_labels_that_could_not_be_judged_are_counted() -> None:
    assert "could not be judged" not in page(told()).words
    assert "2 labels could not be judged" in plain(page(told(unjudged=2)).words)


def test_the_classes_of_the_figures_are_those_of_the_study() -> None:
    (pairs, labels) = [block for block in audit.chapter(told()).blocks if isinstance(block, Figure)]
    assert f"train 0 {NAMES[0]}" in pairs.svg
    assert f"{NAMES[0]}?" in labels.svg
