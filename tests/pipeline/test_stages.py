"""Every stage on the sample: it learns, it reads and writes what dvc.yaml declares, and DVC's commands read well."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
import yaml

from tests.builders.repository import ARMS, ENTRIES, Repository, ran
from tests.conftest import audit_log, said_by
from tests.pipeline.test_pipeline import DECLARED, PIPELINE, declared
from tools.deps import OBSERVERS, reached_from

MEMBERS = {"scaling_ablation": ARMS, "compare_backbones": ENTRIES}
STAGES = [
    member
    for stage in DECLARED
    for member in ([f"{stage}@{key}" for key in MEMBERS[stage]] if stage in MEMBERS else [stage])
]
# Neither input nor output: settings, and what git ignores and the main checkout keeps.
BESIDES = (
    "params.yaml",
    "dvc.yaml",
    ".dvcignore",
    "mlflow.db",
    "mlartifacts",
    ".resume",
    "data/raw",
    "stages/__init__.py",
    "stages/starting.py",
)


def opened(repository: Repository, stage: str, mode: str) -> set[str]:
    """Paths inside the repository that `stage` opened, temporary names read as what they become."""
    lines = (audit_log(repository) / f"{stage}.jsonl").read_text().splitlines()
    found = set()
    for kind, name in map(json.loads, lines):
        path = Path(name)
        if kind == mode and path.is_relative_to(repository.folder) and path.is_file() | (mode == "w"):
            local = str(path.relative_to(repository.folder))
            found.add(re.sub(r"\.([^/]+)\.\d+\.tmp$", r"\1", local))
    return {
        p
        for p in found
        if not p.startswith((*BESIDES, ".dvc/", ".git/"))
        and not re.search(r"/\.scratch\.|^src/.*__init__\.py$", p)  # an empty file makes a folder a package
        and p not in OBSERVERS
    }


def outside(paths: set[str], allowed: set[str]) -> set[str]:
    return {path for path in paths if not any(path == a or path.startswith(f"{a}/") for a in allowed)}


def metrics(repository: Repository, stage: str) -> dict[str, dict[str, float]]:
    """Of a stage, or of one member of a family."""
    return json.loads((repository.folder / f"metrics/{stage.replace('@', '/')}.json").read_text())


def test_these_are_the_stages_of_the_sample(sample: Repository) -> None:
    assert set(yaml.safe_load((sample.folder / "dvc.lock").read_text())["stages"]) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_reads_and_writes_only_what_dvc_yaml_declares(sample: Repository, stage: str) -> None:
    inputs, outputs = declared(stage, "deps"), declared(stage, "outs", "metrics", "plots")
    for_observers = {file for path in OBSERVERS for file in reached_from(path)}  # what an estimate imports
    assert not outside(opened(sample, stage, "r"), inputs | outputs | for_observers)
    assert not outside(opened(sample, stage, "w"), outputs)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_opens_every_file_that_dvc_yaml_declares(sample: Repository, stage: str) -> None:
    """A dep that is never read makes DVC run the stage for nothing."""
    read = opened(sample, stage, "r") | opened(sample, stage, "w")
    files = {path for path in declared(stage, "deps", "outs", "metrics", "plots") if (sample.folder / path).is_file()}
    assert files <= read


def test_fine_tuned_beats_frozen_beats_chance_on_the_sample(sample: Repository) -> None:
    frozen, finetuned = (metrics(sample, stage)["test"]["accuracy"] for stage in ("train_frozen", "finetune"))
    assert 0.1 < frozen < finetuned


def test_predictions_recompute_the_metrics(sample: Repository) -> None:
    from src.base import artifacts, splits

    stored = artifacts.load(sample.folder / "data/predictions/finetune.pt")
    hits = stored["logits"]["finetuned"].argmax(1) == stored["label"]
    for number, split in enumerate(splits.SPLITS):
        assert hits[stored["split"] == number].double().mean().item() == metrics(sample, "finetune")[split]["accuracy"]


def test_the_evidence_of_the_sample_is_about_its_predictions(sample: Repository) -> None:
    scores = pd.read_csv(sample.folder / "plots/evidence/scores.csv").set_index(["method", "score", "calibrated"])
    differences = pd.read_csv(sample.folder / "plots/evidence/differences.csv").iloc[0]
    accuracies = [metrics(sample, stage)["test"]["accuracy"] for stage in ("finetune", "train_frozen")]
    assert scores["value"].loc["finetuned", "accuracy", False] == accuracies[0]
    assert scores["value"].loc["finetuned", "log_loss", False] == pytest.approx(
        metrics(sample, "finetune")["test"]["loss"], rel=1e-5
    )
    assert differences["difference"] == pytest.approx(accuracies[0] - accuracies[1])


def test_one_picture_has_one_answer_in_the_stage_the_exported_file_and_on_the_command_line(
    sample: Repository, tmp_path: Path
) -> None:
    """Images of test as fine-tuning saw them, and as files that a person has."""
    import numpy as np
    from PIL import Image

    from src.base import artifacts, splits
    from src.use import answering

    stored = splits.load_split(sample.folder / "data/images/test.pt").images[:20].numpy()
    predictions, exported = artifacts.load(sample.folder / "data/predictions/finetune.pt"), metrics(sample, "export")
    logits = predictions["logits"]["finetuned"][predictions["split"] == splits.SPLITS.index("test")][:20]
    by_stage = (logits / exported["temperature"]).softmax(1).numpy()
    by_file = answering.load(sample.folder / "models/finetuned.onnx").probabilities(stored)
    np.testing.assert_allclose(by_file, by_stage, atol=1e-4)
    for index, image in enumerate(stored):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{index:02d}.png")
    command = ("python", "-m", "src.use.predict", str(tmp_path), "--json", "--top=10")
    for path, meant, answer in zip(
        sorted(tmp_path.iterdir()), by_file, json.loads(sample.run(*command).stdout), strict=True
    ):
        assert answer["image"] == str(path)
        found = {each["class"]: each["probability"] for each in answer["top"]}
        np.testing.assert_allclose([found[str(digit)] for digit in range(10)], meant, atol=2e-5)


def test_the_exported_model_is_right_as_often_as_the_fine_tuned_network(sample: Repository) -> None:
    for split in ("val", "test"):
        assert metrics(sample, "export")[split]["accuracy"] == metrics(sample, "finetune")[split]["accuracy"]
    accepted = json.loads((sample.folder / "models/int8/verdict.json").read_text())["accepted"]
    assert (
        (sample.folder / "models/int8/finetuned.onnx").exists()
        == accepted
        == metrics(sample, "export")["int8"]["accepted"]
    )


def test_the_best_head_is_the_trial_that_validation_prefers(sample: Repository) -> None:
    trials = pd.read_csv(sample.folder / "plots/tune_head/trials.csv")
    best = json.loads((sample.folder / "models/best_head.json").read_text())
    assert trials.loc[trials.val_accuracy == trials.val_accuracy.max(), list(best)].eq(best).all(axis=1).any()


def test_the_chosen_coefficients_are_those_that_validation_can_tell_apart_or_the_papers(sample: Repository) -> None:
    table = pd.read_csv(sample.folder / "plots/scaling_search/candidates.csv")
    chosen = json.loads((sample.folder / "models/coefficients.json").read_text())
    found, names = metrics(sample, "scaling_search"), ["alpha", "beta", "gamma"]
    assert len(table) == found["candidates"] > 1
    if chosen["chosen_by"] == "chance":
        row = table[table.val_accuracy == table.val_accuracy.max()]
        assert [chosen[name] for name in names] == [1.2, 1.1, 1.15]
    else:
        assert (chosen["chosen_by"] == "validation") == (found["tied"] == 1)
        row = table[table[names].eq([chosen[name] for name in names]).all(axis=1)]
    assert found["val"]["accuracy"] in row.val_accuracy.tolist()


@pytest.mark.parametrize("arm", ARMS)
def test_predictions_of_each_seed_recompute_an_arms_metrics(sample: Repository, arm: str) -> None:
    from src.base import artifacts, splits

    stored = artifacts.load(sample.folder / f"data/predictions/scaling_ablation/{arm}.pt")
    curve = pd.read_csv(sample.folder / f"plots/scaling_ablation/{arm}.csv")
    assert list(stored["logits"]) == ["seed 0", "seed 1"]
    assert curve.groupby("seed").epoch.agg(list).to_dict() == dict.fromkeys((0, 1), sorted(set(curve.epoch)))
    for split in ("val", "test"):
        rows = stored["split"] == splits.SPLITS.index(split)
        hits = pd.Series(
            (logits.argmax(1) == stored["label"])[rows].double().mean().item() for logits in stored["logits"].values()
        )
        found = metrics(sample, f"scaling_ablation@{arm}")[split]
        assert (found["accuracy"], found["accuracy_std"]) == pytest.approx((hits.mean(), hits.std()))


@pytest.mark.parametrize("entry", ENTRIES)
def test_predictions_of_the_probe_recompute_an_entrys_metrics(sample: Repository, entry: str) -> None:
    from src.base import artifacts, splits

    stored = artifacts.load(sample.folder / f"data/predictions/compare_backbones/{entry}.pt")
    found, chance = metrics(sample, f"compare_backbones@{entry}"), 0.1
    for split in ("val", "test"):
        rows = stored["split"] == splits.SPLITS.index(split)
        hits = (stored["logits"]["probe"].argmax(1) == stored["label"])[rows].double().mean().item()
        assert hits == found[split]["accuracy"] > 5 * chance
    path = pd.read_csv(sample.folder / f"plots/compare_backbones/{entry}.csv")
    assert path.converged.all()
    assert found["val"]["accuracy"] == path.val_accuracy.max()
    record = json.loads((sample.folder / f"data/runs/compare_backbones/{entry}.json").read_text())["facts"]
    assert record["pretraining"] == "Tiny-ImageNet-200"
    assert record["images_per_second"] > 0


def test_the_compound_arm_of_the_sample_is_the_candidate_that_the_search_chose(sample: Repository) -> None:
    """At phi = 1, that is; or the paper's coefficients, where none was above chance."""
    if json.loads((sample.folder / "models/coefficients.json").read_text())["chosen_by"] == "chance":
        compound = metrics(sample, "scaling_ablation@compound")
        assert (compound["depth"], compound["width"]) == (1.2, 1.1)
        return
    table = pd.read_csv(sample.folder / "plots/scaling_search/candidates.csv").set_index(["alpha", "beta", "gamma"])
    chosen = metrics(sample, "scaling_search")
    row = table.loc[tuple(chosen[name] for name in table.index.names)]
    compound = metrics(sample, "scaling_ablation@compound")
    for name in ("depth", "width", "resolution", "parameters", "multiply_adds"):
        assert compound[name] == row[name]


@pytest.mark.parametrize("stage", [stage for stage in STAGES if PIPELINE[stage.partition("@")[0]].get("metrics")])
def test_metrics_are_few_numbers_and_at_most_two_deep(sample: Repository, stage: str) -> None:
    """Anything longer makes `dvc metrics diff` and `dvc exp show` unreadable."""
    found = metrics(sample, stage)
    leaves = [leaf for value in found.values() for leaf in (value.values() if isinstance(value, dict) else [value])]
    assert all(isinstance(leaf, int | float) for leaf in leaves)
    assert len(leaves) <= 13, "its answer, and twelve more"


def test_each_stage_of_the_sample_says_what_begins_and_ends_with_its_answer(sample: Repository) -> None:
    text = said_by(sample).read_text()
    for stage in STAGES:
        said = text.partition(f"Running stage '{stage}':\n")[2].partition("Running stage '")[0].splitlines()
        own = [line for line in said if line.startswith(f"{stage}: ")]
        assert said.index(own[0]) == 1, "after DVC's line of the command"
        assert re.search(r", [\d.]+ (s|min|h)$", own[-1])
    score = metrics(sample, "finetune")
    best = f"finetune: {100 * score['test']['accuracy']:.1f} % on test, epoch {score['best_epoch']} kept, "
    assert best in text
    assert "\nreport: the page is reports/report.html, " in text


def test_every_line_of_the_sample_fits_a_terminal_of_80_columns(sample: Repository) -> None:
    lines = said_by(sample).read_text().splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_repro_after_the_sample_runs_nothing(sample: Repository) -> None:
    assert sample.repro() == []


def tracked(sample: Repository) -> dict[str, Any]:
    """Every MLflow run of the sample and what was tried after it, by name."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sample.folder / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_two_experiments_have_one_complete_mlflow_run_each(sample: Repository, gentle: str) -> None:
    assert gentle
    found = {name: run for name, run in tracked(sample).items() if "mlflow.parentRunId" not in run.data.tags}
    assert set(found) == {"sample", "gentle"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    for run in found.values():
        for stage in ("baseline", "scaling_ablation@width"):
            for split, scores in metrics(sample, stage).items():
                for name, value in scores.items() if isinstance(scores, dict) else ():
                    assert run.data.metrics[f"{stage.replace('@', '/')}/{split}/{name}"] == value
        assert [each.dataset.name for each in run.inputs.dataset_inputs] == ["digits"]
        assert "dvc exp run -n " in run.data.tags["mlflow.note.content"]
    assert len({run.inputs.dataset_inputs[0].dataset.digest for run in found.values()}) == 1
    rates = [found[name].data.params["lr"] for name in ("sample", "gentle")]
    assert rates[0] != rates[1] == "0.001"
    accuracies = [found[name].data.metrics["finetune/test/accuracy"] for name in ("sample", "gentle")]
    assert accuracies[0] == metrics(sample, "finetune")["test"]["accuracy"] != accuracies[1]
    for run in found.values():  # gentle's frozen backbone is restored
        own = run.data.metrics
        assert {"train_frozen/epoch/val_accuracy", "finetune/epoch/val_accuracy"} <= own.keys()
        assert own["answer/finetuned"] == own["finetune/test/accuracy"]
        for score in ("answer/frozen", "answer/finetuned", "answer/gain", "finetune/gain"):
            assert own[f"{score}_low"] <= own[score] <= own[f"{score}_high"]
        assert own["answer/gain"] == pytest.approx(own["answer/finetuned"] - own["answer/frozen"])


def test_stages_trials_arms_and_seeds_are_nested_below_the_mlflow_run_of_their_experiment(
    sample: Repository, gentle: str
) -> None:
    assert gentle
    found = tracked(sample)
    parents = {name: run.data.tags.get("mlflow.parentRunId") for name, run in found.items()}
    below = {
        name: {child for child, parent in parents.items() if parent == run.info.run_id} for name, run in found.items()
    }
    assert below["sample"] == {f"{stage} sample" for stage in STAGES}
    assert below["gentle"] == {f"{stage} gentle" for stage in ran(gentle)}
    assert below["tune_head sample"] == {f"tune_head sample trial {number:02d}" for number in range(4)}
    for arm in ARMS:
        stage = f"scaling_ablation@{arm} sample"
        assert below[stage] == {f"{stage} seed {seed:02d}" for seed in (0, 1)}
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_the_scores_of_mlflows_trials_are_those_of_trials_csv_and_epochs_have_times_of_their_own(
    sample: Repository,
) -> None:
    from mlflow import MlflowClient

    found, trials = tracked(sample), pd.read_csv(sample.folder / "plots/tune_head/trials.csv")
    for row in trials.itertuples():
        logged = found[f"tune_head sample trial {row.trial:02d}"].data.metrics
        assert logged["tune_head/trial/val/accuracy"] == row.val_accuracy
        assert (
            logged["tune_head/trial/val/accuracy_low"] < row.val_accuracy <= logged["tune_head/trial/val/accuracy_high"]
        )
    client = MlflowClient(f"sqlite:///{sample.folder / 'mlflow.db'}")
    stage = found["finetune sample"].info
    curve = pd.read_csv(sample.folder / "plots/finetune/curves.csv")
    points = client.get_metric_history(stage.run_id, "finetune/epoch/val_accuracy")
    assert [(p.step, p.value) for p in points] == [*zip(curve.epoch, curve.val_accuracy, strict=True)]
    times = [point.timestamp for point in points]
    assert stage.start_time < times[0] < times[-1] < stage.end_time
    assert times == sorted(set(times))


def test_the_page_its_figures_and_the_predictions_are_artifacts_of_an_experiment(sample: Repository) -> None:
    folder = Path(unquote(urlsplit(tracked(sample)["sample"].info.artifact_uri).path))
    assert (folder / "reports/report.html").read_bytes() == (sample.folder / "reports/report.html").read_bytes()
    assert {path.name for path in folder.glob("reports/*.svg")} == {p.name for p in sample.folder.glob("reports/*.svg")}
    table = pd.read_csv(folder / "reports/predictions.csv")
    score = metrics(sample, "finetune")["test"]["accuracy"]
    assert (table.actual == table.finetuned).mean() == score
