"""Which stages rerun after which change: caching that people can trust, as a table."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.repository import TINY, Repository
from tests.test_pipeline import OBSERVERS, SOURCES

ALL = "download extract_features baseline tune_head train_frozen finetune report"
ON_FEATURES = "baseline tune_head train_frozen"
TRAINING = "tune_head train_frozen finetune"
COMPUTING = f"extract_features {ON_FEATURES} finetune"

# An edit that leaves a stage's outputs as they were (a comment) reruns these, and nothing further down but the report,
# which shows how long they took.
AFTER_EDITING = {
    **{f"stages/{stage}.py": stage for stage in ALL.split()},
    "stages/find_lr.py": "",
    "src/archives.py": "download",
    "src/artifacts.py": ALL,
    "src/augmentation.py": "extract_features finetune",
    "src/averaging.py": TRAINING,
    "src/backbones.py": "extract_features finetune",
    "src/baselines.py": "baseline",
    "src/batches.py": COMPUTING,
    "src/checkpoints.py": TRAINING,
    "src/datasets.py": "download",
    "src/devices.py": COMPUTING,
    "src/distributed.py": COMPUTING,
    "src/downloads.py": "download",
    "src/feature_batches.py": ON_FEATURES,
    "src/features.py": "extract_features",
    "src/findings.py": "report",
    "src/finetuning.py": "finetune",
    "src/head_training.py": "tune_head train_frozen",
    "src/heads.py": f"{ON_FEATURES} finetune",
    "src/image_batches.py": "extract_features finetune",
    "src/image_folders.py": "download",
    "src/metrics.py": f"{ON_FEATURES} finetune",
    "src/mixing.py": TRAINING,
    "src/optimizers.py": TRAINING,
    "src/pages.py": "report",
    "src/parameter_groups.py": TRAINING,
    "src/plots.py": "report",
    "src/policies.py": "extract_features finetune",
    "src/precision.py": "extract_features tune_head train_frozen finetune",
    "src/prefetching.py": "extract_features finetune",
    "src/provenance.py": "report",
    "src/randomness.py": COMPUTING,
    "src/range_test.py": "",
    "src/records.py": TRAINING,
    "src/report.html": "report",
    "src/resuming.py": TRAINING,
    "src/rmsprop.py": TRAINING,
    "src/schedules.py": TRAINING,
    "src/search.py": "tune_head",
    "src/sections.py": "report",
    "src/splitting.py": "download",
    "src/statistics.py": "report",
    "src/steps.py": TRAINING,
    "src/training.py": TRAINING,
    "src/training_loop.py": TRAINING,
    "src/unfreezing.py": "finetune",
    "weights/README.md": "extract_features finetune",
    "data/source/README.md": "download",
    "README.md": "",
    **dict.fromkeys(sorted(OBSERVERS), ""),
}
# A change of results goes on to every stage that reads them.
AFTER_SETTING = {
    "seed=1": COMPUTING,
    "lr=0.001": "finetune",
    "dataset.split_seed=1": f"download extract_features {ON_FEATURES} finetune",
    "backbone.resolution=48": COMPUTING,
    "augment.rotation=5": COMPUTING,
    "features.views=0": COMPUTING,
    "baseline.neighbours=3": "baseline",
    "tune_head.dropout=[0.15]": "tune_head train_frozen finetune",
    "train_frozen.epochs=3": "train_frozen finetune",
    "finetune.weight_decay=0.5": "finetune",
    "report.title=Mine": "",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone with the tiny study committed, its results included."""
    repository = Repository(tmp_path_factory.mktemp("tiny"))
    repository.set_params(TINY)
    assert repository.repro() == ALL.split()
    repository.commit()
    return repository


@pytest.fixture
def edited(sample: Repository, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The sample with an empty line added to one file, for the length of a test, which runs in its folder."""
    monkeypatch.chdir(sample.folder)
    path = sample.folder / request.param
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    yield sample
    path.write_bytes(before)


def changed() -> set[str]:
    """Stages that DVC holds to be out of date by their own deps and params."""
    with Repo() as repo:
        return set(repo.status())


@pytest.mark.parametrize("edited", AFTER_EDITING, indirect=True, ids=str)
def test_an_edit_reruns_the_stages_that_use_the_file(edited: Repository, request: pytest.FixtureRequest) -> None:
    assert edited
    assert changed() == set(AFTER_EDITING[request.node.callspec.id].split())


def test_the_table_names_every_source_file() -> None:
    assert {path for path in AFTER_EDITING if path.endswith(".py")} | {"src/__init__.py", "stages/__init__.py"} == {
        *SOURCES,
        "src/__init__.py",
        "stages/__init__.py",
    }


@pytest.mark.slow
@pytest.mark.parametrize("setting", AFTER_SETTING)
def test_a_setting_reruns_the_stages_whose_inputs_it_changes(tiny: Repository, setting: str) -> None:
    tiny.set_params([setting])
    assert set(tiny.repro()) == {*AFTER_SETTING[setting].split(), "report"}
    restore(tiny)


@pytest.mark.slow
def test_an_edit_that_changes_no_result_stops_there(tiny: Repository) -> None:
    append(tiny.folder / "src/head_training.py", "\n# a comment\n")
    assert set(tiny.repro()) == {"tune_head", "train_frozen", "report"}
    restore(tiny)


@pytest.mark.slow
def test_a_changed_weights_file_reruns_everything_after_the_download(tiny: Repository) -> None:
    from safetensors.torch import load_file, save_file

    path = tiny.folder / "weights/efficientnet_pico_tinyimagenet64.safetensors"
    state = load_file(path)
    state["features.0.0.weight"] *= 1.01
    save_file(state, path)
    assert set(tiny.repro()) == set(ALL.split()) - {"download"}
    restore(tiny)


@pytest.mark.slow
def test_a_changed_image_of_ones_own_reruns_everything(tmp_path: Path) -> None:
    from PIL import Image

    repository = Repository(tmp_path)
    for split, count in (("train", 12), ("test", 4)):
        for shade, name in enumerate(("dark", "bright")):
            for number in range(count):
                path = tmp_path / f"data/source/{split}/{name}/{number:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (100 * shade + 3 * number, 40, 90)).save(path)
    settings = ("dataset.name=folder", "dataset.image_size=32", "dataset.train_limit=null", "dataset.val_fraction=0.25")
    repository.set_params((*TINY, *settings))
    assert repository.repro() == ALL.split()
    Image.new("RGB", (32, 32), (7, 200, 7)).save(tmp_path / "data/source/train/dark/03.png")
    assert set(repository.repro()) == set(ALL.split())


@pytest.mark.slow
def test_two_runs_from_scratch_leave_equal_bytes(tiny: Repository, tmp_path: Path) -> None:
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


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)
