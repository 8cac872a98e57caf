"""Classify the cached features without any training.  `python -m stages.baseline`"""

from src import artifacts, baselines, console, devices, metrics, params, tracking
from src.feature_batches import FeatureBatches


def main() -> None:
    cfg = params.load()
    with tracking.stage("baseline", cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        splits = {
            "train": FeatureBatches.load("data/features/train.pt", device, seed=cfg.seed),
            "val": FeatureBatches.load("data/features/val.pt", device, seed=cfg.seed),
            "test": FeatureBatches.load("data/features/test.pt", device, seed=cfg.seed),
        }
        labels = {name: split.labels for name, split in splits.items()}
        logits = baselines.classify(splits, neighbours=cfg.baseline.neighbours, seed=cfg.seed)
        scores = baselines.evaluate(splits, logits, head_seeds=cfg.baseline.head_seeds, seed=cfg.seed)
        artifacts.save(
            metrics.collect_predictions(logits, labels, splits["train"].classes), "data/predictions/baseline.pt"
        )
        artifacts.write_json(scores, "metrics/baseline.json")
        run.metrics(scores)
        run.note(**devices.describe(device))
        artifacts.write_json(run.record(), "data/runs/baseline.json")


if __name__ == "__main__":
    console.run(main)
