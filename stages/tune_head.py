"""Search for the best head on cached features, judged on validation.  `python -m stages.tune_head`"""

from dataclasses import asdict

from src.base import artifacts, devices
from src.base.stage_records import Recorder
from src.interface import console, params, tracking
from src.training import metrics, resuming
from src.training.fitting import Session
from src.transfer import head_search
from src.transfer.feature_batches import FeatureBatches
from src.transfer.trials import best_of, curve_rows, finalists, trial_rows
from stages import given

SECONDS = 5.0  # between two looks at whether something was edited


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
            images = len(train.labels)
            total = head_search.images_in_all(cfg.tune_head, images=images, judges=len(val.labels))
            done = sum(round(trial.epochs * images) for trial in head_search.finished(journal))
            with console.progress(total, "images", "tune_head", start=done) as bar:
                trials = head_search.search_heads(
                    cfg.tune_head,
                    train,
                    val,
                    journal=journal,
                    class_weights=cfg.class_weights,
                    session=Session(
                        seed=cfg.seed,
                        advance=noted.watching(bar.advance, seconds=SECONDS),
                        on_epoch=noted.watching(run.live()),
                    ),
                )
            best, last = best_of(trials), finalists(trials)
            shares = head_search.importances(cfg.tune_head, trials, seed=cfg.seed)
            scores = {"accuracy": best.val_accuracy, "loss": best.val_loss}
            tried = len({trial.trial for trial in trials})
            found = metrics.headed("searched", {"val": scores, "best_trial": best.trial, "trials": tried})
            with artifacts.together(noted.confirm):
                artifacts.write_json(asdict(best.head), "models/best_head.json")
                artifacts.write_json(found, "metrics/tune_head.json")
                artifacts.write_csv(trial_rows(trials), "plots/tune_head/trials.csv")
                artifacts.write_csv(curve_rows(trials), "plots/tune_head/curves.csv")
                artifacts.write_csv(
                    [{"parameter": k, "importance": v} for k, v in shares.items()], "plots/tune_head/importances.csv"
                )
                for trial in last:  # of halving's many heads, MLflow has a run of those that were trained to the end
                    scores = {"accuracy": trial.val_accuracy, "loss": trial.val_loss}
                    own = {"val": scores, "best_epoch": trial.best_epoch}
                    run.trial("trial", trial.trial, asdict(trial.head), own, trial.curve, val=len(val.labels))
                run.metrics(found, val=len(val.labels))
                record.note(**devices.describe(device))
                artifacts.write_json(record.values(), "data/runs/tune_head.json")
    kept = f"trial {best.trial} kept of {found['trials']}"
    if len(last) < len(trials):
        kept += f" in {best.rung} rungs, the {len(last)} of the last in MLflow"
    console.answer("tune_head", f"{100 * best.val_accuracy:.1f} % on validation, {kept}")


if __name__ == "__main__":
    console.run(main)
