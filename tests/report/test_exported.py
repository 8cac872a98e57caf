"""The chapter on the exported model says what its numbers say, also where there is no copy in 8 bits."""

from dataclasses import replace

import pytest

from src.report import exported
from src.report.pages import Section
from tests.builders import report
from tests.builders.report import plain, study


def chapter(facts: dict[str, object] | None = None, **changes: object) -> Section:
    made = study()
    scores = {name: value for name, value in report.exported(**changes).items() if value is not None}
    record = made.records["export"]
    records = {**made.records, "export": replace(record, facts={**record.facts, **(facts or {})})}
    return exported.chapter(replace(made, metrics={**made.metrics, "export": scores}, records=records))


def words(section: Section) -> str:
    return plain(str(section.blocks[0]))


def test_the_table_has_each_engine_with_its_accuracy_size_and_times() -> None:
    rows = [[plain(cell) for cell in row] for row in chapter().blocks[1].rows.to_numpy().tolist()]  # type: ignore[union-attr]
    assert rows == [
        ["torch", "80.0 % [75.6, 83.8]", "", "25.1 ms", "31.0 ms", "61"],
        ["ONNX Runtime", "80.0 % [75.6, 83.8]", "16.0 MiB", "9.88 ms", "12.5 ms", "160"],
        ["ONNX Runtime, 8 bits", "78.9 % [74.4, 82.8]", "4.0 MiB", "5.50 ms", "7.25 ms", "250"],
    ]


def test_agreement_temperature_threshold_and_the_paired_difference_are_said() -> None:
    text = words(chapter())
    for part in (
        "On 100.0 % of the 600 images of validation and test",
        "no logit differs by more than 2e-05",
        "sharpened by a temperature of 0.812",
        "Below a probability of 54.3 % it is not sure: the others are right in 95.0 % of cases on validation; of the "
        "test images it answers 75.0 %.",
        "its accuracy on test is \u22121.0 points from that, paired by image [\u22122.0, +0.4]",
    ):
        assert part in text


@pytest.mark.parametrize(("temperature", "says"), [(1.7, "are softened by"), (1.0, "are as it was trained: nothing")])
def test_a_temperature_is_said_to_do_what_it_does(temperature: float, says: str) -> None:
    made = study()
    scores = {**made.metrics["export"], "temperature": temperature}
    section = exported.chapter(replace(made, metrics={**made.metrics, "export": scores}))
    assert f"Its probabilities {says}" in words(section)


def test_where_the_study_computed_in_fewer_bits_and_counted_otherwise_it_is_said() -> None:
    assert "judges the fine-tuned network" not in words(chapter())
    made = study()
    finetune = made.records["finetune"]
    coarse = replace(finetune, facts={**finetune.facts, "precision": "bfloat16"})
    section = exported.chapter(replace(made, records={**made.records, "finetune": coarse}))
    assert (
        "judges the fine-tuned network in bfloat16, where 70.0 % of the test images are right; here 80.0 %."
        in words(section)
    )


@pytest.mark.parametrize(("threshold", "says"), [(None, "it is never sure"), (0.0, "so it is sure of all")])
def test_a_model_that_is_never_or_always_sure_is_said_to_be(threshold: float | None, says: str) -> None:
    assert says in words(chapter(threshold=threshold))


def test_a_refused_copy_says_why_and_is_marked() -> None:
    eight = report.exported()["int8"] | {"accepted": 0}
    section = chapter({"refused": "it loses 9 points"}, int8=eight)
    assert "No copy in 8 bits was kept: it loses 9 points. With it, its accuracy on test is" in words(section)
    assert section.blocks[1].rows["Engine"].tolist()[2] == "ONNX Runtime, 8 bits (refused)"  # type: ignore[union-attr]


def test_where_no_copy_was_made_nothing_is_said_of_one() -> None:
    times = {name: report.TIMES[name] for name in ("torch", "onnx")}
    section = chapter({"times": times, "bytes": {"onnx": 2**20}}, int8=None)
    assert "8 bits" not in words(section)
    assert len(section.blocks[1].rows) == 2  # type: ignore[union-attr]
