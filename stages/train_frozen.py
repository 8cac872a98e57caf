"""Train the best head on the cached features of a frozen backbone.  `python -m stages.train_frozen`"""

from functools import partial

from src import artifacts, console, devices, head_training, metrics, params, resuming, tracking, training
from src.checkpoints import Checkpoints
from src.feature_batches import FeatureBatches


def main() -> None:
    cfg = params.load()
    with tracking.stage("train_frozen", cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        train = FeatureBatches.load("data/features/train.pt", device, seed=cfg.seed)
        val = FeatureBatches.load("data/features/val.pt", device, seed=cfg.seed)
        settings = {"seed": cfg.seed, "deterministic": cfg.deterministic, "train_frozen": cfg.train_frozen}
        inputs = ["models/best_head.json", "data/features/train.pt", "data/features/val.pt"]
        with resuming.held("train_frozen", settings, inputs, device) as folder:
            checkpoints = Checkpoints(folder)
            total = cfg.train_frozen.epochs * len(train.labels)
            with console.progress(total, "images", "train_frozen", start=checkpoints.images) as bar:
                head, fitted = head_training.fit_head(
                    artifacts.read_json("models/best_head.json"),
                    train,
                    val,
                    epochs=cfg.train_frozen.epochs,
                    batch_size=cfg.train_frozen.batch_size,
                    seed=cfg.seed,
                    advance=bar.advance,
                    on_epoch=console.epoch_line("train_frozen", cfg.train_frozen.epochs),
                    checkpoints=checkpoints,
                )
        splits = {
            "train": train,
            "val": val,
            "test": FeatureBatches.load("data/features/test.pt", device, seed=cfg.seed),
        }
        predictions, scores = metrics.evaluate(
            "frozen", splits, partial(training.predict, head, batch_size=cfg.train_frozen.batch_size), train.classes
        )
        scores |= {"best_epoch": fitted.best_epoch}
        artifacts.save(training.weights(head), "models/frozen_head.pt")
        artifacts.save(predictions, "data/predictions/train_frozen.pt")
        artifacts.write_json(scores, "metrics/train_frozen.json")
        artifacts.write_csv(fitted.curve, "plots/train_frozen/curves.csv")
        run.curve(fitted.curve)
        run.metrics(scores)
        run.note(**devices.describe(device), **fitted.machine)
        artifacts.write_json(run.record(), "data/runs/train_frozen.json")


if __name__ == "__main__":
    console.run(main)
