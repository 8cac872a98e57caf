"""Train the whole network on images, from the pretrained backbone and the trained head.  `python -m stages.finetune`"""

from functools import partial

from src import artifacts, backbones, console, devices, finetuning, metrics, params, tracking, training
from src.image_batches import ImageBatches


def main() -> None:
    cfg = params.load()
    with tracking.stage("finetune", cfg) as run:
        device = devices.choose()
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        splits = {
            name: ImageBatches.of(split, device, view=backbone.view, augment=cfg.augment, seed=cfg.seed)
            for name, split in (
                ("train", artifacts.load_split("data/images/train.pt")),
                ("val", artifacts.load_split("data/images/val.pt")),
                ("test", artifacts.load_split("data/images/test.pt")),
            )
        }
        classes = splits["train"].classes
        best, weights = artifacts.read_json("models/best_head.json"), artifacts.load("models/frozen_head.pt")
        network = finetuning.assemble(backbone, best, weights, classes=len(classes)).to(device)
        with console.progress(cfg.finetune.epochs * len(splits["train"].labels), "images", "finetune") as bar:
            fitted = training.fit(
                network,
                finetuning.optimizer(network, cfg.finetune, lr=cfg.lr),
                splits["train"],
                splits["val"],
                finetuning.recipe(cfg.finetune),
                seed=cfg.seed,
                advance=bar.advance,
                on_epoch=console.epoch_line("finetune", cfg.finetune.epochs),
            )
        predictions, scores = metrics.evaluate(
            "finetuned", splits, partial(training.predict, network, batch_size=cfg.finetune.batch_size), classes
        )
        scores |= {"best_epoch": fitted.best_epoch}
        artifacts.save(training.weights(network), "models/finetuned.pt")
        artifacts.save(predictions, "data/predictions/finetune.pt")
        artifacts.write_json(scores, "metrics/finetune.json")
        artifacts.write_csv(fitted.curve, "plots/finetune/curves.csv")
        run.curve(fitted.curve)
        run.metrics(scores)
        run.note(**devices.describe(device), images_per_second=round(fitted.images_per_second, 1))
        artifacts.write_json(run.record(), "data/runs/finetune.json")


if __name__ == "__main__":
    console.run(main)
