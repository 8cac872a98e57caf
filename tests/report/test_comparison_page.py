"""What a comparison says and shows: sentences no stronger than intervals, thumbnails, tables of 80 columns, JSON."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from src.evidence.changes import Change
from src.interface import tables
from src.report import comparison, comparison_page, comparison_text, comparison_words, flips, pages, sides
from src.report.comparison import Row
from src.report.comparison_page import Comparison
from src.report.experiments import Experiment
from stages import compare
from tests.builders.experiments import experiment, revision
from tests.builders.report import Document, plain


def compared(*all_of_them: Experiment) -> Comparison:
    groups = sides.grouped(all_of_them)
    return Comparison(
        sides=groups,
        pairings=comparison.compare(groups),
        seeds=sides.seed_groups(all_of_them),
        refused=comparison.refusals(all_of_them),
        warnings=[],
    )


def gentle(share: float, **what: Any) -> Experiment:
    return experiment("gentle", params={"lr": 0.001}, shares={"finetuned": share}, **what)


def said(found: Comparison) -> str:
    return comparison_text.plain(comparison_words.answer(found.pairings))


@pytest.mark.parametrize("leaf", ["test.accuracy", "test.neighbours", "test.balanced_accuracy"])
def test_every_share_of_images_is_in_per_cent_and_its_difference_in_points(leaf: str) -> None:
    change = Change(first=0.855, second=0.867, low=0.002, high=0.022)
    row = Row(stage="compare_backbones@pico_64", leaf=leaf, change=change)
    assert plain(" ".join(comparison_words.both(row))) == "85.5 % 86.7 %"
    assert plain(comparison_words.bounds(row)) == "+1.2 [+0.2, +2.2]"


def test_one_image_is_one() -> None:
    assert [comparison_words.images(number) for number in (0, 1, 2)] == [
        "0 test images",
        "1 test image",
        "2 test images",
    ]


def test_better_worse_and_neither_are_said_as_the_test_has_it() -> None:
    assert said(compared(experiment(), gentle(0.95))).startswith("gentle is better than sample: 9")
    assert said(compared(experiment(), gentle(0.5))).startswith("gentle is worse than sample: ")
    unclear = said(compared(experiment(), gentle(0.81)))
    assert unclear.startswith("gentle cannot be told apart from sample: ")
    assert " points, p = " in unclear
    assert said(compared(experiment(), gentle(0.3))).endswith(" points, p < 0.001.")


def test_nothing_that_differs_is_said() -> None:
    twice = compared(experiment(), experiment("again"))
    assert said(twice) == "again against sample: no metric differs."
    text = comparison_page.page(twice)
    assert text.lead[0] == "All values of params.yaml are the same."


def test_nothing_is_called_equal_that_is_not_there() -> None:
    from src.report import experiments

    lost = revision("gentle")
    del lost.files["metrics/finetune.json"]
    found = compared(experiment(), experiments.read(lost))
    assert said(found) == "gentle against sample: no metric that both have differs, and finetune could not be compared."
    assert "No metric of gentle that both have differs" in pages.as_html(comparison_page.page(found))
    for path in [path for path in lost.files if path.startswith("metrics/")]:
        del lost.files[path]
    assert said(compared(experiment(), experiments.read(lost))) == (
        "gentle against sample: download, train_frozen and finetune could not be compared, nor anything else."
    )
    without = compared(experiment(), experiment("gentle", without=("finetune",)))
    assert said(without).endswith("no metric that both have differs, and finetune could not be compared.")


def test_the_page_shows_the_images_both_ways_and_asks_for_nothing_outside() -> None:
    found = compared(experiment(), gentle(0.9, luck=1))
    html = pages.as_html(comparison_page.page(found))
    document, own = Document(html), found.pairings[0].flips
    assert own is not None
    sources = [attrs["src"] for tag, attrs in document.tags if tag == "img"]
    pictures = [source for source in sources if source.startswith("data:image/png")]
    assert len(pictures) == sum(min(len(way), flips.SHOWN) for way in (own.gained, own.lost)) > 0
    assert all(source.startswith("data:") for source in sources)
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2])))
    assert (image.size, image.getpixel((0, 0))) == ((8, 8), 99)
    rows = document.table("What each stage took")
    assert rows[-1][:3] == ["all", "50\u202fs", "50\u202fs"]
    assert "://" not in html.replace("http://www.w3.org", "")


def test_without_images_in_the_cache_they_are_counted() -> None:
    files = [revision(name, luck=luck) for luck, name in enumerate(("sample", "gentle"))]
    for each in files:
        del each.files["data/images/test.pt"]
    from src.report import experiments

    (pairing,) = compared(*map(experiments.read, files)).pairings
    blocks = flips.galleries(pairing)
    assert [str(block).partition(" test images")[0] for block in blocks] == [
        str(len(way)) for way in (pairing.flips.gained, pairing.flips.lost)
    ]
    assert all(str(block).endswith("the images themselves are in no cache.") for block in blocks)


LONG = "an_experiment_of_a_very_long_name"


@pytest.mark.parametrize("names", [("sample", "gentle"), (LONG, f"{LONG}_2"), ("a", "b", "c", "d")])
def test_no_line_of_the_terminal_is_longer_than_80_columns_and_none_is_lost(names: tuple[str, ...]) -> None:
    arms = {"resolution": {0: 0.5, 1: 0.6}}
    own = [
        experiment(name, params={"lr": float(i)}, luck=i, arms=arms | ({"width": {0: 0.5}} if i else {}))
        for i, name in enumerate(names)
    ]
    lines = []
    for part in comparison_text.tables(compared(*own)):
        lines += [part] if isinstance(part, str) else list(tables.lines(part))
    assert max(map(len, lines)) <= 80
    assert sum("finetune test.accuracy" in line for line in lines) == len(names) - 1
    assert all(line.isascii() for line in lines if "accuracy" in line)


def test_a_table_cuts_its_words_before_its_numbers_and_stacks_where_there_is_no_room() -> None:
    rows = [["metric", "a", "b"], ["a long name of a metric", "1.0 %", "2.0 %"]]
    assert list(tables.lines(rows, 30)) == [
        "metric                a      b",
        "a long name of …  1.0 %  2.0 %",
    ]
    assert list(tables.lines(rows, 16)) == ["a long name of …", "- a: 1.0 %", "- b: 2.0 %"]


def test_json_says_what_the_page_says_as_numbers() -> None:
    first, second = experiment(), gentle(0.9, luck=1, code="edited")
    found = compared(first, second)
    values = json.loads(json.dumps(comparison_text.as_json(found, "comparisons/x.html"), allow_nan=False))
    (pairing,) = values["comparisons"]
    row = next(r for r in pairing["metrics"] if (r["stage"], r["metric"]) == ("finetune", "test.accuracy"))
    change = found.pairings[0].main.change
    assert (row["first"], row["second"]) == (change.first, change.second)
    assert (row["low"], row["high"], row["p_value"]) == (change.low, change.high, change.p_value)
    assert (row["first_alone"], row["second_alone"]) == change.alone
    assert len(pairing["flipped"]["gained"]) == row["second_alone"]
    assert values["parameters"] == [{"name": "lr", "sides": {"sample": "0.003", "gentle": "0.001"}, "stages": []}]
    assert [each["name"] for each in values["code"]] == ["stages/finetune.py"]
    assert values["answer"] == said(found)


def test_groups_of_seeds_have_their_mean_spread_and_interval() -> None:
    own = [experiment(f"s{seed}", params={"seed": seed}, luck=seed) for seed in range(3)]
    found = compared(*own)
    assert len(found.pairings) == 2
    (one, *_) = [each for each in comparison_text.as_json(found, "")["seeds"] if each["stage"] == "finetune"]
    assert len(one["each"]) == 3
    assert one["mean"] == pytest.approx(sum(one["each"]) / 3)
    assert one["low"] < one["mean"] < one["high"]
    table = Document(pages.as_html(comparison_page.page(found))).table("Experiments that differ in their seed alone")
    assert table[1][:2] == ["s0 (seeds 0, 1 and 2)", "train_frozen test.accuracy"]


def test_a_page_is_named_after_what_it_compares_and_never_longer_than_a_file_may_be() -> None:
    assert compare.file_name(["sample", "a b/c"]) == "sample_a-b-c.html"
    many = [f"tune_head.dropout_{number}" for number in range(40)]
    name = compare.file_name(many)
    assert name.startswith("tune_head.dropout_0_tune_head.dropout_1_")
    assert len(name) < 150
    assert compare.file_name([*many[:-1], "another"]) != name


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_was_found_is_said_before_the_page_is_written(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("comparisons").touch()  # where the folder should be
    monkeypatch.setattr(compare, "compared", lambda *_: compared(experiment(), gentle(0.95)))
    monkeypatch.setattr(compare.sys, "argv", ["compare", "sample", "gentle", *options])
    with pytest.raises(OSError, match="comparisons"):
        compare.main()
    assert "gentle is better than sample" in capsys.readouterr().out
