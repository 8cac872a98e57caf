"""`make ui` in a real browser: a row for each experiment, with what it found; its page, and its runs below it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.base import artifacts
from src.interface import params, tracking, tracking_store
from tests.interface.test_tracking import CURVE, ROOT, commit, record

pytestmark = pytest.mark.browser

RATES = {"sample": "0.003", "gentle": "0.001"}
SECONDS = 300.0  # until a page that does not show what it should has failed
ROW = "[col-id] a[href*='/runs/']"


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What `make ui` prints, by what is before it, where two experiments ran."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("PYTHONPATH", str(ROOT))
        for limit in ("SECONDS", "OPENING_SECONDS"):  # this is about what is seen
            patch.setattr(tracking_store, limit, 600.0)
        shutil.copy(ROOT / "params.yaml", "params.yaml")
        baseline = commit(folder)
        for name, rate in RATES.items():
            ran(name, rate, baseline)
        command = (sys.executable, "-m", "tools.ui")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
            assert server.stdout
            try:
                said = []
                while not said or said[-1] != "Ctrl-C ends it\n":
                    said.append(server.stdout.readline())
                    assert said[-1], f"it ended: {said}"
                # a line is folded where it is longer than a terminal
                yield dict(re.findall(r"(\S[^:\n]*):\s+(http\S+)", "".join(said)))
            finally:
                os.killpg(server.pid, signal.SIGKILL)


def ran(name: str, rate: str, baseline: str) -> None:
    """Tell MLflow of an experiment."""
    Path("params.yaml").write_text(re.sub(r"(?m)^lr: \S+", f"lr: {rate}", (ROOT / "params.yaml").read_text()))
    artifacts.write_text(f"<!doctype html><title>Report</title><h1>The page of {name}</h1>", "reports/report.html")
    cfg = params.load("params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_EXP_NAME", name)
        patch.setenv("DVC_EXP_BASELINE_REV", baseline)
        with tracking.stage(record("finetune"), cfg) as run:
            for row in CURVE:
                run.live()(row)
            run.trial("seed", 1, {"seed": 1}, {"test": {"accuracy": 0.5}}, CURVE)
        with tracking.stage(record("report"), cfg) as run:
            found = {"finetuned": 0.875, "gain": 0.25, "test": {"accuracy": 0.875}}
            run.dataset({"source": "here", "source_sha256": None}, {"test": {"images": 200}})
            run.whole({"download": {"test": {"images": 200}}, "finetune": found}, {})


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from tests.builders.chromium import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    opened = chromium.new_page(viewport={"width": 1600, "height": 1200})
    opened.set_default_timeout(1000 * SECONDS)
    yield opened
    opened.close()


def rows(page: Any) -> list[str]:
    """What the runs of the table are called, top to bottom."""
    page.wait_for_selector(ROW)
    return list(page.locator(ROW).all_inner_texts())


def test_the_runs_page_has_a_row_for_each_experiment_and_its_dataset(links: dict[str, str], page: Any) -> None:
    assert links["cifar10"].endswith("/runs?workflowType=machine_learning")
    page.goto(links["cifar10"])
    page.get_by_text("cifar10 (").first.wait_for()
    assert sorted(rows(page)) == sorted(RATES)


def test_the_other_link_shows_what_differs_and_what_was_found(links: dict[str, str], page: Any) -> None:
    page.goto(links["cifar10, with answers"])
    page.get_by_text("answer/finetuned", exact=True).first.wait_for()
    headers = set(page.get_by_role("columnheader").all_inner_texts())
    assert {"lr", "answer/finetuned", "answer/gain"} <= headers
    for value in ("0.875", "0.25", *RATES.values()):
        page.get_by_role("gridcell", name=value, exact=True).first.wait_for()


def test_charts_of_two_experiments_fold_into_sections_with_their_curves(links: dict[str, str], page: Any) -> None:
    page.goto(f"{links['cifar10']}&compareRunsMode=CHART")
    for section in ("answer", "finetune", "finetune/epoch", "finetune/test"):
        page.get_by_text(section, exact=True).first.wait_for()
    count = "name => document.body.innerText.split('\\n').filter(line => line === name).length > 1"  # row and legend
    for name in RATES:
        page.wait_for_function(count, arg=name)


def test_an_experiment_leads_to_its_stages_its_dataset_and_its_page(links: dict[str, str], page: Any) -> None:
    page.goto(links["cifar10"])
    page.locator(ROW, has_text="sample").first.click()
    for text in ("finetune sample", "report sample", "cifar10 (", "dvc exp run -n sample"):
        page.get_by_text(text).first.wait_for()
    page.goto(f"{page.url.partition('?')[0]}/artifacts/reports/report.html")
    inside = page.frame_locator("iframe").get_by_role("heading", name="The page of sample")
    inside.wait_for()
