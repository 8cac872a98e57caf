"""What the stage that counts images left."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from src.base import artifacts, stage_records
from src.base.stage_records import StageRecord


@dataclass(frozen=True, kw_only=True)
class DataEfficiencyResults:
    """As the files have it.

    Attributes:
        metrics: metrics/data_efficiency.json.
        run: data/runs/data_efficiency.json.
        probes, rungs: plots/data_efficiency/probes.csv and rungs.csv.
    """

    metrics: Mapping[str, Any]
    run: StageRecord
    probes: pd.DataFrame
    rungs: pd.DataFrame


def read(*, metrics: str, run: str, probes: str, rungs: str) -> DataEfficiencyResults:
    return DataEfficiencyResults(
        metrics=artifacts.read_json(metrics),
        run=stage_records.read(run),
        probes=pd.read_csv(probes),
        rungs=pd.read_csv(rungs),
    )
