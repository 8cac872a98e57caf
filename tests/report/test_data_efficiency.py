"""The chapter on how many images: its sentences follow from the rungs, and odd studies have one, too."""

import re
from dataclasses import replace
from functools import cache

import pytest

from src.evidence.power_law import PowerLaw
from src.report import data_efficiency, pages
from src.report.pages import Table
from src.report.study import Study
from tests.builders.report import Document, by_images, plain, study

IMAGES = (10, 30, 100, 300, 1200)


@cache
def base() -> Study:
    made: Study = study()
    return made


def told(errors: tuple[float, ...], **options: object) -> Study:
    return replace(base(), data_efficiency=by_images(errors, **options))


def lawful(law: PowerLaw) -> Study:
    return told(tuple(law.error(images) for images in IMAGES))


def test_the_answer_gives_both_ends_and_the_gain_of_the_law_that_was_planted() -> None:
    law = PowerLaw(floor=0.1, scale=1.5, exponent=0.4)
    text = plain(data_efficiency.answer(lawful(law)))
    first, last = (100 * (1 - law.error(images)) for images in (10, 1200))
    assert f"reaches {last:.1f} % [" in text
    assert "with all 1 200 images, and" in text
    assert f"{first:.1f} % [" in text
    assert "with 1 a class. Ten times the images: about " in text
    said, low, high = (float(part) for part in re.findall(r"about \+(.*?) points \[(.*?), (.*?)\]", text)[0])
    assert said == pytest.approx(100 * law.gain(1200, 10), abs=0.11)
    assert low < said < high


def test_the_law_is_held_against_the_last_rung_and_said_to_fail_where_it_does() -> None:
    def checked(made: Study) -> str:
        blocks = data_efficiency.chapter(made).blocks
        return plain(next(block for block in blocks if isinstance(block, str) and "foretells" in block))

    law = PowerLaw(floor=0.1, scale=1.5, exponent=0.4)
    assert "this does not contradict the law" in checked(lawful(law))
    errors = [law.error(images) for images in IMAGES]
    assert "this contradicts the law" in checked(told((*errors[:-1], errors[-1] + 0.2)))


@pytest.mark.parametrize(
    ("errors", "images", "part"),
    [
        ((0.2,), (4,), "with all 4 images."),
        ((0.5, 0.5), (10, 40), ". From 1 a class on, more did not help."),
        ((0.0, 0.0, 0.0), (10, 30, 40), ". From 1 a class on, more did not help."),
        ((0.4, 0.0, 0.0, 0.0, 0.0, 0.0), (10, 30, 100, 300, 600, 700), ". From 3 a class on, more did not help."),
        ((0.4, 0.2, 0.18, 0.19, 0.2, 0.21), (10, 30, 100, 300, 600, 700), ". From 10 a class on, more did not help."),
        ((0.5, 0.3), (10, 40), "Ten times the images: about +"),
    ],
    ids=["one rung", "constant", "perfect", "perfect from a few on", "falling", "two rungs"],
)
def test_few_rungs_and_none_that_differ_are_said(errors, images, part) -> None:  # type: ignore[no-untyped-def]
    made = told(errors, images=images)
    assert part in plain(data_efficiency.answer(made))
    (table,) = [block for block in data_efficiency.chapter(made).blocks if isinstance(block, Table)]
    assert len(table.rows) == len(errors)


def test_the_table_has_a_row_per_rung() -> None:
    section = data_efficiency.chapter(base())
    page = Document(pages.as_html(pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=[section])))
    rows = page.table("A linear probe on the clean features")[1:]
    assert [plain(row[1]) for row in rows] == ["10", "30", "100", "300", "1 200"]
    assert [row[2] for row in rows] == ["3", "3", "3", "3", "1"]
    assert {row[4] for row in rows} == {"0.1"}
