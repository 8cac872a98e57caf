"""Train the best head on the cached features of a frozen backbone.  `python -m stages.train_frozen`"""

from functools import partial

from src.base import artifacts, devices
from src.base.stage_records import Recorder
from src.interface import console, params, tracking
from src.models.heads import Head
from src.training import fitting, metrics, resuming
from src.training.checkpoints import Checkpoints
from src.training.fitting import Session
from src.transfer import head_training
from src.transfer.feature_batches import FeatureBatches
from stages import given


def main() -> None:
    noted = given.of("train_frozen")
    cfg, record = params.parse(noted.content), Recorder("train_frozen", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        splits = {
            "train": FeatureBatches.load("data/features/train.pt", device, seed=cfg.seed),
            "val": FeatureBatches.load("data/features/val.pt", device, seed=cfg.seed),
            "test": FeatureBatches.load("data/features/test.pt", device, seed=cfg.seed),
        }
        classes, best = splits["train"].classes, Head(**artifacts.read_json("models/best_head.json"))
        noted.settle()
        run.given(noted.identity()["files"])
        with resuming.held("train_frozen", noted.identity(), device) as folder:
            checkpoints = Checkpoints(folder)
            total = cfg.train_frozen.epochs * len(splits["train"].labels)
            with console.progress(total, "images", "train_frozen", start=checkpoints.images) as bar:
                head, fitted = head_training.fit_head(
                    best,
                    splits["train"],
                    splits["val"],
                    epochs=cfg.train_frozen.epochs,
                    batch_size=cfg.train_frozen.batch_size,
                    class_weights=cfg.class_weights,
                    session=Session(
                        seed=cfg.seed,
                        advance=bar.advance,
                        on_epoch=noted.watching(run.live(console.epoch_line("train_frozen", cfg.train_frozen.epochs))),
                        checkpoints=checkpoints,
                    ),
                )
            predict = partial(fitting.predict, head, batch_size=cfg.train_frozen.batch_size)
            predictions, scores = metrics.evaluate("frozen", splits, predict, classes)
            scores = metrics.headed("frozen", scores | {"best_epoch": fitted.best_epoch})
            with artifacts.together(noted.confirm):
                artifacts.save(fitting.weights(head), "models/frozen_head.pt")
                artifacts.save(predictions, "data/predictions/train_frozen.pt")
                artifacts.write_json(scores, "metrics/train_frozen.json")
                artifacts.write_csv(fitted.curve, "plots/train_frozen/curves.csv")
                run.curve(fitted.curve)
                run.metrics(scores, **{name: len(split.labels) for name, split in splits.items()})
                record.note(**devices.describe(device), **fitted.machine)
                artifacts.write_json(record.values(), "data/runs/train_frozen.json")
    kept = f"epoch {fitted.best_epoch} kept"
    console.answer("train_frozen", f"{100 * scores['test']['accuracy']:.1f} % on test, {kept}")


if __name__ == "__main__":
    console.run(main)
