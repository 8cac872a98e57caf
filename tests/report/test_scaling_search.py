"""The report's chapter on the search: candidates as they were ranked, and by what the coefficients were chosen."""

from dataclasses import replace

import pytest

from src.report import pages, scaling_search
from tests.builders.report import SETTINGS, Document, plain, scaling, study


def shown(*parts):
    """What the browser sees of these sections."""
    page = pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=parts)
    return Document(plain(pages.as_html(page)))


def test_candidates_are_ranked_as_the_search_chose():
    page = shown(scaling_search.search(study()))
    rows = page.table("All candidates")[1:]
    assert [row[:3] for row in rows] == [
        ["1.2 ★", "1.2", "1.1"],
        ["1.6", "1", "1.1"],
        ["1", "1.4", "1"],  # as accurate as the next, and one multiply-add cheaper
        ["1.9", "1", "1"],
        ["2", "1", "1"],
    ]
    assert rows[0][3:7] == ["1.20", "1.20", "1.25", "2.09"]
    assert rows[0][7:] == ["80", "4 000 002", "59 999 998", "44.0 %", "1.500"]
    assert "for 2 epochs and judged on 240 validation images alone: 4 of them, up to 44.0 %, cannot" in page.words
    assert "the nearest to the paper's, α 1.2, β 1.2, γ 1.1, which reached 44.0 %" in page.words


@pytest.mark.parametrize(
    ("chosen_by", "says", "star"),
    [
        ("chance", "an interval that allows for their number, so the study takes the paper's", False),
        ("validation", "and more than any other. The paper chose α 1.2, β 1.1, γ 1.15.", True),
    ],
)
def test_a_search_says_by_what_it_chose(chosen_by, says, star):
    found = scaling()
    coefficients = found.coefficients | {"chosen_by": chosen_by}
    page = shown(scaling_search.search(study(scaled=replace(found, coefficients=coefficients))))
    assert says in page.words
    assert ("★" in page.words) == star
    assert ("takes the paper's α 1.2, β 1.1, γ 1.15" in page.words) != star


def test_a_search_without_training_shows_costs_and_claims_nothing():
    epochs = replace(SETTINGS.scaling_search, epochs=0)
    page = shown(scaling_search.search(study(scaled=scaling((), trained=False), scaling_search=epochs)))
    header, *rows = page.table("All candidates")
    assert header[-1] == "Multiply-adds"
    assert [row[0] for row in rows] == ["2", "1", "1.6", "1.2", "1.9"]  # cost 2, 1.97, 1.96, 2.09, 1.9
    assert "none trained" in page.words
    assert "★" not in page.words
    assert "nan" not in page.words.lower().split()
