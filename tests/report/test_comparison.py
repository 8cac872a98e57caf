"""Experiments side by side: what is paired, what is refused and why, which are one group, and what differs."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from src.report import comparison, differences, experiments, sides
from src.report.comparison import Pairing
from tests.builders.experiments import PARAMS, experiment, revision


def paired(*all_of_them: experiments.Experiment) -> list[Pairing]:
    return comparison.compare(sides.grouped(all_of_them))


def right(of: experiments.Experiment, stage: str, split: int = 2) -> np.ndarray:
    """By hand, from the file."""
    stored = of.predictions(stage)
    (logits,) = stored["logits"].values()
    return (logits.argmax(1) == stored["label"])[stored["split"] == split].numpy()


def changed(**what: Any) -> experiments.Experiment:
    return experiment("gentle", params={"lr": 0.001}, **what)


def test_an_accuracy_that_changed_is_paired_by_image_and_the_images_that_flipped_are_named() -> None:
    first, second = experiment(), changed(shares={"finetuned": 0.9}, luck=1)
    (found,) = paired(first, second)
    one, other = right(first, "finetune"), right(second, "finetune")
    assert found.main is not None
    assert found.flips is not None
    assert (found.main.stage, found.main.leaf) == ("finetune", "test.accuracy")
    assert found.main.change.first == one.mean()
    assert found.main.change.second == other.mean()
    assert set(found.flips.gained) == set(np.flatnonzero(other & ~one))
    assert set(found.flips.lost) == set(np.flatnonzero(one & ~other))
    assert found.main.change.alone == (len(found.flips.lost), len(found.flips.gained))
    raw = {
        stage: stats.binomtest(int((a & ~b).sum()), int((a ^ b).sum())).pvalue
        for stage in ("train_frozen", "finetune")
        for a, b in [(right(first, stage), right(second, stage))]
    }
    assert raw["finetune"] < raw["train_frozen"]
    assert found.main.change.p_value == pytest.approx(2 * raw["finetune"])


def test_validation_and_losses_have_intervals_of_their_own_and_no_p() -> None:
    (found,) = paired(experiment(), changed(shares={"finetuned": 0.9}))
    by_leaf = {row.leaf: row.change for row in found.rows if row.stage == "finetune"}
    for leaf in ("val.accuracy", "val.loss", "test.loss"):
        assert by_leaf[leaf].p_value is None
        assert by_leaf[leaf].low < by_leaf[leaf].difference < by_leaf[leaf].high


def test_a_stage_that_did_not_run_again_is_equal_and_no_test() -> None:
    (found,) = paired(experiment(), changed(shares={"finetuned": 0.9}))
    assert {row.stage for row in found.rows} == {"finetune"}
    assert [row.stage for row in found.tested] == ["finetune"]
    assert found.equal == 3 + 7 + 1  # images, all of train_frozen, best_epoch


def with_neighbours(name: str, share: float, **what: Any) -> experiments.Experiment:
    return experiment(name, baselines={"nearest_mean": 0.6, "nearest_neighbours": share}, **what)


def test_the_answer_is_about_the_baseline_where_nothing_else_was_tested() -> None:
    first, second = with_neighbours("sample", 0.7), with_neighbours("gentle", 0.9)
    (found,) = paired(first, second)
    assert found.main is not None
    assert found.flips is not None
    assert (found.main.stage, found.main.leaf, found.main.change.settled) == (
        "baseline",
        "test.nearest_neighbours",
        True,
    )
    assert found.main.change.alone == (len(found.flips.lost), len(found.flips.gained))
    (other,) = paired(first, with_neighbours("gentle", 0.9, shares={"finetuned": 0.81}))
    assert other.main is not None
    assert other.main.stage == "finetune"


def test_a_method_that_named_the_same_classes_is_equal_and_no_test_though_its_file_is_another() -> None:
    (found,) = paired(with_neighbours("sample", 0.7), with_neighbours("gentle", 0.72))
    assert [row.leaf for row in found.tested] == ["test.nearest_neighbours"]
    (row,) = found.tested
    lost, gained = row.change.alone or (0, 0)
    assert lost + gained > 0
    assert row.change.p_value == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)


def test_as_many_right_but_others_is_a_difference_of_nothing_with_its_images() -> None:
    first = experiment(shares={"frozen": 0.7, "finetuned": 0.8})
    same = next(
        each
        for luck in range(1, 200)
        if right(each := changed(luck=luck), "finetune").sum() == right(first, "finetune").sum()
    )
    (found,) = paired(first, same)
    assert found.main is not None
    assert found.flips is not None
    assert (found.main.change.difference, found.main.change.settled) == (0.0, False)
    assert len(found.flips.gained) == len(found.flips.lost) > 0


def test_one_against_several_is_corrected_for_all_of_them() -> None:
    alone = paired(experiment(), changed(shares={"finetuned": 0.9}))[0].main
    others = [experiment(f"e{i}", params={"lr": i}, shares={"finetuned": 0.75 + i / 50}) for i in range(3)]
    several = paired(experiment(), changed(shares={"finetuned": 0.9}), *others)
    assert [each.second.name for each in several] == ["gentle", "e0", "e1", "e2"]
    assert {each.first.name for each in several} == {"sample"}
    assert several[0].main.change.p_value == pytest.approx(4 * alone.change.p_value)
    assert several[0].main.change.low < alone.change.low


REFUSED = {
    "other classes": (
        {"classes": ("zero", "one")},
        "sample and gentle have other classes (10 and 2) in train, val and test: numbers alone, no interval, no images "
        "there",
    ),
    "another split": (
        {"images": "other", "params": {"dataset": PARAMS["dataset"] | {"split_seed": 1}}},
        "sample and gentle have other images (dataset.split_seed) in train, val and test: numbers alone, no interval, "
        "no images there",
    ),
    "another source": (
        {"images": "other", "params": {"dataset": PARAMS["dataset"] | {"source": "mine.zip"}}},
        "sample and gentle have other images (dataset.source) in train, val and test: numbers alone, no interval, no "
        "images there",
    ),
    "a stage is missing": (
        {"without": ("finetune",)},
        "gentle has no finetune, which sample has: not compared",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_compared_is_refused_in_one_line_and_the_rest_is_compared(why: str) -> None:
    what, line = REFUSED[why]
    (found,) = paired(experiment(), experiment("gentle", shares={"frozen": 0.6, "finetuned": 0.7}, **what))
    assert found.refused == [line]
    stages = {row.stage for row in found.rows}
    if why == "a stage is missing":
        assert stages == {"train_frozen"}
        assert found.main.stage == "train_frozen"
    else:
        assert stages == {"train_frozen", "finetune"}
        assert (found.main, found.flips) == (None, None)
        assert {(row.change.low, row.change.p_value) for row in found.rows} == {(None, None)}


def test_the_same_images_at_another_stored_size_are_paired_but_not_those_it_trained_on() -> None:
    larger = {"dataset": PARAMS["dataset"] | {"image_size": 16}}
    (found,) = paired(experiment(), experiment("gentle", images="larger", params=larger, shares={"finetuned": 0.9}))
    assert found.refused == [
        "sample and gentle have other images (another split) in train: numbers alone, no interval, no images there"
    ]
    assert found.main.change.over == "images"


def test_predictions_that_no_cache_has_leave_the_numbers() -> None:
    lost = revision("gentle", params={"lr": 0.001}, shares={"finetuned": 0.9})
    del lost.files["data/predictions/finetune.pt"]
    (found,) = paired(experiment(), experiments.read(lost))
    path = "data/predictions/finetune.pt"
    assert found.refused == [f"gentle: {path} is in no cache, so finetune has no interval; `dvc pull` may bring it"]
    assert (found.main, {row.change.low for row in found.rows}) == (None, {None})


@pytest.mark.parametrize("side", [0, 1])
def test_metrics_that_are_not_there_are_said_and_not_called_equal(side: int) -> None:
    both = [revision("sample"), revision("gentle")]
    for stage in ("finetune", "train_frozen"):
        del both[side].files[f"metrics/{stage}.json"]
    (found,) = paired(*map(experiments.read, both))
    assert found.refused == [
        f"{both[side].name}: its dvc.lock has metrics of train_frozen and finetune that are not there: not compared; "
        "`git add dvc.lock metrics` before a commit keeps both"
    ]
    assert (list(found.rows), found.uncompared) == ([], ["train_frozen", "finetune"])


def test_metrics_that_predictions_do_not_give_have_no_interval() -> None:
    other = revision("gentle", params={"lr": 0.001}, shares={"finetuned": 0.9})
    other.files["metrics/finetune.json"] = '{"test": {"accuracy": 0.123}}'
    (found,) = paired(experiment(), experiments.read(other))
    assert {(row.leaf, row.change.low) for row in found.rows} == {("test.accuracy", None)}


def seeds(name: str, reached: dict[int, float], **params: Any) -> list[experiments.Experiment]:
    return [
        experiment(f"{name}{seed}", params={"seed": seed, **params}, shares={"finetuned": share}, luck=seed)
        for seed, share in reached.items()
    ]


def test_experiments_that_differ_in_seed_alone_are_one_side_over_their_seeds() -> None:
    cold, hot = seeds("cold", {0: 0.7, 1: 0.75, 2: 0.72}), seeds("hot", {0: 0.8, 1: 0.83, 2: 0.85}, lr=0.1)
    (found,) = paired(cold[0], hot[0], *cold[1:], *hot[1:])
    assert (found.first.label, found.second.label) == ("cold0 (seeds 0, 1 and 2)", "hot0 (seeds 0, 1 and 2)")
    before, after = ([right(each, "finetune").mean() for each in own] for own in (cold, hot))
    main = found.main.change
    assert (main.first, main.second, main.over) == (
        pytest.approx(np.mean(before)),
        pytest.approx(np.mean(after)),
        "seeds",
    )
    test = stats.ttest_rel(after, before)
    assert (main.low, main.high) == pytest.approx(tuple(test.confidence_interval()))
    mostly = [np.mean([right(each, "finetune") for each in own], axis=0) > 0.5 for own in (cold, hot)]
    assert set(found.flips.gained) == set(np.flatnonzero(mostly[1] & ~mostly[0]))


def test_seeds_alone_are_compared_one_by_one_and_their_group_is_named() -> None:
    own = seeds("s", {0: 0.7, 1: 0.75, 2: 0.72})
    assert [each.label for each in sides.grouped(own)] == ["s0", "s1", "s2"]
    assert [each.label for each in sides.seed_groups(own)] == ["s0 (seeds 0, 1 and 2)"]


@pytest.mark.parametrize("what", [{"params": {"lr": 1.0, "seed": 1}}, {"code": "edited", "params": {"seed": 1}},
                                  {"images": "other", "params": {"seed": 1}}])  # fmt: skip
def test_another_value_other_code_or_other_images_is_no_seed(what: dict[str, Any]) -> None:
    assert sides.seed_groups([experiment(), experiment("other", **what)]) == []


def test_arms_are_compared_over_their_own_seeds() -> None:
    arms = ({"width": {0: 0.6, 1: 0.65, 2: 0.62}}, {"width": {0: 0.7, 1: 0.78, 2: 0.72}})
    (found,) = paired(experiment(arms=arms[0]), changed(arms=arms[1]))
    assert found.main.stage == "scaling_ablation@width"
    test = stats.ttest_rel(list(arms[1]["width"].values()), list(arms[0]["width"].values()))
    assert found.main.change.p_value == pytest.approx(test.pvalue)
    assert (found.main.change.low, found.main.change.high) == pytest.approx(tuple(test.confidence_interval()))


def test_what_differs_is_named_with_its_stages() -> None:
    first, second = sides.grouped([experiment(), changed(code="edited", images="other")])
    assert [(d.what, d.sides) for d in differences.parameters([first, second])] == [("lr", ["0.003", "0.001"])]
    (edited,) = differences.code([first, second])
    assert (edited.what, list(edited.sides), list(edited.stages)) == (
        "stages/finetune.py",
        ["code", "edited"],
        ["finetune"],
    )
    assert [each.what for each in differences.data([first, second])] == [
        f"data/images/{split}.pt" for split in ("train", "val", "test")
    ]
    assert differences.versions([first, second]) == []


def test_another_version_and_device_are_named() -> None:
    other = revision("gentle")
    for stage, old, new in (("finetune", '"cpu"', '"cuda"'), ("finetune", "2.15.0", "2.16.0")):
        path = f"data/runs/{stage}.json"
        other.files[path] = other.files[path].replace(old, new)
    rows = differences.versions(sides.grouped([experiment(), experiments.read(other)]))
    assert [(row.what, list(row.sides)) for row in rows] == [
        ("torch", ["2.15.0", "2.15.0, 2.16.0"]),
        ("device", ["cpu", "cpu, cuda"]),
    ]


def test_results_of_other_values_than_params_yaml_has_are_said() -> None:
    behind = revision("gentle", params={"lr": 0.001})
    behind.files["dvc.lock"] = behind.files["dvc.lock"].replace('"lr": 0.001', '"lr": 0.5')
    (line,) = differences.stale(experiments.read(behind))
    assert line.startswith("gentle: lr is another in params.yaml now than download, baseline, ")
    assert differences.stale(experiment()) == []


def test_a_revision_without_results_is_refused() -> None:
    empty = revision("main")
    del empty.files["dvc.lock"]
    with pytest.raises(ValueError, match=r"^main has no results: no dvc\.lock is committed there; allowed: "):
        experiments.read(empty)


def test_stages_that_ran_nowhere_are_said_once() -> None:
    without = {"without": ("baseline", "train_frozen")}
    assert comparison.refusals([experiment(**without), changed(**without)]) == [
        "baseline and train_frozen ran nowhere: not compared"
    ]
    assert comparison.refusals([experiment(**without), changed()]) == []


def test_flips_come_with_what_changed_most_first() -> None:
    (found,) = paired(experiment(), changed(shares={"finetuned": 0.9}))
    losses = [
        sides.Side(members=[each]).scored("finetune", "test.accuracy")[0].losses
        for each in (experiment(), changed(shares={"finetuned": 0.9}))
    ]
    eased = [float((losses[0] - losses[1])[i]) for i in found.flips.gained]
    assert all(a >= b for a, b in pairwise(eased))
    assert len(eased) > 3
