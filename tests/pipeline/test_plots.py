"""DVC's own page of plots: it needs no network, every template that dvc.yaml names is there, and titles are words."""

import json
import re
from configparser import ConfigParser

import pytest
import yaml
from dvc_render.vega_templates import TEMPLATES

from tests.builders.repository import ROOT

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
FOLDER = ROOT / ".dvc/plots"
OWN = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
DECLARED = {
    name: options
    for stage in PIPELINE["stages"].values()
    for entry in stage.get("do", stage).get("plots", [])
    for name, options in entry.items()
} | {name: options for entry in PIPELINE["plots"] for name, options in entry.items()}


def test_dvc_takes_our_page_which_asks_for_nothing_outside() -> None:
    config = ConfigParser()
    config.read(ROOT / ".dvc/config")
    page = (ROOT / ".dvc" / config["plots"]["html_template"]).read_text()
    head, script, body = re.split(r"</?script>", page)
    assert '<meta charset="utf-8">' in head
    assert "window.vegaEmbed=" in script
    assert page.count("{plot_divs}") == body.count("{plot_divs}") == 1
    assert "{scripts}" not in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']""", head + body)


@pytest.mark.parametrize("name", DECLARED)
def test_a_chart_has_a_template_that_there_is_and_words_for_its_title_and_axes(name: str) -> None:
    options = DECLARED[name]
    assert options["template"] in {*OWN, *(each.DEFAULT_NAME for each in TEMPLATES)}
    title = options.get("title", name)
    assert not re.search(r"[/_]|\.csv", title.replace("${key}", ""))
    for axis in "xy":
        assert "_" not in str(options.get(f"{axis}_label", options[axis]))


@pytest.mark.parametrize("name", OWN)
def test_a_template_of_ours_is_used_clips_nothing_and_tells_experiments_apart(name: str) -> None:
    assert name in {options["template"] for options in DECLARED.values()}
    template = OWN[name]
    assert template["mark"]["clip"] is False
    assert template["encoding"]["color"] == "<DVC_METRIC_COLOR>"


def test_trials_seeds_and_candidates_are_points_which_no_line_joins() -> None:
    many = ("tune_head/trials", "tune_head/curves", "scaling_search", "scaling_ablation", "compare_backbones")
    templates = {options["template"] for name, options in DECLARED.items() if any(each in name for each in many)}
    assert templates == {"points", "points_log"}
    assert {OWN[name]["mark"]["type"] for name in templates} == {"point"}
