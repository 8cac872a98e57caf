"""Look for near copies across splits and for labels that are likely wrong.  `python -m stages.audit`"""

import torch

from src.base import artifacts, devices
from src.base.splits import load_split
from src.base.stage_records import Recorder
from src.evidence import auditing
from src.interface import console, params, tracking
from stages import given

IMAGES = {"train": "data/images/train.pt", "val": "data/images/val.pt", "test": "data/images/test.pt"}
FEATURES = {"train": "data/features/train.pt", "val": "data/features/val.pt", "test": "data/features/test.pt"}


def main() -> None:
    noted = given.of("audit")
    cfg, record = params.parse(noted.content), Recorder("audit", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        pool = auditing.Pool.of({split: load_split(path) for split, path in IMAGES.items()})
        clean = [artifacts.load(path, mmap=True)["features"][0] for path in FEATURES.values()]
        features = torch.cat(clean)
        noted.settle()
        with console.progress(auditing.steps(len(features), cfg.audit), "images", "audit") as bar:
            found = auditing.audit(pool, features, cfg.audit, seed=cfg.seed, device=device, advance=bar.advance)
        for penalty in found.probe.unconverged:
            console.warn(f"a probe at penalty {penalty:g} did not converge: labels may be doubted without need")
        scores = auditing.scores(found, pool)
        with artifacts.together(noted.confirm):
            artifacts.write_csv(found.copies, "plots/audit/near_copies.csv")
            artifacts.write_csv(found.labels, "plots/audit/doubtful_labels.csv")
            artifacts.save(found.thumbnails, "data/audit/thumbnails.pt")
            artifacts.write_json(scores, "metrics/audit.json")
            run.metrics(scores)
            record.note(**devices.describe(device), unconverged=found.probe.unconverged)
            record.note(judged=int(found.probe.judged.sum()))
            artifacts.write_json(record.values(), "data/runs/audit.json")
    copies, doubtful = scores["test"]["in_train"], scores["test"]["doubtful"]
    console.answer("audit", f"of test, {copies} have a near copy in train; doubtful labels: {doubtful}")


if __name__ == "__main__":
    console.run(main)
