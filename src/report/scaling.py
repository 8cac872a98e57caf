"""What the report shows of the scaling study: the verdict on its arms, and the search for a way to scale."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from src.evidence.comparisons import Comparison
from src.figures import scaling
from src.figures.style import both
from src.report import scaling_training, scaling_verdict
from src.report.answer import images_called
from src.report.numbers import count, digits, duration, listed, percent, points
from src.report.pages import Figure, Section, Table
from src.report.study import Study

# Tan & Le, arXiv:1905.11946v5, Table 7: EfficientNet-B0 scaled on ImageNet by d = 4, w = 2, r = 2, and by
# d = 1.4, w = 1.2, r = 1.3 together; multiply-adds in billions, top-1 accuracy as a fraction. One training each.
TABLE_7: tuple[dict[str, Any], ...] = (
    {"arm": "baseline", "multiply_adds": 0.4, "accuracy": 0.773},
    {"arm": "depth", "multiply_adds": 1.8, "accuracy": 0.790},
    {"arm": "width", "multiply_adds": 1.8, "accuracy": 0.789},
    {"arm": "resolution", "multiply_adds": 1.9, "accuracy": 0.791},
    {"arm": "compound", "multiply_adds": 1.8, "accuracy": 0.811},
)


def ablation(study: Study) -> Section:
    """The verdict, with every comparison and what each arm is, costs and reaches."""
    found, arms = scaling_verdict.compared(study), set(study.scaling.arms)
    text = scaling_verdict.verdict(study) or (
        f"Nothing to compare: that takes the unscaled baseline, or compound beside a single axis; "
        f"trained: {listed(study.scaling.arms)}."
    )
    blocks: list[str | Figure | Table] = [text, scaling_training.conditions(study)]
    if note := scaling_verdict.own_settings(study):
        blocks.append(note)
    if found:
        blocks += [*filter(None, [scaling_verdict.reach(study)]), _comparison_rows(found)]
    blocks += [_cost_figure(study), _curve_figure(study), scaling_training.training_rows(study)]
    blocks += [_scale_rows(study), _result_rows(study), _value_rows(study)]
    if arms & {row["arm"] for row in TABLE_7}:
        blocks.append(_table_7(study))
    return Section(title="Does compound scaling pay?", blocks=blocks)


def _comparison_rows(found: Sequence[Comparison]) -> Table:
    rows = [[*scaling_verdict.sentence(each).split(": ", 1), _p_value(each)] for each in found]
    return Table(
        name="scaling_differences",
        caption="Differences in test accuracy, in percentage points, paired by seed, with 95 % t intervals from the "
        f"deviation that all arms share; intervals and p are corrected for {count(len(found))} comparisons by Holm's "
        "procedure. They cover the luck of a seed: initial weights, order of images, augmentation and dropout; not the "
        "luck in which images were drawn. Where one arm varies twice as much as the others, 6 % of studies without any "
        "difference would settle one instead of 5 % at most, and 7 to 11 % where it varies three times as much.",
        rows=pd.DataFrame(rows, columns=["Comparison", "Difference", "p"]),
        text_columns=2,
    )


def _p_value(found: Comparison) -> str:
    if found.low is None or found.low == found.high:
        return ""  # no interval, no test
    return "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"


def _seconds(study: Study, arm: str) -> Sequence[float]:
    """Of training, by seed; empty where none was timed."""
    timed: Sequence[float] = study.scaling.runs[arm].facts.get("training_seconds", ())
    return timed


def _cost_figure(study: Study) -> Figure:
    rows = []
    for arm, metrics in study.scaling.metrics.items():
        test, seconds = metrics["test"], _seconds(study, arm)
        rows.append(
            {
                "arm": arm,
                "accuracy": test["accuracy"],
                "accuracy_std": test.get("accuracy_std", math.nan),
                "multiply_adds": metrics["multiply_adds"],
                "parameters": metrics["parameters"],
                "seconds": fmean(seconds) if seconds else math.nan,
                "seconds_std": stdev(seconds) if len(seconds) > 1 else math.nan,
            }
        )
    values = "; ".join(f"{row['arm']} {percent(row['accuracy'])}" for row in rows)
    return Figure(
        name="scaling_accuracy",
        **both(partial(scaling.accuracy_by_cost, pd.DataFrame(rows))),
        alt=f"Test accuracy against multiply-adds, parameters and training seconds. {values}.",
        caption="Test accuracy by what it costs. Points are means over seeds, bars one standard deviation each way.",
    )


def _regularised(study: Study) -> str:
    """What makes a training loss larger than that of the same network on the same images."""
    names = {"label_smoothing": "label smoothing", "dropout": "dropout", "stochastic_depth": "stochastic depth"}
    used = [text for key, text in names.items() if getattr(study.settings["scaling"], key)]
    return f", with {listed(used)}" if used else ""


def _curve_figure(study: Study) -> Figure:
    return Figure(
        name="scaling_curves",
        **both(partial(scaling.training_curves, study.scaling.curves)),
        alt=f"Training loss and validation accuracy by epoch of {listed(study.scaling.arms)}.",
        caption="Bold, the mean over seeds; faint, each seed. Training loss is that of augmented images"
        f"{_regularised(study)}, while the epoch was running.",
    )


def _scale_rows(study: Study) -> Table:
    metrics = study.scaling.metrics
    base = metrics["baseline"]["multiply_adds"] if "baseline" in metrics else math.nan
    rows = [
        [
            arm,
            *(f"{found[factor]:.2f}" if factor in found else "" for factor in ("depth", "width")),
            *(count(found[key]) for key in ("resolution", "parameters", "activations", "multiply_adds")),
            "" if math.isnan(base) else f"{found['multiply_adds'] / base:.2f}",
        ]
        for arm, found in metrics.items()
    ]
    columns = ["Arm", "d", "w", "R", "Parameters", "Activations", "Multiply-adds", "× baseline"]
    return Table(
        name="scaling_arms",
        caption=f"What was trained: d and w multiply the depth and width of {study.settings['scaling'].base}, R is "
        "pixels per side; activations are the elements of all convolutions' outputs; multiply-adds count convolutions "
        "and linear layers. Of one image.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _result_rows(study: Study) -> Table:
    rows = []
    for arm, found in study.scaling.metrics.items():
        seconds, run = _seconds(study, arm), study.scaling.runs[arm].facts
        speeds = [run.get(f"{kind}_images_per_second") for kind in ("training", "inference")]
        rows.append(
            [
                arm,
                *(_mean(found[split]) for split in ("val", "test")),
                f"{found['epochs_to_95']:.1f}",
                duration(fmean(seconds)) if seconds else "",
                *("" if speed is None else count(round(speed)) for speed in speeds),
            ]
        )
    chance = percent(1 / len(study.answers.classes))
    columns = ["Arm", "Validation", "Test", "Epochs to 95 %", "Training", "Images/s, training", "Images/s, inference"]
    return Table(
        name="scaling_results",
        caption="What it reached: accuracy, mean and standard deviation over seeds "
        f"({', '.join(map(str, study.settings['scaling_ablation'].seeds))}); chance is {chance}. Epochs until "
        "validation accuracy is 95 % of the last epoch's. Training time of one seed, validation left out. Images/s "
        "were measured on random images.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _mean(scores: Mapping[str, float]) -> str:
    spread = f" ± {100 * scores['accuracy_std']:.1f}" if "accuracy_std" in scores else ""
    return percent(scores["accuracy"]) + spread


def _value_rows(study: Study) -> Table:
    """Accuracy per multiply-add beside accuracy per second, in all and of what was added to the baseline."""
    metrics = study.scaling.metrics
    costs = {
        arm: [found["multiply_adds"] / 1e6, fmean(seconds) if (seconds := _seconds(study, arm)) else math.nan]
        for arm, found in metrics.items()
    }
    rows = []
    for arm, found in metrics.items():
        reached = 100 * found["test"]["accuracy"]
        row = [arm, *(digits(reached / cost) for cost in costs[arm])]
        if "baseline" not in metrics or arm == "baseline":
            row += ["", "", ""]
        elif lost := scaling_training.marked(study, arm):
            row += [lost, "", ""]
        else:
            gain = reached - 100 * metrics["baseline"]["test"]["accuracy"]
            added = [cost - base for cost, base in zip(costs[arm], costs["baseline"], strict=True)]
            row += [points(gain / 100), *(digits(gain / more) if more > 0 else "" for more in added)]
        rows.append(row)
    columns = ["Arm", "Points per million", "Points per second", "Gain", "Gain per million", "Gain per second"]
    return Table(
        name="scaling_value",
        caption="Points of mean test accuracy per million multiply-adds of one image, and per second in which one seed "
        "trained; then the gain over the baseline, per million and per second more than the baseline's.",
        rows=pd.DataFrame(rows, columns=columns),
    )


def _table_7(study: Study) -> Table:
    metrics, rows = study.scaling.metrics, []
    paper = {row["arm"]: row["accuracy"] for row in TABLE_7}
    ours = {arm: found["test"]["accuracy"] for arm, found in metrics.items()}
    for row in TABLE_7:
        arm = row["arm"]
        here = [count(metrics[arm]["multiply_adds"]), percent(ours[arm])] if arm in ours else ["", ""]
        there = [f"{row['multiply_adds']:g} billion", percent(row["accuracy"])]
        gains = [points(of[arm] - of["baseline"]) if {arm, "baseline"} <= set(of) else "" for of in (paper, ours)]
        gains = ["", ""] if arm == "baseline" else gains
        if arm in ours and "baseline" in ours and arm != "baseline":
            gains[1] = scaling_training.marked(study, arm) or gains[1]
        rows.append([arm, *there, gains[0], *here, gains[1]])
    columns = [
        "Arm",
        *(f"{what}, {where}" for where in ("paper", "here") for what in ("Multiply-adds", "Acc.", "Gain")),
    ]
    return Table(
        name="scaling_table_7",
        caption="Table 7 of Tan and Le (arXiv:1905.11946), EfficientNet-B0 on ImageNet, each trained once, beside the "
        f"means here, {study.settings['scaling'].base} on {images_called(study)}. Gains, in percentage "
        "points, are over the baseline.",
        rows=pd.DataFrame(rows, columns=columns),
    )
