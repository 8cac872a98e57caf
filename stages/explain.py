"""Ask what the network looks at, and what it was shown in training.  `python -m stages.explain`"""

from dataclasses import replace
from functools import partial

import torch

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.evidence import examples
from src.images import showing
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones
from src.models.heads import Head
from src.training import fitting
from src.transfer import finetuning, flips, occlusion
from stages import given

EXPLAINED, SHOWN = 12, 16  # images: right and wrong ones each; of the augmented batch


def main() -> None:
    noted = given.of("explain")
    cfg, record = params.parse(noted.content), Recorder("explain", noted.sections)
    device = devices.choose(deterministic=cfg.deterministic)
    with tracking.stage(record, cfg) as run:
        train, test = load_split("data/images/train.pt"), load_split("data/images/test.pt")
        best, state = Head(**artifacts.read_json("models/best_head.json")), artifacts.load("models/finetuned.pt")
        said = examples.named_on_test(artifacts.load("data/predictions/finetune.pt"), "finetuned")
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        view = finetuning.seen(backbone.view, cfg.finetune)
        network = flips.restored(backbone, best, state, classes=len(test.classes)).to(device)
        noted.settle()
        run.given(noted.identity()["files"])
        chosen = examples.to_explain(said, EXPLAINED)
        places, named = (torch.tensor(chosen[name].tolist()) for name in ("index", "named"))
        subset = replace(test, images=test.images[places], labels=test.labels[places])
        batches = ImageBatches.of(subset, device, view=view, augment=None, seed=cfg.seed, host=False)
        ask = partial(fitting.predict, network, batch_size=cfg.finetune.batch_size, precision=cfg.finetune.precision)
        maps = occlusion.occlusion_maps(
            lambda images: ask(replace(batches, images=images.to(device))).cpu(), subset.images, named
        )
        of_training = ImageBatches.of(train, device, view=view, augment=cfg.augment, seed=cfg.seed)
        inputs, labels = next(of_training.shuffled(1, SHOWN))
        found = {
            **{"index": places, "maps": maps},
            **{"batch": showing.shown(inputs, view).cpu(), "batch_labels": labels.cpu()},
        }
        with artifacts.together(noted.confirm):
            artifacts.save(found, "data/explain/pictures.pt")
            record.note(**devices.describe(device))
            artifacts.write_json(record.values(), "data/runs/explain.json")
    wrong = int((chosen["actual"] != chosen["named"]).sum())
    console.answer("explain", f"{len(chosen)} images of test, {wrong} of them named wrong")


if __name__ == "__main__":
    console.run(main)
