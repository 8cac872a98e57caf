"""Classify the cached features without any training.  `python -m stages.baseline`"""

from src.base import artifacts, devices
from src.base.stage_records import Recorder
from src.interface import console, params, tracking
from src.training import metrics
from src.transfer import baselines
from src.transfer.feature_batches import FeatureBatches
from stages import given


def main() -> None:
    noted = given.of("baseline")
    cfg, record = params.parse(noted.content), Recorder("baseline", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        splits = {
            "train": FeatureBatches.load("data/features/train.pt", device, seed=cfg.seed),
            "val": FeatureBatches.load("data/features/val.pt", device, seed=cfg.seed),
            "test": FeatureBatches.load("data/features/test.pt", device, seed=cfg.seed),
        }
        noted.settle()
        run.given(noted.identity()["files"])
        labels = {name: split.labels for name, split in splits.items()}
        logits = baselines.classify(splits, neighbours=cfg.baseline.neighbours, seed=cfg.seed)
        scores = baselines.evaluate(splits, logits, head_seeds=cfg.baseline.head_seeds, seed=cfg.seed)
        predictions = metrics.collect_predictions(logits, labels, splits["train"].classes)
        with artifacts.together(noted.confirm):
            artifacts.save(predictions, "data/predictions/baseline.pt")
            answer = scores["test"]["nearest_neighbours"]
            artifacts.write_json({"neighbours": answer, **scores}, "metrics/baseline.json")
            run.metrics(scores, **{name: len(of_split) for name, of_split in labels.items()})
            record.note(**devices.describe(device))
            artifacts.write_json(record.values(), "data/runs/baseline.json")
    console.answer("baseline", f"{100 * scores['test']['nearest_neighbours']:.1f} % on test by nearest neighbours")


if __name__ == "__main__":
    console.run(main)
