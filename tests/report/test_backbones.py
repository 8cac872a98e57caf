"""The chapter on backbones: which is best, what it can be told apart from, and what each costs."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from src.base import artifacts
from src.interface import params
from src.report import backbones, compared, contents, pages
from src.report.pages import Figure, Section
from src.report.study import Study
from src.training import metrics
from tests.builders.report import SETTINGS, Document, compared_entries, comparison, plain, study, undrawn

SHARES = {"lite0_64": 0.6, "lite0_128": 0.8, "lite0_224": 0.88, "lite1_240": 0.885}


@cache
def base() -> Study:
    """A study without entries, made once."""
    made: Study = study()
    return made


def studied(found: compared.ComparisonResults, **own: object) -> Study:
    """The study with what the comparison left, and `own` sections of settings."""
    plain_study = base()
    settings = {**plain_study.settings, "compared_backbones": compared_entries(found), **own}
    records = {**plain_study.records, **found.stage_runs}
    return replace(plain_study, compared=found, settings=settings, records=records)


def page(**changes) -> Document:
    """The chapter of a study, as a browser reads it; its figures are blank."""
    found = changes.pop("found", None) or comparison(SHARES)
    with undrawn():
        section = backbones.chapter(studied(found, **changes))
    return Document(pages.as_html(contents_of(section)))


@cache
def shipped() -> Document:
    """The chapter of SHARES, made once."""
    return page()


def contents_of(section: Section) -> pages.Page:
    return pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=[section])


def figures(section: Section) -> list[str]:
    return [block.name for block in section.blocks if isinstance(block, Figure)]


def test_the_best_on_validation_is_named_with_its_one_number_on_test_and_what_it_is_like() -> None:
    text = plain(backbones.answer(studied(comparison(SHARES))))
    assert text.startswith(
        "Of 4 backbones as they are, lite1_240 (efficientnet_lite1 at 240 pixels) does best on validation"
    )
    assert "It is better there than lite0_64 and lite0_128." in text
    assert "It cannot be told apart from lite0_224. Of these, lite0_224 is the cheapest, at 0.871 of its" in text


def test_what_is_best_is_decided_on_validation_whatever_test_says() -> None:
    found = comparison({"lite0_64": 0.9, "lite0_128": 0.5})
    found.metrics["lite0_128"]["val"]["accuracy"] = 0.99
    text = backbones.answer(studied(found))
    assert text.startswith("Of 2 backbones as they are, lite0_128 ")
    assert text.endswith("It is worse there than lite0_64.")


def test_one_entry_is_compared_with_nothing() -> None:
    found = comparison({"lite0_64": 0.9})
    section = backbones.chapter(studied(found))
    assert plain(backbones.answer(studied(found))).startswith("lite0_64 (efficientnet_lite0 at 64 pixels) reaches ")
    assert figures(section) == ["backbones_by_multiply_adds", "backbones_by_seconds"]


def test_weights_that_saw_other_images_are_said_to_in_every_row_and_in_the_answer() -> None:
    found = comparison(SHARES, pretraining="LAION-2B then ImageNet-1k")
    assert "at 240 pixels, trained on LAION-2B then ImageNet-1k)" in backbones.answer(studied(found))
    rows = page(found=found).table("Accuracy of a linear probe")
    assert [row[2] for row in rows[1:]] == ["LAION-2B then ImageNet-1k"] * 4


def test_the_page_has_the_tables_and_figures_and_accuracy_by_resolution_of_lite0_alone() -> None:
    section = backbones.chapter(studied(comparison(SHARES)))
    names = ["backbones_by_multiply_adds", "backbones_by_seconds", "backbones_by_resolution"]
    assert figures(section) == names
    by_resolution = next(block for block in section.blocks if getattr(block, "name", "") == names[2])
    assert "lite1" not in by_resolution.alt
    found = shipped()
    costs = found.table("What it costs")
    assert costs[1][:4] == ["lite0_64", "3\u202f000\u202f000", "1\u202f638\u202f400", "1\u202f280"]
    assert [row[0] for row in costs[1:]] == list(SHARES)


def test_differences_of_the_best_stand_with_verdicts_and_every_pair_in_a_square() -> None:
    rows = shipped().table("The best on validation against")
    assert [row[:2] for row in rows[1:]] == [
        ["lite1_240 − lite0_64", "better"],
        ["lite1_240 − lite0_128", "better"],
        ["lite1_240 − lite0_224", "cannot be told apart"],
    ]
    square = shipped().table("Every pair")
    assert [row[i + 1] for i, row in enumerate(square[1:])] == [""] * 4
    assert square[3][4].endswith(" =")
    assert square[1][2].removeprefix("\u2212") == square[2][1].removeprefix("+")


def test_the_fine_tuned_result_stands_beside_the_studys_own_backbone() -> None:
    own = {"backbone": params.Backbone(name="efficientnet_lite0", weights="imagenet", resolution=64)}
    rows = page(**own).table("Accuracy of a linear probe")
    assert rows[0][-1] == "Fine-tuned"
    assert [bool(row[-1]) for row in rows[1:]] == [True, False, False, False]
    assert rows[1][-1].endswith(" at 96")
    other = page(backbone=replace(SETTINGS.backbone, name="resnet18")).table("Accuracy of a linear probe")
    assert other[0][-1] == "Neighbours"


def test_fits_that_did_not_converge_ends_of_the_path_and_absent_classes_are_said() -> None:
    found = comparison(SHARES, unconverged=[0.1], absent=["cat"])
    found.metrics["lite0_64"]["penalty"] = SETTINGS.comparison.penalties[-1]
    words = page(found=found).words
    assert "Not every fit of lite0_64, lite0_128, lite0_224 and lite1_240 converged" in words
    assert "For lite0_64, validation chose an end of the path of penalties (1 to 0.0003)" in words
    assert "Validation, which chooses, has no image of cat." in words
    assert "validation chose an end" not in shipped().words


def test_the_chapter_begins_with_the_answer_and_the_page_names_each_entry_and_its_stage() -> None:
    found = comparison(SHARES)
    with undrawn():
        whole = contents.report(studied(found))
        assert backbones.answer(studied(found)) == backbones.chapter(studied(found)).blocks[0]
    assert "Which backbone, at which resolution?" in [section.title for section in whole.sections]
    text = Document(pages.as_html(whole))
    assert ["compared_backbones.lite0_64", "name efficientnet_lite0, weights imagenet, resolution 64"] in text.table(
        "Every value"
    )
    assert [row[0] for row in text.table("What each stage took")].count("compare_backbones@lite1_240") == 1


def write(folder, key, labels, answers) -> None:
    """What a stage leaves of an entry."""
    logits = {"probe": {split: torch.eye(3)[answers] for split in ("val", "test")}}
    kept = metrics.collect_predictions(logits, dict.fromkeys(("val", "test"), labels), ("a", "b", "c"))
    artifacts.save(kept, folder / f"{key}.pt")
    run = comparison({f"{key}_64": 0.5}).runs[f"{key}_64"]
    artifacts.write_json(vars(run), folder / f"runs/{key}.json")
    artifacts.write_json({"val": {"accuracy": 0.5}, "multiply_adds": 3}, folder / f"metrics/{key}.json")


def test_what_is_right_on_test_is_counted_from_the_predictions_of_named_entries_alone(tmp_path) -> None:
    labels = torch.tensor([0, 1, 2, 1])
    write(tmp_path, "one", labels, torch.tensor([0, 1, 1, 1]))
    write(tmp_path, "dropped", labels, labels)
    places = {"metrics": f"{tmp_path}/metrics", "runs": f"{tmp_path}/runs", "predictions": str(tmp_path)}
    found = compared.read(["one"], **places)
    assert found.keys == ["one"]
    assert found.right["one"].tolist() == [True, True, False, True]
    write(tmp_path, "two", labels.flip(0), labels)
    with pytest.raises(
        ValueError, match=r"^data/predictions/compare_backbones: two and one are about different images"
    ):
        compared.read(["one", "two"], **places)
    assert compared.read([], **places).keys == []
