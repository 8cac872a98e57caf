"""Train one arm from scratch, once per seed.  `python -m stages.scaling_ablation compound`"""

import sys
from functools import partial

from src.base import artifacts, devices, distributed
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.models import cost, speed
from src.scaling import arms, equations, rates, seeds, training
from src.training import metrics
from src.training.resuming import held
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
COEFFICIENTS = "models/coefficients.json"
PREDICTIONS, RECORD = "data/predictions/scaling_ablation/{arm}.pt", "data/runs/scaling_ablation/{arm}.json"
METRICS, CURVES = "metrics/scaling_ablation/{arm}.json", "plots/scaling_ablation/{arm}.csv"


def main() -> None:
    label = f"scaling_ablation@{' '.join(sys.argv[1:])}"
    noted = given.of(label, distributed.from_leader)
    cfg, record = params.parse(noted.content), Recorder(label, noted.sections)
    name = arms.named(cfg.scaling_arms, sys.argv[1:])
    arm = cfg.scaling_arms[name]
    device = devices.choose(deterministic=cfg.deterministic)
    with tracking.stage(record, cfg) as run, distributed.group(device):
        stored = {split: load_split(path) for split, path in IMAGES.items()}
        classes = stored["train"].classes
        coefficients = equations.coefficients(artifacts.read_json(COEFFICIENTS))
        settings = seeds.overridden(cfg.scaling, arm)
        model = arms.specify(name, arm, settings, cfg.scaling_ablation, coefficients, classes=len(classes))
        load = partial(
            ImageBatches.of, device=device, view=training.view(model.resolution), augment=cfg.augment, seed=0
        )
        splits = {split: load(images) for split, images in stored.items()}
        noted.settle()
        run.given(noted.identity()["files"])
        with held(label, noted.identity(), device) as at:
            seed = cfg.scaling_ablation.seeds[0]
            settings = rates.settled(settings, model, splits, seed=seed, folder=at, label=label)
            record.note(learning_rate=settings.learning_rate)
            runs = seeds.SeedRuns(
                model=model,
                splits=splits,
                settings=settings,
                epochs=arm.epochs or cfg.scaling_ablation.epochs,
                seeds=cfg.scaling_ablation.seeds,
                folder=at,
                label=label,
                on_epoch=noted.watching(run.live()),
            )
            with console.progress(runs.images, "images", label, start=runs.done) as bar:
                results = runs.run(bar.advance)
            labels = {split: splits[split].labels for split in ("val", "test")}
            network = model.build(seed=0)
            costs = cost.describe(network, model.resolution)
            found = {**model.factors, "resolution": model.resolution, **costs, **seeds.summarise(results, labels)}
            found = metrics.headed(name, found)
            with artifacts.together(noted.confirm):
                if distributed.leads():
                    predictions = metrics.collect_predictions(seeds.logits_by_seed(results), labels, classes)
                    artifacts.save(predictions, PREDICTIONS.format(arm=name))
                    artifacts.write_json(found, METRICS.format(arm=name))
                    artifacts.write_csv(seeds.curve_rows(results), CURVES.format(arm=name))
                    images = {split: len(labels[split]) for split in labels}
                    run.metrics(found, **images)
                    for seed, result in results.items():
                        own = seeds.scores(result, labels)
                        run.trial("seed", seed, {"seed": seed}, own, result.curve, **images)
                    record.note(**devices.describe(device), **seeds.describe(results, runs.images_per_seed))
                    measure = partial(speed.measure, classes=len(classes), device=device, precision=settings.precision)
                    record.note(**measure(network, model.resolution, batch_size=settings.batch_size))
                    artifacts.write_json(record.values(), RECORD.format(arm=name))
    console.answer(label, f"{100 * found['test']['accuracy']:.1f} % on test, mean of seeds {[*results]}")


if __name__ == "__main__":
    console.run(main)
