"""Intervals of metrics that are no shares of images, by the names that MLflow has for these metrics."""

from src.evidence import changes, questions
from src.report.study import Study

Bounds = dict[str, tuple[float, float]]


def intervals(study: Study) -> Bounds:
    """Low and high at 95 %, by `stage/.../score`.

    Of the gain, by images that both networks named; of a mean over seeds, Student's t, and for fine-tuning over the
    images, too; of what the stage evidence scored, as it says. Where nothing spreads, there is none.
    """
    gain = study.assessed.difference(*questions.MAIN)
    return {"finetune/gain": (gain.low, gain.high)} | _over_seeds(study) | _assessed(study)


def _over_seeds(study: Study) -> Bounds:
    found, repeated = {}, study.assessed.over_seeds["accuracy"]
    if repeated.runs > 1:
        found["finetune/repeats/accuracy"] = (repeated.low, repeated.high)
    for arm, accuracies in study.scaling.accuracies.items():
        if len(set(accuracies.values())) > 1:
            _, _, low, high = changes.mean_over_seeds([*accuracies.values()])
            found[f"scaling_ablation/{arm}/test/accuracy"] = (low, high)
    return found


def _assessed(study: Study) -> Bounds:
    rows, kept = study.assessed.scores, study.assessed.metrics
    trained = rows[~rows["calibrated"].astype(bool)].dropna(subset=["low", "high"])
    return {
        f"evidence/{row['method']}/{row['score']}": (float(row["low"]), float(row["high"]))
        for row in trained.to_dict("records")
        if row["score"] in kept.get(row["method"], {})
    }
