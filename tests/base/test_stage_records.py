"""What a stage records of how it ran."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from src.base.stage_records import PACKAGES, StageRecord


def test_the_record_holds_what_was_noted_what_it_was_set_to_and_the_versions() -> None:
    record = StageRecord("finetune", {"lr": 0.0021, "finetune": {"epochs": 3, "micro_batch_size": None}})
    time.sleep(0.2)
    record.note(images_per_second=123.4, device="cpu")
    found = json.loads(json.dumps(record.values()))
    assert {"stage": "finetune", "images_per_second": 123.4, "device": "cpu"}.items() <= found.items()
    assert found["params"] == {"lr": 0.0021, "finetune": {"epochs": 3, "micro_batch_size": None}}
    assert found["python"] == sys.version.split()[0]
    assert found["torch"] == torch.__version__.split("+")[0]
    assert set(PACKAGES) < set(found)
    assert 0.2 <= found["seconds"] < 5
    assert found["seconds"] == round(found["seconds"], 1)


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux's own account")
def test_the_recorded_peak_memory_is_that_of_the_process() -> None:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert StageRecord("finetune", {}).values()["peak_memory_mb"] == pytest.approx(int(peak.split()[1]) / 1024, abs=2)
