"""Two experiments of the sample as a person looks at them: DVC's tables and charts, and their comparison."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.builders.repository import Repository, ran
from tests.pipeline.test_stages import PIPELINE, STAGES, metrics


def test_another_lr_reruns_fine_tuning_what_reads_it_and_the_report_alone(sample: Repository, gentle: str) -> None:
    assert ran(gentle) == ["finetune", "average_flips", "explain", "evidence", "export", "report"]
    diff = json.loads(sample.run("dvc", "metrics", "diff", "sample", "gentle", "--json").stdout)
    assert set(diff) == {"metrics/finetune.json", "metrics/evidence.json", "metrics/export.json"}
    assert "test.accuracy" in diff["metrics/finetune.json"]


def test_plots_of_two_experiments_are_drawn_in_one_page(sample: Repository, gentle: str, tmp_path: Path) -> None:
    assert gentle
    sample.run("dvc", "plots", "diff", "sample", "gentle", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for name in ("Whole network: accuracy", "Whole network: learning rate", "Whole network: test images"):
        assert f'"{name}"' in page


@pytest.fixture(scope="session")
def compared(sample: Repository, gentle: str) -> dict[str, Any]:
    """What `make compare` prints as JSON of the two, with the page that it wrote, which is then gone."""
    assert gentle
    values = json.loads(sample.run("python", "-m", "stages.compare", "sample", "gentle", "--json").stdout)
    page = sample.folder / values["page"]
    values["html"] = page.read_text()
    page.unlink()
    return values


def test_the_comparison_of_two_experiments_is_what_their_predictions_say(
    sample: Repository, compared: dict[str, Any]
) -> None:
    from scipy.stats import binomtest

    from src.base import artifacts

    assert [(each["name"], each["sides"]["gentle"]) for each in compared["parameters"]] == [("lr", "0.001")]
    assert (compared["code"], compared["data"], compared["versions"], compared["warnings"]) == ([], [], [], [])
    (pairing,) = compared["comparisons"]
    assert {row["stage"] for row in pairing["metrics"]} == {"finetune", "evidence", "export"}
    row = next(row for row in pairing["metrics"] if (row["stage"], row["metric"]) == ("finetune", "test.accuracy"))
    assert row["first"] == metrics(sample, "finetune")["test"]["accuracy"]
    assert row["p_value"] == pytest.approx(
        binomtest(row["first_alone"], row["first_alone"] + row["second_alone"]).pvalue
    )
    stored = artifacts.load(sample.folder / "data/predictions/finetune.pt")  # the workspace is the sample
    right = (stored["logits"]["finetuned"].argmax(1) == stored["label"])[stored["split"] == 2]
    assert right[pairing["flipped"]["lost"]].all()
    assert not right[pairing["flipped"]["gained"]].any()
    assert row["low"] <= row["difference"] == pytest.approx(row["second"] - row["first"])
    assert "data:image/png;base64," in compared["html"]


def test_a_revision_without_results_is_refused_in_one_line(sample: Repository) -> None:
    done = sample.start("python", "-m", "stages.compare", "sample", "HEAD")
    (line,) = done.communicate()[0].splitlines()
    assert line.startswith("compare: HEAD has no results: no dvc.lock is committed there; allowed: ")
    assert done.returncode == 2


def test_all_experiments_and_their_answers_fit_80_columns(sample: Repository, gentle: str) -> None:
    assert gentle
    shown = re.search(r"^SHOWN := (.*)$", (sample.folder / "Makefile").read_text(), re.MULTILINE)
    assert shown
    options = (
        "--hide-workspace",
        "--no-pager",
        "--precision",
        "3",
        "--drop",
        ".*",
        "--keep",
        shown[1].replace("$$", "$"),
    )
    text = sample.run("dvc", "exp", "show", *options, COLUMNS="80").stdout
    assert max(map(len, text.splitlines())) <= 80
    for word in ("sample", "gentle", "0.001", "lr", "frozen", "finetuned", "gain", "compound"):
        assert word in text


@pytest.mark.parametrize("stage", [stage for stage in STAGES if PIPELINE[stage.partition("@")[0]].get("metrics")])
def test_metrics_open_with_a_name_that_no_other_stage_has(sample: Repository, stage: str) -> None:
    first, value = next(iter(metrics(sample, stage).items()))
    others = [other for other in STAGES if other != stage and PIPELINE[other.partition("@")[0]].get("metrics")]
    assert not isinstance(value, dict)
    assert [other for other in others if not isinstance(metrics(sample, other).get(first, {}), dict)] == []


def test_fine_tuning_gains_on_the_frozen_backbone(sample: Repository) -> None:
    tuned, frozen = metrics(sample, "finetune"), metrics(sample, "train_frozen")
    assert (tuned["finetuned"], frozen["frozen"]) == (tuned["test"]["accuracy"], frozen["test"]["accuracy"])
    assert tuned["gain"] == tuned["finetuned"] - frozen["frozen"]
