"""Probe one backbone's frozen features.  `python -m stages.compare_backbones lite0_224`"""

import sys
import time
from functools import partial

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import backbones, cost, engines, pretraining
from src.training import metrics
from src.transfer import comparing, features
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
PREDICTIONS, RECORD = "data/predictions/compare_backbones/{key}.pt", "data/runs/compare_backbones/{key}.json"
METRICS, PATH = "metrics/compare_backbones/{key}.json", "plots/compare_backbones/{key}.csv"
COMPARED = 8  # images on which an engine is compared with torch
SECONDS = 5.0  # between two looks at whether something was edited


def main() -> None:
    label = f"compare_backbones@{' '.join(sys.argv[1:])}"
    noted = given.of(label)
    cfg, record = params.parse(noted.content), Recorder(label, noted.sections)
    key = comparing.named(cfg.compared_backbones, sys.argv[1:])
    settings, section = cfg.compared_backbones[key], f"compared_backbones.{key}"
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        backbone = backbones.load_backbone(settings, seed=cfg.seed, section=section)
        stored = {split: load_split(path) for split, path in IMAGES.items()}
        stored["train"] = comparing.limited(stored["train"], cfg.comparison, seed=cfg.seed)
        absent = comparing.warn_of_absent(stored, label)
        view = backbone.view
        network = features.freeze(backbone.network).to(device)
        load = partial(ImageBatches.of, device=device, view=view, augment=None, seed=cfg.seed)
        splits = {split: load(images) for split, images in stored.items()}
        engine = engines.build_engine(network, cfg.inference, next(splits["train"].clean(COMPARED)))
        record.note(**devices.describe(device), **backbones.describe(settings), engine=engine.name)
        record.note(pretraining=pretraining.trained_on(settings))
        noted.settle()
        total, start = sum(len(images.labels) for images in splits.values()), time.perf_counter()
        with console.progress(total, "images", label) as bar:
            found = comparing.extract(
                engine.run,
                splits,
                width=backbone.width,
                batch_size=cfg.inference.batch_size,
                section=section,
                advance=noted.watching(bar.advance, seconds=SECONDS),
            )
        extracted = time.perf_counter()
        probed = comparing.probe(found, cfg.comparison, device, label=label)
        probe_seconds = time.perf_counter() - extracted
        scores = {
            "resolution": view.resolution,
            "parameters": cost.parameters(network),
            "multiply_adds": cost.products(network, view.resolution),
            "features": backbone.width,
            **comparing.scores(probed, found.labels),
        }
        scores = metrics.headed(key, scores)
        with artifacts.together(noted.confirm):
            artifacts.save(comparing.predictions(probed, found), PREDICTIONS.format(key=key))
            artifacts.write_json(scores, METRICS.format(key=key))
            artifacts.write_csv(probed.path, PATH.format(key=key))
            run.metrics(scores)
            record.note(images=total, images_per_second=round(total / (extracted - start), 1))
            record.note(train_images=len(found.labels["train"]), absent=absent, unconverged=probed.unconverged)
            record.note(extraction_seconds=round(extracted - start, 2), probe_seconds=round(probe_seconds, 2))
            artifacts.write_json(record.values(), RECORD.format(key=key))
    console.answer(label, f"{100 * scores['test']['accuracy']:.1f} % on test by a linear probe")


if __name__ == "__main__":
    console.run(main)
