"""What the stage that audits images and labels left. T x T pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from src.base import artifacts, stage_records
from src.base.stage_records import StageRecord

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AuditResults:
    """As the files have it.

    Attributes:
        metrics: metrics/audit.json.
        run: data/runs/audit.json.
        copies: plots/audit/near_copies.csv.
        labels: plots/audit/doubtful_labels.csv.
        thumbnails: data/audit/thumbnails.pt: `pairs` uint8 (P, 2, 3, T, T) of the rows `pair_rows` of copies, `labels`
            uint8 (L, 3, T, T) of the rows `label_rows` of labels.
    """

    metrics: Json
    run: StageRecord
    copies: pd.DataFrame
    labels: pd.DataFrame
    thumbnails: Mapping[str, Tensor]


def read(*, metrics: str, run: str, copies: str, labels: str, thumbnails: str) -> AuditResults:
    """The five files; class names stay text, whatever they look like."""
    return AuditResults(
        metrics=artifacts.read_json(metrics),
        run=stage_records.read(run),
        copies=_table(copies),
        labels=_table(labels),
        thumbnails=artifacts.load(thumbnails),
    )


def _table(path: str) -> pd.DataFrame:
    words = ("label", "suggested", "first_label", "second_label")
    return pd.read_csv(path, dtype=dict.fromkeys(words, str), keep_default_na=False)
