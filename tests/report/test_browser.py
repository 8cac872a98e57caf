"""The report's page in a real browser: on phone and desk, light, dark and printed, for eyes, keyboards and readers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.report import contents, pages
from tests.builders.report import HUNDRED, NAMES, scaling, study

pytestmark = pytest.mark.browser

SCREENS = {"phone": (390, 844), "tablet": (768, 1024), "desk": (1440, 900)}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from tests.builders.chromium import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="module", params=[NAMES, HUNDRED], ids=["10 classes", "100 classes"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "report.html"
    made = study(request.param, scaled=scaling())
    path.write_text(pages.as_html(contents.report(made)), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_it_asks_for_nothing_complains_of_nothing_and_fits(chromium: Any, file: Path, screen: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    width, height = SCREENS[screen]
    # The checker runs as a script, which the page's own policy forbids: it is left out for that alone.
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert said == []
    page.close()


def test_a_phones_first_screen_has_the_answers_numbers(chromium: Any, file: Path) -> None:
    width, height = SCREENS["phone"]
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.goto(file.as_uri())
    box = page.locator(".answer").bounding_box()
    assert box["y"] + box["height"] <= height
    assert page.locator("figure.drawing img").first.evaluate("image => image.currentSrc") != page.locator(
        "figure.drawing img"
    ).first.get_attribute("src"), "the narrow figure"
    page.close()


def test_the_keyboard_reaches_and_moves_what_scrolls(chromium: Any, file: Path) -> None:
    width, height = SCREENS["phone"]
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.goto(file.as_uri())
    table = page.locator(".table .scroll").first
    table.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("region => region.scrollLeft > 0", arg=table.element_handle())
    first = table.locator("td").first.bounding_box()
    assert first["x"] >= table.bounding_box()["x"], "the first column stays"
    page.close()


def test_a_click_on_the_contents_shows_its_chapter(chromium: Any, file: Path) -> None:
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.goto(file.as_uri())
    page.locator("nav a").last.click()
    assert page.locator("section").last.locator("h2").is_visible()
    page.wait_for_function("window.scrollY > 1000")
    assert page.locator("nav").bounding_box()["y"] >= 0, "the contents stay in sight"
    page.close()


def test_printed_it_has_numbered_pages_and_all_that_was_folded(chromium: Any, file: Path, tmp_path: Path) -> None:
    from pypdf import PdfReader

    page = chromium.new_page()
    page.goto(file.as_uri())
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    page.close()
    printed = [sheet.extract_text() for sheet in PdfReader(tmp_path / "report.pdf").pages]
    assert all(f"{number} / {len(printed)}" in text for number, text in enumerate(printed, start=1))
    assert "Every value of params.yaml" in "".join(printed)
    assert not [text for text in printed if len(text.split()) < 3], "no empty sheet"
