"""The model's card: a header that is YAML, Hugging Face's sections, and the numbers of the study."""

import re
from dataclasses import replace

import pytest
import yaml

from src.evidence import answers
from src.report import card
from src.report.numbers import interval
from tests.builders.report import NAMES, plain, study

SECTIONS = (  # of huggingface_hub's template, but what nobody here knows
    *("Model Details", "Uses", "Bias, Risks, and Limitations", "How to Get Started with the Model"),
    *("Training Details", "Evaluation"),
)


def parts(text: str) -> tuple[dict[str, object], str]:
    start, header, rest = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(header), rest


def test_the_header_is_what_a_hub_reads() -> None:
    header, _ = parts(card.card(study()))
    assert header["pipeline_tag"] == "image-classification"
    assert re.fullmatch(r"[a-z0-9.-]+", str(header["license_name"]))
    (entry,) = header["model-index"]  # type: ignore[misc]
    (result,) = entry["results"]
    assert result["dataset"] == {"type": "uoft-cs/cifar10", "name": "cifar10", "split": "test"}
    assert result["metrics"][0]["value"] == study().metrics["export"]["test"]["accuracy"], (
        "of the file that it describes"
    )


def test_the_sections_are_those_of_the_template_and_the_weakest_classes_those_counted() -> None:
    made = study()
    _, text = parts(card.card(made))
    assert tuple(line[3:] for line in text.splitlines() if line.startswith("## ")) == SECTIONS
    rows = answers.accuracy_per_class(made.answers, "finetuned").sort_values("accuracy", kind="stable")
    for row in rows.head(5).to_dict("records"):
        assert f"| {row['class']} | {row['images']} | {plain(interval(row))} |" in plain(text)
    assert "of the test images 75.0 % are answered" in plain(text)
    assert "| ONNX Runtime, 8 bits |" in text
    assert "| Terms | MIT; CIFAR-10: none |" in text


def test_images_of_ones_own_are_no_dataset_of_a_hub() -> None:
    made = study()
    folder = replace(made.settings["dataset"], name="folder", source="/photos/birds.zip")
    header, text = parts(card.card(replace(made, settings={**made.settings, "dataset": folder})))
    assert "for an image like those of the folder that it was trained on" in text
    assert "datasets" not in header
    assert header["model-index"][0]["name"] == "EfficientNet on birds"  # type: ignore[index]


@pytest.mark.parametrize("name", ["a: b", "- x", '"q"', "名前", "#", "null"])
def test_no_title_or_class_breaks_the_header(name: str) -> None:
    classes = (name, *NAMES[1:])
    made = study(classes, report=type(study().settings["report"])(title=name))
    header, text = parts(card.card(made))
    assert header["model-index"][0]["name"] == name  # type: ignore[index]
    assert "## Model Details" in text


def test_a_copy_that_was_refused_has_no_size() -> None:
    made = study()
    facts = {**made.records["export"].facts, "refused": "it loses 21 points"}
    refused = replace(made.records["export"], facts=facts)
    _, text = parts(card.card(replace(made, records={**made.records, "export": refused})))
    assert "| Sizes | onnx 16.0 MiB |" in plain(text)
    assert "| Sizes | onnx 16.0 MiB, int8 4.0 MiB |" in plain(parts(card.card(made))[1])
