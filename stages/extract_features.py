"""Run every image through the frozen backbone once, and keep its features.  `python -m stages.extract_features`"""

import time

from src.base import artifacts, devices, splits
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones
from src.transfer import features
from stages import given

SECONDS = 5.0  # between two looks at whether something was edited


def main() -> None:
    noted = given.of("extract_features")
    cfg, record = params.parse(noted.content), Recorder("extract_features", noted.sections)
    with tracking.stage(record, cfg):
        device = devices.choose(deterministic=cfg.deterministic)
        backbone = backbones.load_backbone(cfg.backbone, seed=cfg.seed)
        network = features.freeze(backbone.network).to(device)
        plan = (
            (splits.load_split("data/images/train.pt"), "data/features/train.pt", cfg.features.views),
            (splits.load_split("data/images/val.pt"), "data/features/val.pt", 0),
            (splits.load_split("data/images/test.pt"), "data/features/test.pt", 0),
        )
        total = sum((1 + views) * len(split.labels) for split, _, views in plan)
        record.note(**devices.describe(device), **backbones.describe(cfg.backbone), resolution=backbone.view.resolution)
        noted.settle()
        start = time.perf_counter()
        with artifacts.together(noted.confirm):
            with console.progress(total, "images", "extract_features") as bar:
                for split, path, views in plan:
                    features.extract(
                        network,
                        ImageBatches.of(split, device, view=backbone.view, augment=cfg.augment, seed=cfg.seed),
                        path,
                        views=views,
                        width=backbone.width,
                        batch_size=cfg.features.batch_size,
                        advance=noted.watching(bar.advance, seconds=SECONDS),
                        precision=cfg.features.precision,
                    )
            record.note(images=total, images_per_second=round(total / (time.perf_counter() - start), 1))
            artifacts.write_json(record.values(), "data/runs/extract_features.json")


if __name__ == "__main__":
    console.run(main)
