"""Recipes: whole sets of values for params.yaml, applied here by DVC's own code, as `dvc exp run -S` applies them."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from recipes import run
from src import params

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.txt"))


def applied(recipes: list[Path], folder: Path) -> params.Params:
    """params.yaml after the recipes, one upon the other."""
    shutil.copy(ROOT / "params.yaml", folder)
    for recipe in recipes:
        apply_overrides(folder / "params.yaml", run.overrides(recipe))
    return params.load(folder / "params.yaml")


def keys(recipe: Path) -> list[str]:
    return [line.split("=")[0] for line in run.overrides(recipe)]


def test_the_sample_and_the_quick_study_are_recipes():
    assert {"sample", "cifar10_quick"} <= {recipe.stem for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_gives_params_that_load(recipe, tmp_path):
    assert applied([recipe], tmp_path).report.title in "".join(run.overrides(recipe))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_one_experiment_and_no_sweep(recipe):
    assert len(get_hydra_sweeps({"params.yaml": run.overrides(recipe)})) == 1


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_names_each_key_once_and_every_key_that_any_recipe_names(recipe):
    assert sorted(keys(recipe)) == sorted({key for other in RECIPES for key in keys(other)})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_nothing_of_another_recipe_stays(recipe, tmp_path):
    alone = applied([recipe], tmp_path)
    for other in RECIPES:
        assert applied([other, recipe], tmp_path) == alone


def test_the_sample_needs_no_network_and_ships_its_weights(tmp_path):
    sample = applied([ROOT / "recipes/sample.txt"], tmp_path)
    assert sample.dataset.name == "digits"
    assert sample.backbone.name == "efficientnet_pico"
    assert (ROOT / sample.backbone.weights).is_file()
    assert not sample.augment.flip  # a mirrored 3 is no digit


def test_the_quick_study_is_of_all_cifar10(tmp_path):
    quick = applied([ROOT / "recipes/cifar10_quick.txt"], tmp_path)
    assert (quick.dataset.name, quick.dataset.train_limit) == ("cifar10", None)
    assert (ROOT / quick.backbone.weights).is_file()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_experiment_that_readme_tries_changes_the_learning_rate(recipe, tmp_path):
    assert applied([recipe], tmp_path).lr != 0.001


def test_comments_and_empty_lines_of_a_recipe_are_left_out_and_values_stay_whole(tmp_path):
    (tmp_path / "own.txt").write_text("# lr=1\n\n  lr=0.1\r\nreport.title='a # b, c'\ntune_head.dropout=[0.1, 0.2]")
    assert run.overrides(tmp_path / "own.txt") == ["lr=0.1", "report.title='a # b, c'", "tune_head.dropout=[0.1, 0.2]"]
    assert applied([tmp_path / "own.txt"], tmp_path).report.title == "a # b, c"
