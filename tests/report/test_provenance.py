"""What the report says about where the images came from."""

from dataclasses import replace

import pytest

from src.report import answer, contents, provenance
from tests.builders.report import SETTINGS, plain, record, scaling, study, undrawn


def from_folder(*, skipped=(), copies=None):
    """A study of images of a person's own."""
    own = replace(SETTINGS.dataset, name="folder", test_fraction=0.25, val_fraction=0.1, split_seed=7)
    made = study(dataset=own, epochs=1, trials=1, scaled=scaling(()))
    facts = {"skipped": dict.fromkeys(skipped, "damaged: truncated"), "copies": copies}
    return replace(
        made,
        records=made.records | {"download": record("download", 3.0, **facts)},
        metrics=made.metrics | {"download": made.metrics["download"] | {"skipped": len(skipped)}},
    )


def origin(made):
    rows = provenance.data(made).blocks[0].rows
    return dict(zip(rows["Item"], map(plain, rows["Value"]), strict=True))


@pytest.mark.parametrize(
    ("copies", "says"),
    [(0, "0 are copies or near copies"), (1, "1 is a copy or near copy"), (1234, "1 234 are copies or near copies")],
)
def test_the_report_says_that_the_split_is_ours_how_it_was_made_and_where_copies_went(copies, says):
    made = from_folder(copies=copies)
    assert origin(made)["Split"] == (
        "This study split the images itself: 25.0 % of them are test and 10.0 % of the others validation, stratified "
        f"by class, by seed 7. {says} of another by a hash of what it shows, and each stays on the side of what it "
        "copies."
    )
    assert answer.facts(made).endswith(" The split into train, validation and test is this study's own.")


def test_of_a_split_that_was_given_the_report_says_nothing():
    assert "Split" not in origin(from_folder())
    assert "own" not in answer.facts(from_folder())


def test_files_that_were_left_out_are_counted_and_the_first_ten_named_above_all_results():
    made = from_folder(skipped=[f"train/cat/{i:02d}.jpg" for i in range(12)])
    (warning,) = provenance.skipped_warnings(made.records["download"])
    assert warning.startswith("12 bad files were left out (dataset.bad_files: skip): train/cat/00.jpg (damaged: trunc")
    assert "train/cat/09.jpg (damaged: truncated) and 2 more, which data/runs/download.json names." in warning
    with undrawn():
        assert warning in contents.report(made).warnings
    assert origin(made)["Files left out"] == "12"
    (single,) = provenance.skipped_warnings(from_folder(skipped=["a.gif"]).records["download"])
    assert single == "1 bad file was left out (dataset.bad_files: skip): a.gif (damaged: truncated)."
    assert provenance.skipped_warnings(from_folder().records["download"]) == []
