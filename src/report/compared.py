"""What the stages that compare backbones left, of the entries that params name and of no others. N images."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.base import artifacts, stage_records
from src.base.splits import SPLITS
from src.base.stage_records import StageRecord
from src.evidence import paired
from src.evidence.paired import Difference, Right

Json = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ComparisonResults:
    """By entry, in the order of params; empty where there are none.

    Attributes:
        metrics: metrics/compare_backbones/<key>.json.
        runs: data/runs/compare_backbones/<key>.json.
        right: bool (N,): which test images the probe names right.
    """

    metrics: Mapping[str, Json]
    runs: Mapping[str, StageRecord]
    right: Mapping[str, Right]

    @property
    def keys(self) -> list[str]:
        return list(self.metrics)

    @property
    def stage_metrics(self) -> dict[str, Json]:
        """By stage; none without entries."""
        return {"compare_backbones": self.metrics} if self.metrics else {}

    @property
    def stage_runs(self) -> dict[str, StageRecord]:
        """By stage, as DVC names them."""
        return {f"compare_backbones@{key}": run for key, run in self.runs.items()}

    @property
    def best(self) -> str:
        """The most accurate entry on validation; of equals, the cheapest."""
        return max(
            self.keys, key=lambda key: (self.metrics[key]["val"]["accuracy"], -self.metrics[key]["multiply_adds"])
        )

    def differences(self) -> Sequence[Difference]:
        """Every pair, on test."""
        return paired.compare(self.right)


def read(keys: Iterable[str], *, metrics: str, runs: str, predictions: str) -> ComparisonResults:
    """Read the files of the entries `keys`, which lie in three folders.

    Raises:
        ValueError: they are not about the same images.
    """
    keys = list(keys)
    stored = {key: artifacts.load(f"{predictions}/{key}.pt") for key in keys}
    for key in keys[1:]:
        if not stored[key]["label"].equal(stored[keys[0]]["label"]):
            raise ValueError(
                f"data/predictions/compare_backbones: {key} and {keys[0]} are about different images; "
                "`dvc repro -f compare_backbones` makes all again"
            )
    return ComparisonResults(
        metrics={key: artifacts.read_json(f"{metrics}/{key}.json") for key in keys},
        runs={key: stage_records.read(f"{runs}/{key}.json") for key in keys},
        right={key: _right(each) for key, each in stored.items()},
    )


def _right(predictions: Json) -> Right:
    on_test = predictions["split"] == SPLITS.index("test")
    named = predictions["logits"]["probe"][on_test].argmax(dim=1) == predictions["label"][on_test]
    right: Right = named.numpy()
    return right
