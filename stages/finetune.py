"""Train the whole network on images, from backbone and trained head.  `python -m stages.finetune`"""

from functools import partial

from src.base import artifacts, devices, distributed
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones
from src.models.heads import Head
from src.models.weights import weights_file
from src.training import fitting, metrics
from src.training.checkpoints import Checkpoints
from src.training.fitting import Session
from src.training.resuming import held
from src.transfer import finetuning, repeats
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
HEAD, HEAD_WEIGHTS = "models/best_head.json", "models/frozen_head.pt"
FROZEN = "metrics/train_frozen.json"  # what fine-tuning gains on


def main() -> None:
    noted = given.of("finetune", distributed.from_leader)
    cfg, record = params.parse(noted.content), Recorder("finetune", noted.sections)
    device = devices.choose(deterministic=cfg.deterministic)
    with tracking.stage(record, cfg) as run, distributed.group(device):
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        view = finetuning.seen(backbone.view, cfg.finetune)
        load = partial(ImageBatches.of, device=device, view=view, augment=cfg.augment, seed=cfg.seed)
        splits = {name: load(load_split(path)) for name, path in IMAGES.items()}
        classes, labels = splits["train"].classes, {name: splits[name].labels for name in repeats.SCORED}
        best, weights = Head(**artifacts.read_json(HEAD)), artifacts.load(HEAD_WEIGHTS)
        build = partial(finetuning.build, backbone, best, weights, cfg.finetune, classes=len(classes), device=device)
        train = partial(finetuning.train, settings=cfg.finetune, lr=cfg.lr, class_weights=cfg.class_weights)
        network = build(seed=cfg.seed)
        noted.settle()
        run.given(noted.identity()["files"])
        with held("finetune", noted.identity(weights_file(cfg.backbone)), device) as folder:
            checkpoints = Checkpoints(folder)
            others = repeats.Repeats(
                build=build,
                train=train,
                splits=splits,
                settings=cfg.finetune,
                seeds=repeats.seeds(cfg.seed, cfg.finetune.repeats)[1:],
                folder=folder,
                on_epoch=noted.watching(run.live()),
            )
            total = cfg.finetune.epochs * len(splits["train"].labels) + others.images
            with console.progress(total, "images", "finetune", start=checkpoints.images + others.done) as bar:
                live = noted.watching(run.live(console.epoch_line("finetune", cfg.finetune.epochs)))
                session = Session(seed=cfg.seed, advance=bar.advance, on_epoch=live, checkpoints=checkpoints)
                fitted = train(network, splits["train"], splits["val"], session=session)
                found = others.run(bar.advance)
            predict = partial(
                fitting.predict, network, batch_size=cfg.finetune.batch_size, precision=cfg.finetune.precision
            )
            predictions, scores = metrics.evaluate("finetuned", splits, predict, classes)
            found = {cfg.seed: repeats.first(fitted, predictions)} | found
            gain = scores["test"]["accuracy"] - artifacts.read_json(FROZEN)["test"]["accuracy"]
            scores |= {"best_epoch": fitted.best_epoch, **repeats.summarise(found, labels)}
            scores = metrics.headed("finetuned", {"gain": gain, **scores})
            with artifacts.together(noted.confirm):
                if distributed.leads():
                    by_seed = metrics.collect_predictions(repeats.logits_by_seed(found), labels, classes)
                    artifacts.save(fitting.weights(network), "models/finetuned.pt")
                    artifacts.save(predictions, "data/predictions/finetune.pt")
                    artifacts.save(by_seed, "data/predictions/finetune_repeats.pt")
                    artifacts.write_json(scores, "metrics/finetune.json")
                    artifacts.write_csv(fitted.curve, "plots/finetune/curves.csv")
                    artifacts.write_csv(repeats.rows(found, labels), "plots/finetune/seeds.csv")
                    run.curve(fitted.curve)
                    images = {name: len(split.labels) for name, split in splits.items()}
                    run.metrics(scores, **images)
                    for seed, own in [*found.items()][1:]:
                        run.trial("seed", seed, {"seed": seed}, repeats.scores(own, labels), own.curve, **images)
                    record.note(**devices.describe(device), **backbones.describe(cfg.backbone), **fitted.machine)
                    record.note(resolution=view.resolution, seeds=list(found))
                    artifacts.write_json(record.values(), "data/runs/finetune.json")
    console.answer("finetune", f"{100 * scores['test']['accuracy']:.1f} % on test, epoch {fitted.best_epoch} kept")


if __name__ == "__main__":
    console.run(main)
