"""Run each image through the frozen backbone, keep its features.  `python -m stages.extract_features`"""

import time
from functools import partial

from src.base import artifacts, devices, splits
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones, engines
from src.transfer import features
from stages import given

COMPARED = 8  # images on which an engine is compared with torch
SECONDS = 5.0  # between two looks at whether something was edited


def main() -> None:
    noted = given.of("extract_features")
    cfg, record = params.parse(noted.content), Recorder("extract_features", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        network = features.freeze(backbone.network).to(device)
        load = partial(ImageBatches.of, device=device, view=backbone.view, augment=cfg.augment, seed=cfg.seed)
        plan = (
            (load(splits.load_split("data/images/train.pt")), "data/features/train.pt", cfg.features.views),
            (load(splits.load_split("data/images/val.pt")), "data/features/val.pt", 0),
            (load(splits.load_split("data/images/test.pt")), "data/features/test.pt", 0),
        )
        engine = engines.build_engine(network, cfg.inference, next(plan[0][0].clean(COMPARED)))
        total = sum((1 + views) * len(images.labels) for images, _, views in plan)
        record.note(**devices.describe(device), **backbones.describe(cfg.backbone), resolution=backbone.view.resolution)
        noted.settle()
        run.given(noted.identity()["files"])
        start = time.perf_counter()
        with artifacts.together(noted.confirm):
            with console.progress(total, "images", "extract_features") as bar:
                for images, path, views in plan:
                    features.extract(
                        engine.run,
                        images,
                        path,
                        views=views,
                        width=backbone.width,
                        batch_size=cfg.inference.batch_size,
                        advance=noted.watching(bar.advance, seconds=SECONDS),
                    )
            rate = round(total / (time.perf_counter() - start), 1)
            record.note(engine=engine.name, images=total, images_per_second=rate)
            artifacts.write_json(record.values(), "data/runs/extract_features.json")
    console.answer("extract_features", f"{total} views of images kept as features")


if __name__ == "__main__":
    console.run(main)
