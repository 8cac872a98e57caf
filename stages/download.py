"""Turn the dataset into one file of images per split.  `python -m stages.download`"""

from src import expectations
from src.base import artifacts, splits
from src.base.stage_records import Recorder
from src.data import datasets, splitting
from src.interface import console, params, tracking
from stages import given


def main() -> None:
    noted = given.of("download")
    cfg, record = params.parse(noted.content), Recorder("download", noted.sections)
    with tracking.stage(record, cfg) as run:
        expectations.announce(cfg)
        loaded = datasets.load(cfg.dataset, datasets.OFFICIAL)
        found = splitting.describe(loaded.splits) | {"skipped": len(loaded.skipped)}
        noted.settle()
        with artifacts.together(noted.confirm):
            splits.save_split(loaded.splits["train"], "data/images/train.pt")
            splits.save_split(loaded.splits["val"], "data/images/val.pt")
            splits.save_split(loaded.splits["test"], "data/images/test.pt")
            artifacts.write_json(found, "metrics/download.json")
            run.metrics(found)
            record.note(dataset=cfg.dataset.name, source=loaded.source, source_sha256=loaded.source_sha256)
            run.dataset(record.record().facts, found)
            record.note(skipped=loaded.skipped, copies=loaded.copies)
            artifacts.write_json(record.values(), "data/runs/download.json")
    images = ", ".join(f"{found[split]['images']} {split}" for split in splits.SPLITS)
    console.answer("download", f"{images} images of {found['classes']} classes")


if __name__ == "__main__":
    console.run(main)
