"""Fit a linear probe on ever more of the training images.  `python -m stages.data_efficiency`"""

from src.base import artifacts, devices
from src.base.stage_records import Recorder
from src.evidence import data_efficiency
from src.interface import console, params, tracking
from stages import given

FEATURES = {"train": "data/features/train.pt", "val": "data/features/val.pt", "test": "data/features/test.pt"}


def main() -> None:
    noted = given.of("data_efficiency")
    cfg, record = params.parse(noted.content), Recorder("data_efficiency", noted.sections)
    settings = cfg.data_efficiency
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        stored = {split: artifacts.load(path, mmap=True) for split, path in FEATURES.items()}
        known = data_efficiency.Known(
            features={split: each["features"][0].to(device, copy=True) for split, each in stored.items()},
            labels={split: each["labels"].to(device) for split, each in stored.items()},
            classes=len(stored["train"]["classes"]),
        )
        noted.settle()
        total = data_efficiency.count_probes(known.labels["train"].cpu(), settings)
        with console.progress(total, "probes", "data_efficiency") as bar:
            curve = data_efficiency.measure(known, settings, seed=cfg.seed, advance=bar.advance)
        lost = sum(not row["converged"] for row in curve.probes)
        if lost:
            console.warn(f"{lost} of {total} probes did not converge: they may be better than they seem")
        scores = data_efficiency.scores(curve)
        with artifacts.together(noted.confirm):
            artifacts.write_csv(curve.probes, "plots/data_efficiency/probes.csv")
            artifacts.write_csv(curve.rungs, "plots/data_efficiency/rungs.csv")
            artifacts.write_json(scores, "metrics/data_efficiency.json")
            run.metrics(scores)
            record.note(**devices.describe(device), unconverged=lost)
            artifacts.write_json(record.values(), "data/runs/data_efficiency.json")
    fewest, test = scores["fewest"], scores["test"]
    reached = (
        f"{100 * fewest['accuracy']:.1f} % by {fewest['images']:.0f} images, {100 * test['accuracy']:.1f} % by all"
    )
    console.answer("data_efficiency", f"{reached}")


if __name__ == "__main__":
    console.run(main)
