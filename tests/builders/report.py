"""A study made up for the tests of the report, and how they read its page."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from functools import cache
from html.parser import HTMLParser
from inspect import isfunction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.base.stage_records import StageRecord
from src.evidence import answers, assessment, comparisons, intervals, options, questions
from src.figures import backbones as backbone_figures
from src.figures import calibration as calibration_figures
from src.figures import cost, head_search, thumbnails, transfer
from src.figures import data_efficiency as data_efficiency_figures
from src.figures import scaling as scaling_figures
from src.interface import params, scaling_params
from src.report import numbers
from src.report.assessed import AssessedResults
from src.report.audit_results import AuditResults
from src.report.compared import ComparisonResults
from src.report.data_efficiency_results import DataEfficiencyResults
from src.report.study import ScalingResults, Study
from src.training import metrics
from src.transfer import halving
from tests.builders.pictures import images_of

METHODS = {"untrained": 0.0, "nearest_mean": 0.6, "nearest_neighbours": 0.65, "frozen": 0.72, "finetuned": 0.8}
SIZES = {"train": 1200, "val": 240, "test": 360}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUNDRED = tuple(f"class {i}" for i in range(100))
SETTINGS = params.load(Path(__file__).parents[2] / "params.yaml")
ARMS = ("baseline", "depth", "width", "resolution", "compound")
ACCURACIES = dict(zip(ARMS, (0.60, 0.62, 0.625, 0.63, 0.66), strict=True))  # about, on test
LARGER = {"baseline": (1.0, 1.0, 64), "depth": (4.3, 1.0, 64), "width": (1.0, 2.1, 64)}  # d, w, R
LARGER |= {"resolution": (1.0, 1.0, 128), "compound": (1.4, 1.2, 80)}


def predictions(classes, shares, sizes, seed=0):
    """Files of predictions as the stages write them; `shares` of each method's answers are right, others are drawn."""
    generator = np.random.default_rng(seed)
    split = np.repeat(np.arange(3), list(sizes.values()))
    label = generator.integers(len(classes), size=len(split))
    label[: len(classes)] = np.arange(len(classes))
    neighbour = (label + 1) % len(classes)
    files = []
    for names in (("untrained", "nearest_mean", "nearest_neighbours"), ("frozen",), ("finetuned",)):
        logits = {}
        for name in names:
            guess = np.where(
                generator.random(len(label)) < 0.5, neighbour, generator.integers(len(classes), size=len(label))
            )
            answer = np.where(generator.random(len(label)) < shares[name], label, guess)
            logits[name] = torch.nn.functional.one_hot(torch.from_numpy(answer), len(classes)).float() * 5
        index = np.concatenate([np.arange(size) for size in sizes.values()])
        files.append(
            {key: torch.from_numpy(value) for key, value in {"label": label, "split": split, "index": index}.items()}
        )
        files[-1] |= {"classes": tuple(classes), "logits": logits}
    return files


def curve(epochs, reached, *, backbone):
    """A curve as a training stage writes it."""
    rows = []
    for epoch in range(1, epochs + 1):
        done = reached - 0.25 * 0.7**epoch
        rate = 5e-4 * (0.02 + 0.5 * (1 + np.cos(np.pi * epoch / epochs)))
        rows.append(
            {"epoch": epoch, "train_loss": 2.4 - 2 * done, "train_accuracy": done - 0.03, "val_loss": 2.3 - 2 * done}
        )
        rows[-1] |= {"val_accuracy": done, "head_lr": rate, "gradient_norm": 1.0, "first_gradient_norm": 12.5}
        rows[-1] |= {"backbone_lr": rate / 10} if backbone else {}
    return pd.DataFrame(rows)


def search(trials, epochs):
    generator, space = np.random.default_rng(1), asdict(SETTINGS.tune_head)
    names = ("learning_rate", "weight_decay", "dropout", "optimizer", "schedule", "classifier")
    rows, curves = [], []
    for trial in range(trials):
        drawn = {name: space[name][generator.integers(len(space[name]))] for name in names}
        accuracy = 0.66 + 0.04 * (drawn["classifier"] == "deep") + 0.02 * generator.random()
        rows.append(
            {"trial": trial, "rung": 1, "epochs": float(epochs), "judged": 240, "val_accuracy": accuracy}
            | {"val_loss": 1.7 - accuracy, "best_epoch": epochs}
            | drawn
        )
        curves.append(curve(epochs, accuracy, backbone=False).assign(trial=trial))
    shares = np.sort(generator.dirichlet(np.ones(len(names))))[::-1]
    return pd.DataFrame(rows), pd.concat(curves), pd.DataFrame({"parameter": names[::-1], "importance": shares})


def halved(epochs):
    """The same of a search by halving over params.yaml's grid, in three rungs; the first head of the grid diverges."""
    generator = np.random.default_rng(2)
    heads = pd.DataFrame([asdict(head) for head in halving.grid(SETTINGS.tune_head)])
    heads.insert(0, "trial", range(len(heads)))
    found, curves = [], []
    for rung, (length, judged, share) in enumerate(((0.034, 120, 30), (0.5, 240, 6), (float(epochs), 240, 1)), start=1):
        accuracy = 0.5 + 0.1 * rung + 0.05 * (heads["optimizer"] == "sgd") + 0.02 * generator.random(len(heads))
        own = heads.assign(rung=rung, epochs=length, judged=judged, val_accuracy=accuracy, val_loss=1.7 - accuracy)
        own.loc[own["trial"] == 0, ["val_accuracy", "val_loss"]] = [0.1, np.nan]
        found.append(own.assign(best_epoch=1))
        heads = heads.loc[accuracy.sort_values(ascending=False).index[: len(heads) * share // 60]]
    for trial in found[-1]["trial"]:
        curves.append(curve(epochs, 0.7, backbone=False).assign(trial=trial))
    _, _, importances = search(4, 2)
    return pd.concat(found, ignore_index=True), pd.concat(curves), importances


VERSIONS = {"python": "3.11.2", "platform": "Linux", "torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.4.6"}
MACHINE = {"device": "cpu (x86_64)", "threads": 2}


def record(stage, seconds, memory=1210, versions=VERSIONS, **facts):
    return StageRecord(
        stage=stage, params={}, seconds=seconds, peak_memory_mb=memory, versions=dict(versions), facts=facts
    )


TIMES = {  # of engines that answer
    "torch": {"latency_ms": 25.123, "latency_p95_ms": 31.0, "images_per_second": 61.4},
    "onnx": {"latency_ms": 9.876, "latency_p95_ms": 12.5, "images_per_second": 160.2},
    "int8": {"latency_ms": 5.5, "latency_p95_ms": 7.25, "images_per_second": 250.0},
}
EXPORTED = {"threads": 2, "difference": 1.4e-5, "refused": "", "image_size": 32, "licence": "MIT; CIFAR-10: none"}
BYTES = {"onnx": 16 * 2**20, "int8": 2**22}


def exported(**changes):
    """As metrics/export.json."""
    found = {"agreement": 1.0, "temperature": 0.8123, "threshold": 0.5432, "val": {"accuracy": 0.8125}}
    found |= {"test": {"accuracy": 0.8, "coverage": 0.75}}
    eight = {"val_accuracy": 0.8, "test_accuracy": 0.79, "difference": -0.01, "low": -0.02, "high": 0.004}
    return found | {"int8": eight | {"accepted": 1}} | changes


def records():
    """data/runs/<stage>.json of the transfer study, by stage."""
    found = [
        record("download", 3.2, dataset="cifar10", source=None, source_sha256=None),
        record(
            "extract_features",
            415.8,
            images_per_second=1250.4,
            weights="weights/pico.safetensors",
            weights_sha256="ab" * 32,
            resolution=64,
            engine="onnxruntime 1.32.0",
            **MACHINE,
        ),
        record("baseline", 12.4, **MACHINE),
        record("tune_head", 88.0, **MACHINE),
        record("train_frozen", 21.0, **MACHINE),
        record("finetune", 3475.5, images_per_second=181.6, resolution=96, **MACHINE),
        record("average_flips", 5.2, **MACHINE),
        record("evidence", 4.1),
        record("explain", 6.3, **MACHINE),
        record("export", 60.0, times=TIMES, bytes=BYTES, **EXPORTED),
    ]
    return {each.stage: each for each in found}


def arm_predictions(arm, seeds, *, images=1000):
    """As data/predictions/scaling_ablation/<arm>.pt holds them; the seeds differ by some tenths of a point."""
    labels = {split: torch.arange(images) % 10 for split in ("val", "test")}
    logits = {}
    for seed in seeds:
        luck = np.random.default_rng(seed + sum(map(ord, arm))).integers(-6, 7)
        wrong = images - round(images * ACCURACIES.get(arm, 0.5)) + int(luck)
        logits[f"seed {seed}"] = {}
        for split, more in (("val", 20), ("test", 0)):
            answers = (labels[split] + (torch.arange(images) < wrong + more)) % 10
            logits[f"seed {seed}"][split] = torch.nn.functional.one_hot(answers, 10).float()
    return metrics.collect_predictions(logits, labels, NAMES)


def arm_metrics(arm, seeds):
    """As metrics/scaling_ablation/<arm>.json; a reference model has neither depth nor width."""
    depth, width, resolution = LARGER.get(arm, (1.0, 1.0, 64))
    scale = {"depth": depth, "width": width, "resolution": resolution}
    scores = {}
    for split in ("val", "test"):
        reached = list(comparisons.seed_accuracies(arm_predictions(arm, seeds), split).values())
        scores[split] = {"accuracy": float(np.mean(reached))}
        scores[split] |= {"accuracy_std": float(np.std(reached, ddof=1))} if len(seeds) > 1 else {}
    costs = {"parameters": 4_020_358 * len(arm), "multiply_adds": 31_973_440 * (4 if arm in ARMS[1:] else 1)}
    found = costs | {"activations": 551_936 + sum(map(ord, arm)), **scores, "epochs_to_95": 11.5}
    return (scale if arm in ARMS else {"resolution": 64}) | found


def arm_run(arm, seeds):
    """As data/runs/scaling_ablation/<arm>.json."""
    seconds = [round(40.5 * len(arm) + seed, 1) for seed in seeds]
    speeds = {"training_images_per_second": 1000.4 / len(arm), "inference_images_per_second": 9000.4 / len(arm)}
    timed = {"training_seconds": seconds, "images_per_second": 900.0, **speeds}
    return record(
        f"scaling_ablation@{arm}", sum(seconds) + 10, 513, {"torch": "2.15.0"}, seeds=list(seeds), **timed, **MACHINE
    )


def arm_curve(arm, seeds, epochs):
    """As plots/scaling_ablation/<arm>.csv."""
    reached = ACCURACIES.get(arm, 0.5)
    return pd.concat([curve(epochs, reached + 0.01 * seed, backbone=False).assign(seed=seed) for seed in seeds])


def candidates(*, trained=True):
    """As plots/scaling_search/candidates.csv, the third the best."""
    rows = pd.DataFrame(
        [(1.9, 1.0, 1.0), (1.6, 1.0, 1.1), (1.2, 1.2, 1.1), (2.0, 1.0, 1.0), (1.0, 1.4, 1.0)],
        columns=["alpha", "beta", "gamma"],
    )
    rows["growth"] = rows["alpha"] * rows["beta"] ** 2 * rows["gamma"] ** 2
    rows = rows.assign(depth=rows["alpha"], width=rows["beta"], resolution=[64, 80, 80, 64, 64])
    rows["layers"], rows["channels"], rows["pixels"] = rows["alpha"], rows["beta"], rows["resolution"] / 64
    rows["cost"] = [1.9, 1.96, 2.091, 2.0, 1.97]
    rows["parameters"], rows["multiply_adds"] = 4_000_000 + rows.index, 60_000_000 - rows.index
    nothing = [None] * len(rows)
    return rows.assign(
        val_accuracy=[0.41, 0.43, 0.44, 0.35, 0.41] if trained else pd.Series(nothing, dtype=float),
        val_loss=[1.6, 1.55, 1.5, 1.8, 1.61] if trained else pd.Series(nothing, dtype=float),
    )


def scaling(arms=ARMS, *, seeds=(0, 1, 2), epochs=4, trained=True):
    """What the stages of the scaling study left of `arms`."""
    chosen = dict(zip(("alpha", "beta", "gamma"), (1.2, 1.2, 1.1) if trained else (1.2, 1.1, 1.15), strict=True))
    scores = {"tied": 4, "val": {"accuracy": 0.44, "loss": 1.5}} if trained else {}
    return ScalingResults(
        metrics={arm: arm_metrics(arm, seeds) for arm in arms},
        runs={arm: arm_run(arm, seeds) for arm in arms},
        accuracies={arm: comparisons.seed_accuracies(arm_predictions(arm, seeds)) for arm in arms},
        curves={arm: arm_curve(arm, seeds, epochs) for arm in arms},
        search=chosen | {"candidates": 5} | scores,
        search_run=record("scaling_search", 77.0, 640, {}, device="cpu (x86_64)"),
        coefficients=chosen | {"chosen_by": "nearest" if trained else "paper"},
        candidates=candidates(trained=trained),
    )


def comparison(shares, *, images=400, pretraining="ImageNet-1k", seed=0, **facts):
    """What the stages of the comparison left of entries `network_resolution`, of which each is right for its share.

    Images are of one difficulty for all: whoever is right more often is right where others are, but for some luck.
    """
    generator = np.random.default_rng(seed)
    ease = generator.random(images)
    found, runs, right = {}, {}, {}
    for place, (key, share) in enumerate(shares.items()):
        side = int(key.rpartition("_")[2])
        right[key] = ease + generator.normal(0, 0.1, images) < share
        test = intervals.proportion(int(right[key].sum()), images) | {"neighbours": share - 0.1}
        val = intervals.proportion(round(share * 200), 200)
        found[key] = {
            "resolution": side,
            "parameters": 3_000_000 + place,
            "multiply_adds": 400 * side**2,
            "features": 1280,
        }
        found[key] |= {"penalty": 0.01, "val": val, "test": test}
        timed = {"extraction_seconds": 12.5, "probe_seconds": 1.25, "images_per_second": 1e6 / side**2}
        said = {"pretraining": pretraining, "train_images": 1200, "absent": [], "unconverged": [], **timed, **facts}
        runs[key] = record(f"compare_backbones@{key}", 20.0, 700, {"torch": "2.15.0"}, **said, **MACHINE)
    return ComparisonResults(metrics=found, runs=runs, right=right)


def audited(classes=NAMES, *, pairs=3, doubtful=4, side=8, unjudged=0):
    """What an audit left: test image i has a near copy in train, and is doubtful, for the first few i."""
    names, numbers = np.array(classes, dtype=object), np.arange(max(pairs, doubtful))
    copies = pd.DataFrame({"first_split": "train", "first_index": numbers[:pairs] * 2})
    copies = copies.assign(first_label=names[0], second_split="test", second_index=numbers[:pairs])
    copies = copies.assign(second_label=names[-1], cosine=0.9, likeness=np.linspace(0.99, 0.8, pairs))
    labels = pd.DataFrame({"split": "test", "index": numbers[:doubtful], "label": names[0]})
    labels = labels.assign(suggested=names[1], label_share=0.01, suggested_share=0.9)
    images = torch.arange(256, dtype=torch.uint8)[: 3 * side].view(3, 1, side).expand(3, side, side)
    found = {"pairs": pairs, "penalty": 0.01, "probe_accuracy": 0.7, "train": {"within": 0, "doubtful": 0}}
    found |= {"val": {"in_train": 0, "within": 0, "doubtful": 0}}
    found |= {"test": {"in_train": pairs, "in_val": 0, "within": 0, "doubtful": doubtful}}
    return AuditResults(
        metrics=found,
        run=record("audit", 5.0, judged=sum(SIZES.values()) - unjudged, unconverged=[], **MACHINE),
        copies=copies,
        labels=labels,
        thumbnails={
            "pairs": images.expand(pairs, 2, 3, side, side),
            "pair_rows": torch.arange(pairs),
            "labels": images.expand(doubtful, 3, side, side),
            "label_rows": torch.arange(doubtful),
        },
    )


def by_images(errors=(0.66, 0.49, 0.37, 0.3, 0.26), *, images=(10, 30, 100, 300, 1200), draws=3, classes=10):
    """What probes by number of images left: `errors` on test, all draws a little apart but the last rung's one."""
    probes, rungs = [], []
    for place, (count, error) in enumerate(zip(images, errors, strict=True)):
        last = place == len(images) - 1
        shifts = [0.0] if last else np.linspace(-0.01, 0.01, draws) * (0 < error < 1)
        own = {"per_class": count / classes, "images": count}
        for draw, shift in enumerate(shifts):
            scored = {"penalty": 0.1, "val_accuracy": 0.7, "test_accuracy": 1 - error + shift, "converged": 1}
            probes.append(own | {"draw": draw} | scored)
        interval = {"low": max(0.0, 0.98 - error), "high": min(1.0, 1.02 - error), "spread": 0.01}
        rungs.append(own | {"draws": len(shifts), "accuracy": 1 - error} | interval)
    most = {name: rungs[-1][name] for name in ("accuracy", "low", "high")}
    fewest = {name: rungs[0][name] for name in ("images", "accuracy", "low", "high")}
    return DataEfficiencyResults(
        metrics={"penalty": 0.1, "val": {"accuracy": 0.7}, "test": most, "fewest": fewest},
        run=record("data_efficiency", 6.0, unconverged=0, **MACHINE),
        probes=pd.DataFrame(probes),
        rungs=pd.DataFrame(rungs),
    )


def compared_entries(compared):
    """As params.yaml has them."""
    return {
        key: params.Backbone(
            name=f"efficientnet_{key.partition('_')[0]}", weights="imagenet", resolution=found["resolution"]
        )
        for key, found in compared.metrics.items()
    }


def study(
    classes=NAMES,
    shares=METHODS,
    sizes=SIZES,
    *,
    train_test=0,
    epochs=10,
    trials=20,
    scaled=None,
    compared=None,
    audit=None,
    few=None,
    **own,
):
    """`scaled`, `compared`, `audit`, `few`: what these stages left; `own`: sections of settings, not params.yaml's."""
    files, scaled = predictions(classes, shares, sizes), scaled or scaling()
    compared, audit = compared or comparison({}), audit or audited(classes, pairs=min(3, sizes["test"] - 1), doubtful=2)
    few = few or by_images(classes=len(classes))
    families = {
        "scaling_arms": dict.fromkeys(scaled.arms, scaling_params.Arm()),
        "compared_backbones": compared_entries(compared),
    }
    settings = replace(SETTINGS, **families | own)
    found = answers.collect(*files)
    in_rungs = settings.tune_head.sampler == "halving"
    trial_rows, trial_curves, importances = halved(6) if in_rungs else search(trials, 6)
    scores = {split: {"accuracy": 0.7, "loss": 0.9 + i / 10} for i, split in enumerate(("train", "val", "test"))}
    baseline = {"untrained": 0.1037, "untrained_std": 0.0123, "nearest_mean": 0.6, "nearest_neighbours": 0.65}
    download = {split: {"images": size, "duplicates": 3 * i} for i, (split, size) in enumerate(sizes.items())}
    download |= {
        "across": {"train_val": 7, "train_test": train_test, "val_test": 5},
        "classes": len(classes),
        "skipped": 0,
    }
    best = int(trial_rows.loc[trial_rows["val_accuracy"].idxmax(), "trial"])
    return Study(
        settings={field.name: getattr(settings, field.name) for field in fields(settings)},
        metrics={
            "download": download,
            "baseline": {"val": baseline, "test": baseline},
            "tune_head": {"val": {"accuracy": 0.7, "loss": 1.0}, "best_trial": best, "trials": trials},
            "train_frozen": scores | {"best_epoch": epochs},
            "finetune": scores | {"best_epoch": max(1, epochs - 2)},
            "audit": audit.metrics,
            "data_efficiency": few.metrics,
            "export": exported(),
            **compared.stage_metrics,
            **scaled.stage_metrics,
        },
        records=records() | {"audit": audit.run, "data_efficiency": few.run} | compared.stage_runs | scaled.stage_runs,
        answers=found,
        best_head={"classifier": "deep", "dropout": 0.3, "learning_rate": 0.001, "optimizer": "adamw"},
        frozen_curve=curve(2 * epochs, 0.72, backbone=False),
        finetuned_curve=curve(epochs, 0.8, backbone=True),
        trials=trial_rows,
        trial_curves=trial_curves,
        importances=importances,
        scaling=scaled,
        compared=compared,
        assessed=assessed(tuple(classes), tuple(shares.items()), tuple(sizes.items())),
        images=images_of(files, classes, sizes),
        audit=audit,
        data_efficiency=few,
    )


@cache
def assessed(classes, shares, sizes):
    """What the stage evidence leaves of `predictions`, arguments as items."""
    return assessed_of(predictions(classes, dict(shares), dict(sizes)))


def assessed_of(files, *, bins=15, targets=(0.95, 0.99), seeds=None, flips=None):
    """What the stage evidence leaves of such files, and of `seeds` and `flips` in the place of a single training."""
    whole, seeds = answers.joined(*files), seeds or _single(files[-1])
    beside = options.offered(seeds, flips or files[-1] | {"logits": {}})
    right = questions.right_on_test(whole)
    found = {
        method: assessment.assess(
            *(assessment.judged(whole, method, split) for split in ("val", "test")),
            whole["classes"],
            bins=bins,
            targets=targets,
        )
        for method in ("frozen", "finetuned")
    }
    parts = {part: assessment.table(found, part) for part in ("scores", "classes", "reliability", "coverage")}
    return AssessedResults(
        metrics={method: each.headline for method, each in found.items()},
        differences=questions.differences(right),
        over_seeds=questions.over_seeds(seeds, right["frozen"]),
        options=pd.DataFrame(options.compared(assessment.judged(whole, "finetuned", "test"), beside)),
        **parts,
    )


def _single(file):
    """As data/predictions/finetune_repeats.pt holds a single training."""
    return file | {"logits": {"seed 0": file["logits"]["finetuned"]}}


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are blank, for who reads words and tables alone: to draw those of a page takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        drawing = [transfer, scaling_figures, head_search, calibration_figures, cost, thumbnails]
        drawing += [data_efficiency_figures, backbone_figures]
        for module in drawing:
            for name, function in vars(module).items():
                if isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
                    patch.setattr(module, name, lambda *_, **__: "<svg/>")
        yield


class Document(HTMLParser):
    """What a browser would make of the page: its tags with their attributes, its tables by caption as lists of rows."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.cell, self.words = [], {}, None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = self.tables[self.caption] = []
        elif tag == "tr":
            self.rows.append([])
        self.cell = "" if tag in ("td", "th", "figcaption") else self.cell

    def handle_data(self, data):
        self.words += data
        self.cell = None if self.cell is None else self.cell + data

    def handle_endtag(self, tag):
        if tag == "figcaption":
            self.caption = self.cell
        elif tag in ("td", "th"):
            self.rows[-1].append(self.cell)
        self.cell = None if tag in ("td", "th", "figcaption") else self.cell

    def table(self, caption):
        return next(rows for name, rows in self.tables.items() if name.startswith(caption))


def plain(text):
    return text.replace(numbers.NARROW, " ")
