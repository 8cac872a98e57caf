"""Search for the best head on cached features, judged on validation.  `python -m stages.tune_head`"""

from dataclasses import asdict

from src.base import artifacts, devices
from src.base.stage_records import Recorder
from src.interface import console, params, tracking
from src.training import resuming
from src.training.fitting import Session
from src.transfer import head_search
from src.transfer.feature_batches import FeatureBatches
from stages import given


def main() -> None:
    noted = given.of("tune_head")
    cfg, record = params.parse(noted.content), Recorder("tune_head", noted.sections)
    with tracking.stage(record, cfg) as run:
        device = devices.choose(deterministic=cfg.deterministic)
        train = FeatureBatches.load("data/features/train.pt", device, seed=cfg.seed)
        val = FeatureBatches.load("data/features/val.pt", device, seed=cfg.seed)
        noted.settle()
        run.given(noted.identity()["files"])
        with resuming.held("tune_head", noted.identity(), device) as folder:
            journal = folder / "trials.jsonl"
            images_per_trial = cfg.tune_head.epochs * len(train.labels)
            total, done = (
                count * images_per_trial for count in (cfg.tune_head.trials, len(head_search.finished(journal)))
            )
            with console.progress(total, "images", "tune_head", start=done) as bar:
                trials = head_search.search_heads(
                    cfg.tune_head,
                    train,
                    val,
                    journal=journal,
                    class_weights=cfg.class_weights,
                    session=Session(seed=cfg.seed, advance=bar.advance, on_epoch=noted.watching(run.live())),
                )
            best = head_search.best_of(trials)
            shares = head_search.importances(cfg.tune_head, trials, seed=cfg.seed)
            found = {
                "val": {"accuracy": best.val_accuracy, "loss": best.val_loss},
                "best_trial": best.trial,
                "trials": len(trials),
            }
            with artifacts.together(noted.confirm):
                artifacts.write_json(asdict(best.head), "models/best_head.json")
                artifacts.write_json(found, "metrics/tune_head.json")
                artifacts.write_csv(head_search.trial_rows(trials), "plots/tune_head/trials.csv")
                artifacts.write_csv(head_search.curve_rows(trials), "plots/tune_head/curves.csv")
                artifacts.write_csv(
                    [{"parameter": k, "importance": v} for k, v in shares.items()], "plots/tune_head/importances.csv"
                )
                for trial in trials:
                    scores = {"accuracy": trial.val_accuracy, "loss": trial.val_loss}
                    own = {"val": scores, "best_epoch": trial.best_epoch}
                    run.trial("trial", trial.trial, asdict(trial.head), own, trial.curve, val=len(val.labels))
                run.metrics(found, val=len(val.labels))
                record.note(**devices.describe(device))
                artifacts.write_json(record.values(), "data/runs/tune_head.json")
    kept = f"trial {best.trial} kept of {len(trials)}"
    console.answer("tune_head", f"{100 * best.val_accuracy:.1f} % on validation, {kept}")


if __name__ == "__main__":
    console.run(main)
