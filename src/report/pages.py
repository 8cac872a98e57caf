"""The report as a page: sections of text, tables and figures, written as one HTML file and as Markdown with figures.

Each figure is a file of its own as well, and each table.

What the sections say is decided in contents.py; how a page looks, here, in page.html and in page.md.
The HTML page asks for nothing outside itself: its figures are data: URIs.
"""

import base64
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd

from src.base import artifacts


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing: `name` is its file's stem, `svg` its text, `alt` what a reader who cannot see it gets.

    `narrow` is the same drawn for a telephone, where it was. `photographs` keep their colours on a dark page.
    """

    name: str
    svg: str
    alt: str
    caption: str
    narrow: str = ""
    photographs: bool = False

    @property
    def uri(self) -> str:
        return _svg_uri(self.svg)

    @property
    def narrow_uri(self) -> str:
        return _svg_uri(self.narrow)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of finished text: the first `text_columns` are words, the others numbers; row `marked` stands out.

    `name` is its file's stem; without one it has no file.
    """

    caption: str
    rows: pd.DataFrame
    text_columns: int = 1
    marked: int | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as PNG or JPEG, and what is written below it."""

    image: bytes
    text: str

    @property
    def uri(self) -> str:
        kind = "png" if self.image.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(self.image).decode()}"


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Images side by side, `wide` ones three in a row; Markdown has their texts alone."""

    caption: str
    pictures: Sequence[Picture]
    wide: bool = False


Block = str | Figure | Table | Gallery


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter; a `folded` one opens when its title is clicked, and is open in print."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False

    @property
    def id(self) -> str:
        """Of links to it."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class Page:
    """A report: `answer` is its one sentence, `facts` what it is about, `warnings` what makes it less than it seems.

    `made` says of which experiment it is, from what commit, and when: of several pages open at once, which is which.
    """

    title: str
    answer: str
    facts: str
    warnings: Sequence[str]
    lead: Sequence[Block]
    sections: Sequence[Section] = field(default_factory=tuple)
    made: str = ""


def write(page: Page, folder: str, parts: str) -> None:
    """Write report.html and report.md into `folder`, each figure as .svg and each named table as .csv into `parts`."""
    for block in _blocks(page):
        if isinstance(block, Figure):
            artifacts.write_text(block.svg, f"{parts}/{block.name}.svg")
        elif isinstance(block, Table) and block.name:
            artifacts.write_csv(block.rows, f"{parts}/{block.name}.csv")
    artifacts.write_text(as_html(page), f"{folder}/report.html")
    artifacts.write_text(as_markdown(page, os.path.relpath(parts, folder) + "/"), f"{folder}/report.md")


def as_html(page: Page) -> str:
    """One self-contained HTML document; every text is escaped."""
    return _environment(autoescape=True).from_string(_template("page.html")).render(page=page) + "\n"


def as_markdown(page: Page, figures: str = "") -> str:
    """The same in GitHub's Markdown, its figures being files whose paths begin with `figures`."""
    environment = _environment(autoescape=False)
    environment.filters["md"] = markdown_text
    return environment.from_string(_template("page.md")).render(page=page, figures=figures)


def markdown_text(text: object) -> str:
    """`text` in one line, with everything that Markdown would take for markup or for a table's border escaped."""
    line = re.sub(r"[^\S\u202f]+", " ", str(text)).strip(" ")  # all white space but the narrow one within numbers
    brackets = r"\](?=[(\[])|^\[(?=[^\]]*\]:)|!(?=\[)"  # of links and pictures, or of what a link refers to; no others
    return re.sub(rf"([\\`*<>|~&$])|(?<!\w)_|_(?!\w)|{brackets}", lambda match: f"\\{match[0]}", line)


def _template(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _blocks(page: Page) -> list[Block]:
    return [*page.lead, *(block for section in page.sections for block in section.blocks)]


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        autoescape=autoescape,  # noqa: S701 - off for Markdown, which markdown_text escapes
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "figure": lambda block: isinstance(block, Figure),
        "table": lambda block: isinstance(block, Table),
        "gallery": lambda block: isinstance(block, Gallery),
    }
    return environment
