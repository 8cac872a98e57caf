"""Which stages rerun after which change: caching that people can trust, as a table."""

import re
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.builders.repository import ARMS, ENTRIES, ROOT, TINY, Repository, copied, moved, ran
from tests.pipeline.test_pipeline import SOURCES
from tools.deps import OBSERVERS

FOLDERS = [f"{kind}/scaling_ablation" for kind in ("metrics", "plots", "data/predictions", "data/runs")]  # of all arms
ABLATION = " ".join(f"scaling_ablation@{arm}" for arm in ARMS)
SCALING = f"scaling_search {ABLATION}"
COMPARISON = " ".join(f"compare_backbones@{entry}" for entry in ENTRIES)
TUNED = "finetune average_flips explain"
PROBING = "audit data_efficiency"
ON_TEST = f"baseline {PROBING} {COMPARISON}"
TAKEN = f"{TUNED} export"
ALL = f"download extract_features {ON_TEST} tune_head train_frozen {TAKEN} evidence {SCALING} report"
ON_FEATURES = "baseline tune_head train_frozen"
FROZEN = f"extract_features {COMPARISON}"
FROM_WEIGHTS = f"{FROZEN} {TAKEN}"
ON_IMAGES = f"{FROM_WEIGHTS} {SCALING}"
FROM_IMAGES = f"{TUNED} {SCALING}"
IN_BATCHES = f"{FROZEN} {FROM_IMAGES}"
TRAINING = f"tune_head train_frozen {FROM_IMAGES}"
TRANSFER = f"extract_features {ON_FEATURES} {TAKEN}"
STATISTICS = "evidence report"
COMPUTING = f"{TRANSFER} {COMPARISON} {SCALING}"
ON_DEVICE = f"{PROBING} {COMPUTING}"
ON_BATCHES = f"{ON_FEATURES} {IN_BATCHES}"

# An edit that leaves a stage's outputs as they were (a comment) reruns these, and nothing further down but the report,
# which shows how long they took.
AFTER_EDITING = {
    **{f"stages/{stage}.py": stage for stage in ALL.split() if "@" not in stage},
    "stages/scaling_ablation.py": ABLATION,
    "stages/compare_backbones.py": COMPARISON,
    "stages/find_lr.py": "",
    "stages/check.py": "",
    "stages/compare.py": "",
    "stages/starting.py": "",
    "stages/given.py": ALL,
    "src/data/archives.py": "download",
    "src/data/copies.py": "download",
    "src/images/decoding.py": "download",
    "src/data/own_images.py": "download",
    "src/scaling/arithmetic.py": SCALING,
    "src/scaling/arms.py": ABLATION,
    "src/base/artifacts.py": ALL,
    "src/images/augmentation.py": ON_IMAGES,
    "src/training/averaging.py": TRAINING,
    "src/models/backbones.py": FROM_WEIGHTS,
    "src/transfer/baselines.py": "baseline",
    "src/base/batches.py": ON_BATCHES,
    "src/training/checkpoints.py": TRAINING,
    "src/evidence/comparisons.py": "report",
    "src/models/cost.py": f"{COMPARISON} {SCALING}",
    "src/scaling/matching.py": ABLATION,
    "src/data/datasets.py": "download",
    "src/base/devices.py": ON_DEVICE,
    "src/base/distributed.py": ON_BATCHES,
    "src/data/downloads.py": "download",
    "src/models/efficientnet.py": ON_IMAGES,
    "src/models/engines.py": FROZEN,
    "src/models/lite.py": f"{FROM_WEIGHTS} {ABLATION}",
    "src/models/hub.py": f"{FROM_WEIGHTS} {ABLATION}",
    "src/models/pretraining.py": COMPARISON,
    "src/transfer/feature_batches.py": ON_FEATURES,
    "src/transfer/features.py": FROZEN,
    "src/transfer/neighbours.py": f"baseline {COMPARISON}",
    "src/transfer/probe.py": f"{PROBING} {COMPARISON}",
    "src/transfer/comparing.py": COMPARISON,
    "src/figures/style.py": "report",
    "src/figures/labels.py": "report",
    "src/figures/backbones.py": "report",
    "src/report/answer.py": "report",
    "src/report/backbones.py": "report",
    "src/report/bounds.py": "report",
    "src/report/backbone_tables.py": "report",
    "src/report/compared.py": "report",
    "src/report/assessed.py": "report",
    "src/report/certainty.py": "report",
    "src/report/certainty_tables.py": "report",
    "src/transfer/finetuning.py": TUNED,
    "src/transfer/repeats.py": "finetune",
    "src/transfer/flips.py": "average_flips explain",
    "src/transfer/occlusion.py": "explain",
    "src/images/showing.py": "explain",
    "src/evidence/examples.py": "explain report",
    "src/report/pictures.py": "report",
    "src/report/thumbnails.py": "report",
    "src/report/cost.py": "report",
    "src/report/class_sizes.py": "report",
    "src/figures/cost.py": "report",
    "src/transfer/head_training.py": "tune_head train_frozen",
    "src/models/heads.py": f"{ON_FEATURES} {TAKEN}",
    "src/images/image_batches.py": IN_BATCHES,
    "src/data/image_folders.py": "download",
    "src/evidence/intervals.py": f"export {STATISTICS}",
    "src/training/metrics.py": f"{ON_FEATURES} {COMPARISON} {FROM_IMAGES}",
    "src/report/mistakes.py": "report",
    "src/training/mixing.py": TRAINING,
    "src/scaling/networks.py": SCALING,
    "src/report/numbers.py": "report",
    "src/evidence/optimisation.py": "report",
    "src/training/optimizers.py": TRAINING,
    "src/report/pages.py": "report",
    "src/training/parameter_groups.py": TRAINING,
    "src/figures/transfer.py": "report",
    "src/images/policies.py": ON_IMAGES,
    "src/evidence/power.py": "report",
    "src/evidence/holm.py": f"data_efficiency export {STATISTICS}",
    "src/evidence/paired.py": f"data_efficiency export {STATISTICS}",
    "src/evidence/fronts.py": "report",
    "src/training/precision.py": f"{FROZEN} {TRAINING}",
    "src/images/prefetching.py": IN_BATCHES,
    "src/base/proportions.py": f"data_efficiency {COMPARISON} scaling_search export {STATISTICS}",
    "src/report/provenance.py": "report",
    "src/base/ranks.py": ALL,
    "src/base/randomness.py": ON_DEVICE,
    "src/training/rate_finding.py": SCALING,
    "src/scaling/rates.py": SCALING,
    "src/figures/rate.py": "",
    "src/training/tally.py": TRAINING,
    "src/models/references.py": ABLATION,
    "src/report/page.html": "report",
    "src/report/page.md": "report",
    "src/training/resuming.py": f"tune_head train_frozen finetune {SCALING}",
    "src/training/rmsprop.py": TRAINING,
    "src/scaling/equations.py": f"{SCALING} report",
    "src/report/scaling_verdict.py": "report",
    "src/scaling/grid.py": "scaling_search",
    "src/scaling/choosing.py": "scaling_search",
    "src/figures/scaling.py": "report",
    "src/report/study.py": "report",
    "src/scaling/search.py": "scaling_search",
    "src/report/scaling_search.py": "report",
    "src/report/scaling.py": "report",
    "src/training/schedules.py": TRAINING,
    "src/scaling/training.py": SCALING,
    "src/report/scaling_training.py": "report",
    "src/scaling/seeds.py": ABLATION,
    "src/transfer/head_search.py": "tune_head",
    "src/transfer/halving.py": "tune_head",
    "src/transfer/stacked_heads.py": "tune_head",
    "src/transfer/stacked_training.py": "tune_head",
    "src/transfer/trials.py": "tune_head",
    "src/evidence/grid_effects.py": "report",
    "src/figures/head_search.py": "report",
    "src/report/grid_search.py": "report",
    "src/report/head_search.py": "report",
    "src/report/contents.py": "report",
    "src/models/speed.py": ABLATION,
    "src/base/splits.py": ALL.replace(" data_efficiency", ""),
    "src/data/splitting.py": f"download {COMPARISON}",
    "src/base/stage_records.py": ALL,
    "src/evidence/answers.py": STATISTICS,
    "src/evidence/assessment.py": "evidence",
    "src/evidence/options.py": "evidence",
    "src/evidence/questions.py": STATISTICS,
    "src/evidence/repeated.py": f"data_efficiency {STATISTICS}",
    "src/evidence/scores.py": f"export {STATISTICS}",
    "src/evidence/per_class.py": "evidence",
    "src/evidence/means.py": STATISTICS,
    "src/evidence/calibration.py": "evidence export",
    "src/evidence/selective.py": "evidence export",
    "src/figures/calibration.py": "report",
    "src/figures/experiments.py": "",
    "src/evidence/changes.py": "report",
    "src/report/comparison.py": "",
    "src/report/comparison_page.py": "",
    "src/report/comparison_text.py": "",
    "src/report/comparison_words.py": "",
    "src/report/differences.py": "",
    "src/report/experiments.py": "",
    "src/report/flips.py": "",
    "src/report/revisions.py": "",
    "src/report/sides.py": "",
    "src/evidence/audited.py": "report",
    "src/evidence/copied.py": "audit report",
    "src/evidence/auditing.py": "audit",
    "src/evidence/data_efficiency.py": "data_efficiency",
    "src/evidence/power_law.py": "report",
    "src/figures/data_efficiency.py": "report",
    "src/report/data_efficiency.py": "report",
    "src/report/data_efficiency_results.py": "report",
    "src/evidence/doubtful_labels.py": "audit",
    "src/evidence/folds.py": "audit",
    "src/evidence/likeness.py": "audit",
    "src/evidence/near_copies.py": "audit",
    "src/figures/thumbnails.py": "report",
    "src/report/audit.py": "report",
    "src/report/audit_results.py": "report",
    "src/training/steps.py": TRAINING,
    "src/training/fitting.py": TRAINING,
    "src/report/training.py": "report",
    "src/training/loop.py": TRAINING,
    "src/transfer/strategies.py": TUNED,
    **dict.fromkeys(
        (
            *("src/use/answering.py", "src/use/eight_bits.py", "src/use/exporting.py", "src/use/judging.py"),
            *("src/use/licences.py", "src/use/quantising.py", "src/use/timing.py", "src/use/verifying.py"),
        ),
        "export",
    ),
    **dict.fromkeys(
        (
            *("src/base/ports.py", "src/images/encoding.py", "src/use/answers.py", "src/use/demo.py"),
            *("src/use/finding.py", "src/use/nearest.py", "src/use/predict.py", "src/use/register.py"),
            *("src/use/registry.py", "src/use/serve.py", "src/use/served.py", "src/use/showing.py"),
        ),
        "",
    ),
    "src/report/exported.py": "report",
    "src/report/card.py": "report",
    "src/models/weights.py": FROM_WEIGHTS,
    "weights/README.md": FROM_WEIGHTS,
    "data/source/README.md": "download",
    "README.md": "",
    **dict.fromkeys(sorted(OBSERVERS), ""),
}
# A change of results goes on to every stage that reads them (lr: test_stages.py). One candidate leaves a search nothing
# to choose, whatever the seed and the recipe. Which sections a stage tracks, test_pipeline.py holds against its code.
AFTER_SETTING = {
    "seed=1": f"{TRANSFER} {PROBING} evidence {COMPARISON} scaling_search",
    "dataset.split_seed=1": f"download {COMPUTING} {PROBING} evidence",
    "backbone.resolution=48": f"{TRANSFER} {PROBING} evidence",
    "class_weights=balanced": "tune_head train_frozen finetune",  # whose results stay: classes have as many images each
    "tune_head.dropout=[0.15]": f"tune_head train_frozen {TAKEN} evidence",
    "train_frozen.epochs=3": f"train_frozen {TAKEN} evidence",
    "scaling.learning_rate=0.001": SCALING,
    "scaling_search.epochs=0": SCALING,  # now with the paper's coefficients
    "scaling_ablation.epochs=2": ABLATION,
    "comparison.neighbours=3": COMPARISON,
    "evidence.targets=[0.9]": "evidence",
    "audit.folds=3": "audit",
    "data_efficiency.draws=2": "data_efficiency",
    "export.target=0.5": "export",
    "report.title=Mine": "",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, warm_python: Path) -> Repository:
    """A clone with the tiny study committed, its results included."""
    repository = Repository(tmp_path_factory.mktemp("tiny"), warm_python)
    repository.set_params(TINY)
    assert sorted(repository.repro()) == sorted(ALL.split())
    repository.commit()
    return repository


@pytest.fixture(scope="module")
def blamed(sample: Repository) -> dict[str, set[str]]:
    """Of each path that is a dependency, the stages that DVC holds to be out of date for it when every file is edited.

    All files at once: DVC names each that differs, and asking it takes a second. An edit adds an empty line.
    """
    paths = [sample.folder / name for name in AFTER_EDITING]
    before = {path: path.read_bytes() for path in paths}
    for path, content in before.items():
        path.write_bytes(content + b"\n")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(sample.folder)
            with Repo() as repo:
                status = repo.status()
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    found: dict[str, set[str]] = {}
    for stage, reasons in status.items():
        for reason in reasons:
            assert set(reason) == {"changed deps"}
            for name in reason["changed deps"]:
                found.setdefault(name, set()).add(stage)
    return found


def test_only_what_the_table_names_was_edited(blamed: dict[str, set[str]]) -> None:
    files = {name for name in blamed if not (ROOT / name).is_dir()}
    assert files <= set(AFTER_EDITING)
    assert set(blamed) - files == {"weights", "data/source"}


@pytest.mark.parametrize("path", AFTER_EDITING)
def test_an_edit_reruns_the_stages_that_use_the_file(blamed: dict[str, set[str]], path: str) -> None:
    """As a dependency of its own, or in a folder that is one."""
    names = {path, str(Path(path).parent)} & set(blamed)
    assert set().union(*(blamed[name] for name in names)) == set(AFTER_EDITING[path].split())


def test_the_table_names_every_source_file() -> None:
    assert {path for path in AFTER_EDITING if path.endswith(".py")} == set(SOURCES)


def test_what_makes_a_folder_a_package_is_empty_and_so_no_dependency() -> None:
    assert [path for path in (ROOT / "src").rglob("__init__.py") if path.read_bytes()] == []


@pytest.mark.slow
@pytest.mark.parametrize("setting", AFTER_SETTING)
def test_a_setting_reruns_the_stages_whose_inputs_it_changes(tiny: Repository, setting: str) -> None:
    tiny.set_params([setting])
    assert set(tiny.repro()) == {*AFTER_SETTING[setting].split(), "report"}
    restore(tiny)


# The arms whose stages run after settings, and the arms that there are then.
CHANGES = {
    "~scaling_arms.width": ([], ["baseline", "compound"]),
    "+scaling_arms.width.epochs=2": (["width"], [*ARMS]),
    "+scaling_arms.resnet50={} +scaling_arms.small_cnn={}": (
        ["resnet50", "small_cnn"],
        [*ARMS, "resnet50", "small_cnn"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", CHANGES)
def test_an_arm_comes_goes_and_changes_alone(tiny: Repository, tmp_path: Path, settings: str) -> None:
    repository = copied(tiny, tmp_path / "study")
    run, arms = CHANGES[settings]
    said = repository.run("dvc", "exp", "run", *(f"--set-param={setting}" for setting in settings.split())).stdout
    assert ran(said) == [*(f"scaling_ablation@{arm}" for arm in run), "report"]
    assert reported(repository) == arms
    for folder in FOLDERS:  # what a dropped arm left stays there
        assert names(repository.folder / folder) == {*ARMS, *arms}


PICO_48 = "{name:efficientnet_pico,weights:weights/efficientnet_pico_tinyimagenet64.safetensors,resolution:48}"
# The entries whose stages run after settings, and those that there are then.
ENTRY_CHANGES = {
    f"+compared_backbones.pico_48={PICO_48}": (["pico_48"], [*ENTRIES, "pico_48"]),
    "compared_backbones.pico_32.resolution=40": (["pico_32"], [*ENTRIES]),
    "~compared_backbones.pico_32": ([], []),
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", ENTRY_CHANGES)
def test_an_entry_of_the_comparison_comes_goes_and_changes_alone(
    tiny: Repository, tmp_path: Path, setting: str
) -> None:
    repository = copied(tiny, tmp_path / "study")
    run, entries = ENTRY_CHANGES[setting]
    said = repository.run("dvc", "exp", "run", f"--set-param={setting}").stdout
    assert ran(said) == [*(f"compare_backbones@{entry}" for entry in run), "report"]
    text = (repository.folder / "reports/report.md").read_text()
    assert re.findall(r"^\| compared_backbones\.(\w+) \|", text, re.MULTILINE) == entries
    assert re.findall(r"^\| compare_backbones@(\w+) \|", text, re.MULTILINE) == entries


@pytest.fixture(scope="module")
def clone(tiny: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A new clone of the committed study, which finds its results where `dvc push` put them; tests copy it."""
    folder = tmp_path_factory.mktemp("clone")
    origin = copied(tiny, folder / "origin")
    origin.run("dvc", "remote", "add", "--default", "store", str(folder / "store"))
    origin.commit()
    origin.run("dvc", "push", "--run-cache")
    origin.run("git", "clone", "--quiet", str(origin.folder), str(folder / "study"))
    return moved(origin, folder / "study")


@pytest.mark.slow
def test_a_fresh_clone_of_committed_results_is_up_to_date_and_pulls_what_a_change_needs(
    clone: Repository, tmp_path: Path
) -> None:
    repository = copied(clone, tmp_path / "study")
    assert ran(repository.run("dvc", "repro", "--allow-missing", "--dry").stdout) == []
    assert ran(repository.run("dvc", "repro", "--pull", "--allow-missing").stdout) == []
    repository.set_params(["report.title=Mine"])
    assert ran(repository.run("dvc", "repro", "--pull").stdout) == ["report"]
    assert reported(repository) == [*ARMS]


@pytest.mark.slow
def test_without_arms_there_still_is_a_report_in_a_fresh_clone(clone: Repository, tmp_path: Path) -> None:
    repository = copied(clone, tmp_path / "study")
    settings = ("--set-param=~scaling_arms", "--set-param=+scaling_arms={}")
    assert ran(repository.run("dvc", "exp", "run", "--pull", *settings).stdout) == ["report"]
    assert reported(repository) == []


@pytest.mark.slow
def test_without_arms_there_is_a_report_where_nothing_ever_ran(tiny: Repository, tmp_path: Path) -> None:
    """In a new repository, which has the other stages' results in DVC's cache."""
    repository = Repository(tmp_path, tiny.python)
    repository.set_params(TINY)
    repository.commit()
    shutil.copytree(tiny.folder / ".dvc/cache", tmp_path / ".dvc/cache")
    said = repository.run("dvc", "exp", "run", "-S", "~scaling_arms", "-S", "+scaling_arms={}").stdout
    assert ran(said) == ["report"]
    assert [names(tmp_path / folder) for folder in FOLDERS] == [set()] * 4
    assert reported(repository) == []


@pytest.mark.slow
def test_an_edit_that_changes_no_result_stops_there(tiny: Repository) -> None:
    append(tiny.folder / "src/transfer/head_training.py", "\n# a comment\n")
    assert set(tiny.repro()) == {"tune_head", "train_frozen", "report"}
    restore(tiny)


@pytest.mark.slow
def test_a_changed_weights_file_reruns_everything_that_starts_from_weights(tiny: Repository) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny.folder / "weights/efficientnet_pico_tinyimagenet64.safetensors"
    state = load_file(path)
    state["features.0.0.weight"] *= 1.01
    save_file(state, path)
    assert set(tiny.repro()) == {*TRANSFER.split(), *PROBING.split(), *COMPARISON.split(), "evidence", "report"}
    restore(tiny)


@pytest.mark.slow
def test_a_changed_image_of_ones_own_reruns_everything(tmp_path: Path, warm_python: Path) -> None:
    from PIL import Image

    repository = Repository(tmp_path, warm_python)
    for split, count in (("train", 12), ("test", 4)):
        for shade, name in enumerate(("dark", "bright")):
            for number in range(count):
                path = tmp_path / f"data/source/{split}/{name}/{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (100 * shade + 3 * number, 40, 90)).save(path)
    settings = ("dataset.name=folder", "dataset.image_size=32", "dataset.train_limit=null", "dataset.val_fraction=0.25")
    repository.set_params((*TINY, *settings, "~scaling_arms.width", "~scaling_arms.compound"))
    stages = sorted(stage for stage in ALL.split() if stage not in ABLATION.split()[1:])
    assert sorted(repository.repro()) == stages
    Image.new("RGB", (32, 32), (7, 200, 7)).save(tmp_path / "data/source/train/dark/03.png")
    assert sorted(repository.repro()) == stages


@pytest.mark.slow
def test_two_runs_from_scratch_leave_equal_bytes(tiny: Repository, tmp_path: Path) -> None:
    """One by a Python that is warm already, the other by a new one each stage."""
    other = Repository(tmp_path)
    other.set_params(TINY)
    other.repro()
    first, second = tiny.results(), other.results()
    assert len(first) > 12
    assert [path for path in first if first[path] != second[path]] == []
    assert set(first) == set(second)


def restore(repository: Repository) -> None:
    """Back to what is committed: every result comes from DVC's run cache, and no stage runs."""
    repository.git("checkout", "--", ".")
    assert repository.repro() == []


def names(folder: Path) -> set[str]:
    """Of the results in `folder`, which need not be there."""
    return {path.stem for path in folder.glob("*") if path.name != ".gitkeep"}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def reported(repository: Repository) -> list[str]:
    """The arms that the report names, the same in its settings, in what was trained and in what each stage took."""
    text = (repository.folder / "reports/report.md").read_text()
    trained = text.partition("| Arm | d | w |")[2].partition("\n\n")[0]
    settings, rows, times = (
        re.findall(rf"^\| {prefix}(\w+) \|", part, re.MULTILINE)
        for prefix, part in ((r"scaling_arms\.", text), ("", trained), ("scaling_ablation@", text))
    )
    assert settings == rows == times
    return settings
