"""Compare experiments, revisions or the workspace: did it help, and how sure is that.  `python -m stages.compare A B`

Any two, or the first against several; `workspace` is what lies here now. Experiments that differ in their seed alone
count as one. `--json` prints JSON in place of the tables. A page of it all goes into comparisons/.

No stage of dvc.yaml: it reads what stages left, and changes no result.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence

from src.base import artifacts
from src.interface import console, tables
from src.report import (
    comparison,
    comparison_page,
    comparison_text,
    comparison_words,
    differences,
    experiments,
    pages,
    revisions,
    sides,
)
from src.report.comparison_page import Comparison

JSON = "--json"
LONGEST = 100  # letters of a page's name


def compared(*names: str) -> Comparison:
    """The experiments of these names.

    Raises:
        ValueError: fewer than two, or a name that means nothing or has no results.
    """
    if len(names) < 2:
        raise ValueError(
            f"{' '.join(names) or 'nothing'}: allowed: two experiments or revisions, or more, as in `make compare "
            "A=sample B=gentle`"
        )
    found = [experiments.read(each) for each in revisions.find(names)]
    groups = sides.grouped(found)
    return Comparison(
        sides=groups,
        pairings=comparison.compare(groups),
        seeds=sides.seed_groups(found),
        refused=comparison.refusals(found),
        warnings=[line for each in found for line in differences.stale(each)],
    )


def file_name(names: Sequence[str]) -> str:
    """Of the page about these: all their names, or where that is long their beginning and a digest of them."""
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(names))
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}-{hashlib.sha256('_'.join(names).encode()).hexdigest()[:8]}"
    return f"{text}.html"


def main() -> None:
    names = [name for name in sys.argv[1:] if name != JSON]
    found = compared(*names)
    page = f"comparisons/{file_name(names)}"
    if JSON in sys.argv:
        sys.stdout.write(json.dumps(comparison_text.as_json(found, page), indent=2, allow_nan=False) + "\n")
        sys.stdout.flush()
        artifacts.write_text(pages.as_html(comparison_page.page(found)), page)
        return
    for part in comparison_text.tables(found):
        for line in [part] if isinstance(part, str) else tables.lines(part):
            console.say(line)
    made = comparison_page.page(found)
    for line in (*made.warnings, comparison_text.plain(comparison_words.answer(found.pairings))):
        console.say(line)
    artifacts.write_text(pages.as_html(made), page)
    console.say(f"compare: the page is {page}")


if __name__ == "__main__":
    console.run(main)
