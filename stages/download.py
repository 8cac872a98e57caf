"""Turn the dataset into one file of images per split.  `python -m stages.download`"""

from src import artifacts, console, datasets, expectations, params, splitting, tracking


def main() -> None:
    cfg = params.load()
    with tracking.stage("download", cfg) as run:
        expectations.announce(cfg)
        loaded = datasets.load(cfg.dataset, datasets.OFFICIAL)
        found = splitting.describe(loaded.splits)
        artifacts.save_split(loaded.splits["train"], "data/images/train.pt")
        artifacts.save_split(loaded.splits["val"], "data/images/val.pt")
        artifacts.save_split(loaded.splits["test"], "data/images/test.pt")
        artifacts.write_json(found, "metrics/download.json")
        run.metrics(found)
        run.note(dataset=cfg.dataset.name, source=loaded.source, source_sha256=loaded.source_sha256)
        artifacts.write_json(run.record(), "data/runs/download.json")


if __name__ == "__main__":
    console.run(main)
