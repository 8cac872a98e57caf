"""Train one arm of the scaling study from scratch, once per seed.  `python -m stages.scaling_ablation compound`"""

import sys
from functools import partial

from src import arms, artifacts, console, cost, devices, distributed, metrics, params, scaling_search, tracking
from src import scratch_training as training
from src.image_batches import ImageBatches
from src.resuming import held

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
COEFFICIENTS = "models/coefficients.json"
PREDICTIONS, RECORD = "data/predictions/scaling_ablation/{arm}.pt", "data/runs/scaling_ablation/{arm}.json"
METRICS, CURVES = "metrics/scaling_ablation/{arm}.json", "plots/scaling_ablation/{arm}.csv"


def main() -> None:
    cfg = params.load()
    name = arms.named(cfg.scaling_arms, sys.argv[1:])
    arm, label = cfg.scaling_arms[name], f"scaling_ablation@{name}"
    device = devices.choose(deterministic=cfg.deterministic)
    with tracking.stage(label, cfg) as run, distributed.group(device):
        stored = {split: artifacts.load_split(path) for split, path in IMAGES.items()}
        classes = stored["train"].classes
        coefficients = scaling_search.coefficients(artifacts.read_json(COEFFICIENTS))
        settings = training.overridden(cfg.scaling, arm)
        model = arms.specify(name, arm, settings, cfg.scaling_ablation, coefficients, classes=len(classes))
        load = partial(
            ImageBatches.of, device=device, view=training.view(model.resolution), augment=cfg.augment, seed=0
        )
        splits = {split: load(images) for split, images in stored.items()}
        sections = {"augment": cfg.augment, "scaling": settings, "scaling_ablation": cfg.scaling_ablation, "arm": arm}
        with held(
            label, {"deterministic": cfg.deterministic} | sections, [*IMAGES.values(), COEFFICIENTS], device
        ) as at:
            runs = training.SeedRuns(
                model=model,
                splits=splits,
                settings=settings,
                epochs=arm.epochs or cfg.scaling_ablation.epochs,
                seeds=cfg.scaling_ablation.seeds,
                folder=at,
                label=label,
            )
            with console.progress(runs.images, "images", label, start=runs.done) as bar:
                results = runs.run(bar.advance)
            labels = {split: splits[split].labels for split in ("val", "test")}
            network = model.build(seed=0)
            costs = cost.describe(network, model.resolution)
            found = {**model.factors, "resolution": model.resolution, **costs, **training.summarise(results, labels)}
            if distributed.leads():
                predictions = metrics.collect_predictions(training.logits_by_seed(results), labels, classes)
                artifacts.save(predictions, PREDICTIONS.format(arm=name))
                artifacts.write_json(found, METRICS.format(arm=name))
                artifacts.write_csv(training.curve_rows(results), CURVES.format(arm=name))
                run.metrics(found)
                for seed, result in results.items():
                    run.trial(seed, {"seed": seed}, {"best_epoch": result["best_epoch"]}, result["curve"])
                run.note(**devices.describe(device), **training.describe(results, runs.images_per_seed))
                measure = partial(cost.measure, classes=len(classes), device=device, precision=settings.precision)
                run.note(**measure(network, model.resolution, batch_size=settings.batch_size))
                artifacts.write_json(run.record(), RECORD.format(arm=name))


if __name__ == "__main__":
    console.run(main)
