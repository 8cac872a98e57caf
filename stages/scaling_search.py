"""Search for the way to scale, judged on validation.  `python -m stages.scaling_search`"""

from functools import partial

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.images.image_batches import ImageBatches
from src.interface import console, params, tracking
from src.scaling import choosing, grid, networks, rates, search, training
from src.training import resuming
from src.training.fitting import Session
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt"}


def main() -> None:
    noted = given.of("scaling_search")
    cfg, record = params.parse(noted.content), Recorder("scaling_search", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        seen = training.view(cfg.scaling.base_resolution)
        load = partial(ImageBatches.of, device=device, view=seen, augment=cfg.augment, seed=cfg.seed)
        splits = {name: load(load_split(path)) for name, path in IMAGES.items()}
        classes = len(splits["train"].classes)
        candidates = grid.candidates(cfg.scaling_search, cfg.scaling, classes=classes)
        models = search.models(candidates, cfg.scaling, classes=classes)
        rows = search.table(candidates, models)
        noted.settle()
        run.given(noted.identity()["files"])
        with resuming.held("scaling_search", noted.identity(), device) as folder:
            if cfg.scaling_search.epochs:
                base = networks.baseline(cfg.scaling, classes=classes)  # whose rate all candidates take
                settings = rates.settled(
                    cfg.scaling, base, splits, seed=cfg.seed, folder=folder, label="scaling_search"
                )
                each = cfg.scaling_search.epochs * len(splits["train"].labels)
                done = each * len(search.finished(folder))
                with console.progress(each * len(rows), "images", "scaling_search", start=done) as bar:
                    scores = search.train_candidates(
                        models,
                        splits,
                        settings,
                        epochs=cfg.scaling_search.epochs,
                        folder=folder,
                        session=Session(seed=cfg.seed, advance=bar.advance, on_epoch=noted.watching(run.live())),
                    )
                rows = [row | score for row, score in zip(rows, scores, strict=True)]
            images, chance = len(splits["val"].labels), search.chance(splits)
            found = choosing.chosen(rows, images=images, chance=chance)
            summary = choosing.summarise(rows, found, images=images)
            with artifacts.together(noted.confirm):
                artifacts.write_json(found, "models/coefficients.json")
                artifacts.write_json(summary, "metrics/scaling_search.json")
                artifacts.write_csv(rows, "plots/scaling_search/candidates.csv")
                for number, row in enumerate(rows):
                    factors = {name: row.pop(name) for name in ("alpha", "beta", "gamma")}
                    val = {key.removeprefix("val_"): row.pop(key) for key in [*row] if key.startswith("val_")}
                    run.trial("candidate", number, factors, row | {"val": val}, val=images)
                run.metrics(summary, val=images)
                record.note(**devices.describe(device))
                artifacts.write_json(record.values(), "data/runs/scaling_search.json")
    coefficients = ", ".join(f"{name} {found[name]:g}" for name in ("alpha", "beta", "gamma"))
    console.answer("scaling_search", f"{coefficients}, chosen by {found['chosen_by']}")


if __name__ == "__main__":
    console.run(main)
