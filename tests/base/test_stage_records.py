"""What a stage records of how it ran."""

import sys
import time
from pathlib import Path

import pytest
import torch

from src.base import artifacts, stage_records
from src.base.stage_records import PACKAGES, Recorder


def test_the_record_holds_what_was_noted_what_it_was_set_to_and_the_versions(tmp_path: Path) -> None:
    recorder = Recorder("finetune", {"lr": 0.0021, "finetune": {"epochs": 3, "micro_batch_size": None}})
    time.sleep(0.2)
    recorder.note(images_per_second=123.4, device="cpu")
    artifacts.write_json(recorder.values(), tmp_path / "finetune.json")
    found = stage_records.read(tmp_path / "finetune.json")
    assert (found.stage, found.facts) == ("finetune", {"images_per_second": 123.4, "device": "cpu"})
    assert found.params == {"lr": 0.0021, "finetune": {"epochs": 3, "micro_batch_size": None}}
    assert found.versions["python"] == sys.version.split()[0]
    assert found.versions["torch"] == torch.__version__.split("+")[0]
    assert set(PACKAGES) < set(found.versions)
    assert set(found.conditions) == set(found.versions) | {"images_per_second", "device"}
    assert 0.2 <= found.seconds < 5
    assert found.seconds == round(found.seconds, 1)


def test_what_only_some_networks_come_from_is_named_where_it_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_records, "SOMETIMES", ("pytest", "nothing_here"))
    found = stage_records.versions()
    assert found["pytest"] == pytest.__version__
    assert "nothing_here" not in found


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux's own account")
def test_the_recorded_peak_memory_is_that_of_the_process() -> None:
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert Recorder("finetune", {}).record().peak_memory_mb == pytest.approx(int(peak.split()[1]) / 1024, abs=2)
