"""Ask the fine-tuned network about mirrored images, too.  `python -m stages.average_flips`"""

from functools import partial

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones
from src.models.heads import Head
from src.training import metrics
from src.transfer import finetuning, flips
from stages import given

IMAGES = {"val": "data/images/val.pt", "test": "data/images/test.pt"}


def main() -> None:
    noted = given.of("average_flips")
    cfg, record = params.parse(noted.content), Recorder("average_flips", noted.sections)
    device = devices.choose(deterministic=cfg.deterministic)
    with tracking.stage(record, cfg) as run:
        stored = {name: load_split(path) for name, path in IMAGES.items()}
        classes = stored["test"].classes
        best, state = Head(**artifacts.read_json("models/best_head.json")), artifacts.load("models/finetuned.pt")
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        view = finetuning.seen(backbone.view, cfg.finetune)
        network = flips.restored(backbone, best, state, classes=len(classes)).to(device)
        noted.settle()
        run.given(noted.identity()["files"])
        load = partial(ImageBatches.of, device=device, view=view, augment=None, seed=cfg.seed)
        splits = {name: load(split) for name, split in stored.items()}
        labels = {name: split.labels for name, split in splits.items()}
        logits = {}
        if cfg.augment.flip:
            by_split = {name: flips.averaged(network, split, cfg.finetune) for name, split in splits.items()}
            logits["flipped"] = by_split
        predictions = metrics.collect_predictions(logits, labels, classes)
        with artifacts.together(noted.confirm):
            artifacts.save(predictions, "data/predictions/flips.pt")
            record.note(**devices.describe(device))
            artifacts.write_json(record.values(), "data/runs/average_flips.json")
    if not logits:
        console.answer("average_flips", "left out, as training mirrored no image (augment.flip)")
        return
    reached = metrics.score(logits["flipped"]["test"], labels["test"])["accuracy"]
    console.answer("average_flips", f"{100 * reached:.1f} % on test, with mirrored images")


if __name__ == "__main__":
    console.run(main)
