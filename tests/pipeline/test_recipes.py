"""Recipes: whole sets of values for params.yaml, applied here by DVC's own code, as `dvc exp run -S` applies them."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from recipes import run
from src.interface import checking, params
from src.scaling import matching
from src.scaling.equations import PAPER
from tests.builders.repository import IDENTITY
from tools import experiment

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.txt"))
SCALING = {"sample", "five_arms", "cifar10_whole"}
TRANSFER = ("lr", "backbone", "augment", "features", "tune_head", "train_frozen", "finetune")
COMPARED = ("inference", "comparison", "compared_backbones")
SCALED = ("augment", "scaling", "scaling_search", "scaling_ablation", "scaling_arms")


def applied(recipes: list[Path], folder: Path) -> params.Params:
    """params.yaml after the recipes, one upon the other."""
    shutil.copy(ROOT / "params.yaml", folder)
    for recipe in recipes:
        apply_overrides(folder / "params.yaml", run.overrides(recipe))
    return params.load(folder / "params.yaml")


@cache
def loaded(name: str) -> params.Params:
    """params.yaml after one recipe alone."""
    with TemporaryDirectory() as folder:
        return applied([ROOT / f"recipes/{name}.txt"], Path(folder))


def values(section: Any, **named: Any) -> dict[str, Any]:
    """What `section` has where `named` has something."""
    return {name: getattr(section, name) for name in named}


def keys(recipe: Path) -> list[str]:
    return [line.split("=")[0] for line in run.overrides(recipe)]


def test_the_sample_and_the_quick_study_are_recipes():
    assert {"sample", "cifar10_quick"} <= {recipe.stem for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_gives_params_that_load(recipe):
    assert loaded(recipe.stem).report.title in "".join(run.overrides(recipe))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_one_experiment_and_no_sweep(recipe):
    assert len(get_hydra_sweeps({"params.yaml": run.overrides(recipe)})) == 1


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_names_each_key_once_and_only_what_it_changes(recipe):
    assert len(keys(recipe)) == len(set(keys(recipe)))
    committed = dict(run._leaves(checking.parse((ROOT / "params.yaml").read_bytes(), "params.yaml")))
    for key, _, value in (line.partition("=") for line in run.overrides(recipe) if line[0] not in "+~"):
        said = checking.parse(f"said: {value}".encode(), recipe)["said"]
        assert said != committed[key], f"{key} is what params.yaml has anyway"


def test_every_recipe_has_a_title_of_its_own():
    assert len({loaded(recipe.stem).report.title for recipe in RECIPES}) == len(RECIPES)


def test_the_sample_needs_no_network_and_ships_its_weights():
    sample = loaded("sample")
    assert sample.dataset.name == "digits"
    assert sample.backbone.name == "efficientnet_pico"
    assert (ROOT / sample.backbone.weights).is_file()
    assert not sample.augment.flip  # a mirrored 3 is no digit


def test_the_quick_study_is_of_all_cifar10():
    quick = loaded("cifar10_quick")
    assert (quick.dataset.name, quick.dataset.train_limit) == ("cifar10", None)
    assert (ROOT / quick.backbone.weights).is_file()


def test_the_sample_has_three_arms_of_two_seeds_whatever_its_search_chooses():
    cfg = loaded("sample")
    assert (list(cfg.scaling_arms), cfg.scaling_ablation.seeds) == (["baseline", "width", "compound"], (0, 1))
    assert (cfg.scaling_ablation.match, cfg.scaling_ablation.phi) == ("phi", 1.0)


@pytest.mark.parametrize("recipe", sorted({recipe.stem for recipe in RECIPES} - SCALING))
def test_a_transfer_study_leaves_the_scaling_study_out(recipe):
    cfg = loaded(recipe)
    assert (cfg.scaling_arms, cfg.scaling_search.epochs) == ({}, 0)


def test_the_five_arms_are_the_plan_that_the_page_on_results_has():
    cfg = loaded("five_arms")
    assert list(cfg.scaling_arms) == ["baseline", *matching.SCALED]
    assert (cfg.scaling_ablation.match, cfg.scaling_ablation.seeds) == ("multiply_adds", (0, 1, 2))
    assert (cfg.scaling.learning_rate, cfg.scaling.zero_init, cfg.scaling_search.epochs) == ("auto", True, 0)
    plans = matching.plan_arms(cfg.scaling, cfg.scaling_ablation, PAPER, classes=10)  # refused where one cannot be met
    assert list(plans) == list(cfg.scaling_arms)


WHOLE = {
    "cifar10": {"cifar10_lite0": TRANSFER, "backbones_cifar10": COMPARED, "five_arms": SCALED},
    "cifar100": {"cifar100_lite0": (*TRANSFER, *SCALED), "backbones_cifar100": COMPARED},
}


@pytest.mark.parametrize("dataset", WHOLE)
def test_a_whole_study_is_the_studies_that_it_puts_into_one_page(dataset):
    whole = loaded(f"{dataset}_whole")
    for recipe, sections in WHOLE[dataset].items():
        for section in ("dataset", *sections):
            assert getattr(whole, section) == getattr(loaded(recipe), section), (recipe, section)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_experiment_that_readme_tries_changes_the_learning_rate(recipe):
    assert loaded(recipe.stem).lr != 0.001


@pytest.mark.parametrize("network", ["b0", "b1"])
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_what_we_recommend_is_fine_tuning_at_the_resolution_of_the_weights(dataset, network):
    cfg = loaded(f"{dataset}_{network}")
    assert (cfg.dataset.name, cfg.dataset.train_limit) == (dataset, None)
    assert cfg.backbone == params.Backbone(name=f"efficientnet_{network}", weights="imagenet", resolution="native")
    assert cfg.finetune.head == "trained"


def test_b0_and_b1_are_recommended_alike():
    for dataset in ("cifar10", "cifar100"):
        small, large = (loaded(f"{dataset}_{network}") for network in ("b0", "b1"))
        assert (small.lr, small.augment, small.finetune) == (large.lr, large.augment, large.finetune)


def test_the_study_of_b1_fine_tunes_all_of_it_at_a_tenth_of_the_rate_of_a_tuned_head():
    cfg = loaded("published_b1_tuned_head")
    assert (cfg.dataset.name, cfg.backbone.name, cfg.backbone.weights) == ("cifar10", "efficientnet_b1", "imagenet")
    assert cfg.tune_head.trials > 1
    assert [cfg.lr] == pytest.approx([rate / 10 for rate in cfg.tune_head.learning_rate])
    expected = {"strategy": "full", "head": "trained", "backbone_lr_ratio": 1.0}
    assert values(cfg.finetune, **expected) == expected


def test_the_study_of_b0_with_adam_has_25_epochs_of_batches_of_64():
    cfg = loaded("published_b0_adam")
    assert (cfg.dataset.name, cfg.backbone.name, cfg.backbone.weights) == ("cifar10", "efficientnet_b0", "imagenet")
    expected = {"strategy": "full", "epochs": 25, "batch_size": 64, "optimizer": "adam"}
    assert values(cfg.finetune, **expected) == expected


def test_the_study_of_b0_on_cifar100_from_scratch_has_the_published_settings():
    cfg = loaded("published_b0_scratch_cifar100")
    assert (cfg.dataset.name, cfg.dataset.image_size, cfg.lr) == ("cifar100", 32, 0.1)
    assert cfg.backbone == params.Backbone(name="efficientnet_b0", weights="random", resolution=32)
    expected = {"epochs": 200, "batch_size": 256, "optimizer": "sgd", "weight_decay": 5e-4}
    assert values(cfg.finetune, **expected) == expected


def test_the_study_with_rmsprop_has_35_epochs_and_the_papers_rate_for_its_batch():
    """arXiv:1905.11946, section 5: an initial rate of 0.256, which its code has for batches of 4 096."""
    cfg = loaded("published_b0_scratch_rmsprop")
    assert cfg.backbone == params.Backbone(name="efficientnet_b0", weights="random", resolution="native")
    expected = {"epochs": 35, "optimizer": "rmsprop", "epsilon": 1e-3, "weight_decay": 1e-5}
    assert values(cfg.finetune, **expected) == expected
    assert cfg.lr == pytest.approx(0.256 * cfg.finetune.batch_size / 4096)


@pytest.mark.parametrize("name", ["published_b0_scratch_cifar100", "published_b0_scratch_rmsprop"])
def test_from_scratch_all_weights_are_new_learn_alike_and_little_runs_before(name):
    cfg = loaded(name)
    expected = {"strategy": "full", "head": "new", "backbone_lr_ratio": 1.0}
    assert values(cfg.finetune, **expected) == expected
    assert (cfg.features.views, cfg.tune_head.trials, cfg.tune_head.epochs, cfg.train_frozen.epochs) == (0, 1, 1, 1)
    assert (cfg.tune_head.classifier, cfg.tune_head.dropout) == (("simple",), (0.2,))  # torchvision's own for B0


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_page_on_recipes_has_the_command_of_every_recipe(recipe):
    assert f"make study RECIPE={recipe.stem}`" in (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("figure", ["97.13 %", "86.52 %", "89.45 %", "97.8 %", "86.3 %", "98.1 %", "88.1 %"])
def test_published_figures_stand_in_a_recipe_and_on_the_page(figure):
    assert any(figure in recipe.read_text(encoding="utf-8") for recipe in RECIPES)
    assert figure in (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


def test_the_sample_compares_one_network_at_two_resolutions():
    cfg = loaded("sample")
    assert [(entry.name, entry.resolution) for entry in cfg.compared_backbones.values()] == [
        ("efficientnet_pico", 32),
        ("efficientnet_pico", 64),
    ]


@pytest.mark.parametrize("installed", [True, False])
def test_own_images_and_the_comparison_take_lite0_where_its_weights_are_installed(monkeypatch, installed):
    monkeypatch.setattr(run, "find_spec", lambda module: object() if installed else None)
    base = (ROOT / "params.yaml").read_bytes()
    monkeypatch.chdir(ROOT)
    folder, compared = (params.parse(run.applied(name, base)) for name in ("folder", "backbones"))
    assert folder.backbone.name == ("efficientnet_lite0" if installed else "efficientnet_pico")
    assert (folder.dataset.name, folder.augment.flip, folder.report.title is None) == ("folder", True, False)
    names = {entry.name for entry in compared.compared_backbones.values()}
    assert ("efficientnet_lite2" in names) is installed
    assert "efficientnet_pico" in names


def test_a_recipe_counts_a_part_only_where_all_its_modules_are_installed(monkeypatch, tmp_path):
    (tmp_path / "own.txt").write_text("seed=1\n[if installed: here there]\nlr=2\n[else]\nlr=3\n[end]\nlr=4")
    for there, lines in ((True, ["seed=1", "lr=2", "lr=4"]), (False, ["seed=1", "lr=3", "lr=4"])):
        monkeypatch.setattr(run, "find_spec", lambda name, there=there: name == "here" or there or None)
        assert run.overrides(tmp_path / "own.txt") == lines


def test_the_study_by_resolution_has_eight_for_lite0_and_one_for_each_other_network():
    ten, hundred = loaded("backbones_cifar10"), loaded("backbones_cifar100")
    assert (ten.dataset.name, ten.comparison.train_limit, hundred.dataset.name) == ("cifar10", None, "cifar100")
    sides = {"efficientnet_pico": [64], "efficientnet_lite1": [240], "efficientnet_lite2": [260]}
    sides["efficientnet_lite0"] = [32, 48, 64, 96, 128, 160, 224, 260]
    found = {}
    for entry in ten.compared_backbones.values():
        found.setdefault(entry.name, []).append(entry.resolution)
    assert found == sides
    assert [entry.resolution for entry in hundred.compared_backbones.values()] == [32, 64, 128, 224]
    assert all(
        key == f"{entry.name.removeprefix('efficientnet_')}_{entry.resolution}"
        for cfg in (ten, hundred)
        for key, entry in cfg.compared_backbones.items()
    )


def test_lines_after_a_recipes_name_come_after_its_own(checkout):
    more = ["dataset.name=folder", "dataset.source='/my photos'", "report.title=Mine"]
    cfg = params.parse(run.applied("backbones_cifar10", checkout.read_bytes(), more))
    assert (cfg.dataset.name, cfg.dataset.source, cfg.report.title) == ("folder", "/my photos", "Mine")
    assert len(cfg.compared_backbones) == 11


def test_comments_and_empty_lines_of_a_recipe_are_left_out_and_values_stay_whole(tmp_path):
    (tmp_path / "own.txt").write_text("# lr=1\n\n  lr=0.1\r\nreport.title='a # b, c'\ntune_head.dropout=[0.1, 0.2]")
    assert run.overrides(tmp_path / "own.txt") == ["lr=0.1", "report.title='a # b, c'", "tune_head.dropout=[0.1, 0.2]"]
    assert applied([tmp_path / "own.txt"], tmp_path).report.title == "a # b, c"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with params.yaml and some recipes alone, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    for name in ("sample", "cifar10_quick", "published_b1_tuned_head", "backbones_cifar10", "backbones", "folder"):
        shutil.copy(ROOT / f"recipes/{name}.txt", "recipes")
    for command in (("init", "-q"), ("add", "recipes")):
        git(*command)
    commit((ROOT / "params.yaml").read_bytes())
    return tmp_path / "params.yaml"


def git(*command: str) -> str:
    named = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
    return subprocess.run(["git", *named, *command], check=True, capture_output=True, text=True).stdout


def commit(content: bytes) -> str:
    """Commit params.yaml with `content`; its revision."""
    Path("params.yaml").write_bytes(content)
    git("add", "params.yaml")
    git("commit", "-qm", "params")
    return git("rev-parse", "HEAD").strip()


def edit(path: Path, before: str, after: str) -> bytes:
    content = path.read_text()
    assert content.count(before) == 1
    path.write_text(content.replace(before, after))
    return path.read_bytes()


def refused() -> str:
    """What is said of the edits in params.yaml."""
    with pytest.raises(ValueError, match=r"^params\.yaml has edits that no experiment has") as caught:
        run.refuse_to_lose(run._git("show", "HEAD:params.yaml"))
    return str(caught.value)


def test_a_recipe_starts_from_what_is_committed_and_not_from_the_recipe_before_it(checkout):
    base = commit(edit(checkout, "lr: 5.0e-4", "lr: 7.0e-4")) and checkout.read_bytes()
    checkout.write_bytes(run.applied("sample", base))
    run.refuse_to_lose(base)
    found = params.parse(run.applied("published_b1_tuned_head", base))
    assert (found.dataset.name, found.augment.flip) == ("cifar10", True)
    assert params.parse(run.applied("cifar10_quick", base)).lr == 0.002
    assert params.parse(base).lr == 7e-4


def test_the_comparison_is_of_the_dataset_that_params_yaml_names_now(checkout):
    base = checkout.read_bytes()
    assert params.parse(run.applied("backbones", base)).dataset == params.parse(base).dataset
    checkout.write_bytes(
        run.applied("folder", base, ["dataset.source='/my photos/a \"b\", {c}'", "dataset.bad_files=skip"])
    )
    photographs = params.parse(checkout.read_bytes())
    compared = params.parse(run.applied("backbones", base))
    assert compared.dataset == photographs.dataset
    assert compared.dataset.source == '/my photos/a "b", {c}'
    assert compared.augment == params.parse(base).augment, "nothing else is kept"


@pytest.mark.parametrize("source", ["/home/José/photos", r"C:\photos", "${HOME}/photos", "/it's mine", "2026"])
def test_a_folder_is_kept_whatever_its_name(checkout, source):
    base, _ = checkout.read_bytes(), edit(checkout, "  source: null", f"  source: {json.dumps(source)}")
    assert params.parse(run.applied("backbones", base)).dataset.source == source


def test_an_edit_is_not_lost_to_a_recipe_that_keeps_it(checkout):
    base, _ = checkout.read_bytes(), edit(checkout, "  source: null", "  source: /photos")
    assert "dataset.source=/photos (committed: None)" in refused()
    run.refuse_to_lose(base, run.keeps("recipes/backbones.txt"))
    edit(checkout, "views: 4", "views: 5")
    with pytest.raises(ValueError, match=r"them: features\.views=5 \(committed: 4\); keep"):
        run.refuse_to_lose(base, run.keeps("recipes/backbones.txt"))


@pytest.mark.parametrize("content", ["", "5", "[1]", "dataset: 5"])
def test_params_yaml_without_sections_is_one_line_too(checkout, content):
    base = checkout.read_bytes()
    checkout.write_text(content)
    assert "\n" not in refused()
    if content == "dataset: 5":
        with pytest.raises(ValueError, match=r"^dataset: "):
            run.applied("backbones", base)


def test_edits_that_only_params_yaml_has_are_named_and_kept(checkout):
    before = edit(checkout, "views: 4", "views: 5")
    assert "features.views=5 (committed: 4); keep them (dvc exp run -n NAME), or drop them (git" in refused()
    assert checkout.read_bytes() == before


def test_an_arm_that_comes_or_goes_is_an_edit_too(checkout):
    edit(checkout, "  width: {}\n", "  resnet50: {}\n")
    said = refused()
    assert "scaling_arms.resnet50={} (committed: missing)" in said
    assert "scaling_arms.width=missing (committed: {})" in said


def test_what_an_experiment_has_may_be_overwritten(checkout):
    base, edited = checkout.read_bytes(), edit(checkout, "views: 4", "views: 5")
    revision = commit(edited)
    git("reset", "-q", "--hard", "HEAD~1")
    checkout.write_bytes(edited)
    assert "features.views=5" in refused()
    git("update-ref", "refs/exps/ab/cdef/mine", revision)
    run.refuse_to_lose(base)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("finetune.epoch=5", "finetune.epoch: unknown key; did you mean finetune.epochs?"),
        ("finetune.epochs=none", "finetune.epochs: 'none' is not allowed"),
    ],
)
def test_a_recipe_with_an_unknown_key_or_a_wrong_value_is_one_line(checkout, line, message):
    Path("recipes/own.txt").write_text(f"lr=0.01\n{line}\n")
    with pytest.raises(ValueError, match=rf"^recipes/own\.txt: {re.escape(message)}") as caught:
        run.applied("own", checkout.read_bytes())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["lr", "", "~foo", "lr=1,2", "lr=[1", "lr=range(1,2)", "dataset.source=${HOME}"])
def test_what_is_no_key_and_value_is_named_as_it_was_given(checkout, line):
    said = f"{line!r}: allowed: key=value"
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}"):
        run.applied("sample", checkout.read_bytes(), ["lr=0.1", line])
    if line:
        Path("recipes/own.txt").write_text(f"lr=0.1\n{line}\n")
        with pytest.raises(ValueError, match=rf"^recipes/own\.txt: {re.escape(said)}"):
            run.applied("own", checkout.read_bytes())


def test_a_recipe_is_blamed_for_what_it_says_alone(checkout):
    base = checkout.read_bytes()
    with pytest.raises(ValueError, match=r"^lr: 'abc' is not allowed"):
        run.applied("sample", base, ["lr=abc"])
    with pytest.raises(ValueError, match=r"^lr: 'abc' is not allowed"):
        run.applied("backbones", base.replace(b"lr: 5.0e-4", b"lr: abc"))
    with pytest.raises(ValueError, match=r"^params\.yaml: allowed: no text with \$\{$"):
        run.applied("sample", base.replace(b"source: null", b"source: ${HOME}"))


@pytest.mark.parametrize("arguments", [(), ("nope",), ("--help",), ("../recipes/sample",)])
def test_a_recipe_that_there_is_not_is_one_line_and_those_that_there_are(checkout, arguments):
    said = f'no recipe "{"".join(arguments)}"; allowed: backbones, backbones_cifar10, cifar10_quick, folder, publ'
    with pytest.raises(ValueError, match=rf"^{re.escape(said)}.*, sample$"):
        run.run(*arguments)


PIPELINE = """
stages:
  first:
    cmd: echo first >> ran
    params: [seed]
  second:
    cmd:
      - echo second >> ran
      - git for-each-ref --format='%(refname:lstrip=4)' 'refs/exps/*/*/*' >> seen
      - test ! -e broken
    params: [lr]
"""


@pytest.fixture
def pipeline(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with two stages; they note in `ran` that they ran, and in `seen` which experiments there were."""
    for key, value in (IDENTITY | {"DVC_NO_ANALYTICS": "true"}).items():
        monkeypatch.setenv(key, value)
    Path("dvc.yaml").write_text(PIPELINE)
    Path(".gitignore").write_text("/ran\n/seen\n/broken\n")
    assert experiment.dvc(["init", "--quiet"]) == 0
    git("add", "--all")
    git("commit", "-qm", "pipeline")
    return checkout.parent


def experiments() -> str:
    return git("for-each-ref", "--format=%(objectname) %(refname:lstrip=4)", "refs/exps/*/*/*")


def test_an_experiment_is_replaced_once_all_has_run_and_only_what_changed_runs(pipeline):
    assert run.run("sample") == 0
    before = experiments()
    Path("broken").touch()
    assert run.run("sample", "lr=0.5") != 0
    assert experiments() == before != ""
    assert Path("seen").read_text() == "sample\n", "or a kill would lose it"
    Path("broken").unlink()
    assert run.run("sample", "lr=0.5") == 0
    assert experiments() != before
    assert Path("ran").read_text().split() == ["first", "second", "second", "second"]


def test_a_sweep_replaces_its_experiment_and_runs_only_what_changed(pipeline):
    options = ("--temp", "--name", "same", "--set-param")
    assert [experiment.run(*options, f"++lr={lr}") for lr in (0.5, 0.25)] == [0, 0]
    same = [line for line in experiments().splitlines() if line.endswith(" same")]
    assert "lr: 0.25" in git("show", f"{same[0].split()[0]}:params.yaml")
    assert len(same) == 1
