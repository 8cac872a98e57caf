"""The report's part on scaling: its numbers are the stages', it claims what is settled, and any set of arms has one."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from statistics import fmean

import pytest
from pandas.testing import assert_frame_equal

from src.base import artifacts
from src.evidence import comparisons
from src.interface.scaling_params import Arm
from src.report import contents, pages, provenance, scaling_training, scaling_verdict
from src.report.scaling import ablation
from src.report.study import read_scaling
from tests.builders.report import (
    ARMS,
    SETTINGS,
    Document,
    arm_curve,
    arm_metrics,
    arm_predictions,
    arm_run,
    candidates,
    plain,
    scaling,
    study,
    undrawn,
)

SEEDS = (0, 1, 2)
CHANCES = [0.01, -0.01, 0.0]  # what the luck of each seed adds


def shown(*parts):
    """What the browser sees of these sections."""
    page = pages.Page(title="", answer="", facts="", warnings=[], lead=[], sections=parts)
    return Document(plain(pages.as_html(page)))


def page_of(found, *, drawn=False, **own):
    """The section on the arms of `found`, read from a page; its figures are blank unless they are `drawn`."""
    with nullcontext() if drawn else undrawn():
        return shown(ablation(study(scaled=found, **own)))


def judged(match="multiply_adds", seeds=SEEDS, **means):
    """The verdict on arms of these mean accuracies; every arm's seeds spread by a tenth of a point of their own."""
    luck = {
        arm: [mean + chance * (2 + place) / 20 for chance in CHANCES] for place, (arm, mean) in enumerate(means.items())
    }
    accuracies = {arm: {seed: values[seed] for seed in seeds} for arm, values in luck.items()}
    found = replace(scaling(tuple(means), seeds=seeds), accuracies=accuracies)
    return scaling_verdict.verdict(
        study(scaled=found, scaling_ablation=replace(SETTINGS.scaling_ablation, match=match))
    )


def per_cent(accuracies):
    return f"{100 * fmean(accuracies):.1f} %"


def thousands(number):
    return f"{number:,}".replace(",", " ")


def test_every_number_of_the_arms_is_the_one_that_the_stages_left():
    page = page_of(scaling())
    scale = {row[0]: row[1:] for row in page.table("What was trained")[1:]}
    reached = {row[0]: row[1:] for row in page.table("What it reached")[1:]}
    assert list(scale) == list(reached) == list(ARMS)
    for arm in ARMS:
        found, run = arm_metrics(arm, SEEDS), arm_run(arm, SEEDS).facts
        costs = [thousands(found[key]) for key in ("resolution", "parameters", "activations", "multiply_adds")]
        times = "1.00" if arm == "baseline" else "4.00"
        assert scale[arm] == [f"{found['depth']:.2f}", f"{found['width']:.2f}", *costs, times]
        right = [
            list(comparisons.seed_accuracies(arm_predictions(arm, SEEDS), split).values()) for split in ("val", "test")
        ]
        assert [cell.split(" ± ")[0] for cell in reached[arm][:2]] == [per_cent(values) for values in right]
        assert reached[arm][1].split(" ± ")[1] == f"{100 * found['test']['accuracy_std']:.1f}"
        assert reached[arm][3] == f"{fmean(run['training_seconds']) / 60:.1f} min"
        speeds = [run[f"{kind}_images_per_second"] for kind in ("training", "inference")]
        assert reached[arm][4:] == [thousands(round(speed)) for speed in speeds]


def test_every_comparison_is_a_row_that_says_its_sentence():
    found = scaling()
    pairs = comparisons.pairs_of(ARMS)
    rows = page_of(found).table("Differences in test accuracy")[1:]
    said = [scaling_verdict.sentence(each) for each in comparisons.compare(found.accuracies, pairs)]
    assert [f"{row[0]}: {row[1]}" for row in rows] == list(map(plain, said))
    for (arm, other), row in zip(pairs, rows, strict=True):
        mean = fmean(found.accuracies[arm][seed] - found.accuracies[other][seed] for seed in SEEDS)
        assert row[0] == f"{arm} − {other}"
        assert row[1].startswith(f"{100 * mean:+.1f} points".replace("-", "−"))
        assert 0 < float(row[2].removeprefix("< ")) <= 1


def test_accuracy_per_cost_and_gain_per_added_cost_follow_by_hand():
    rows = {row[0]: row[1:] for row in page_of(scaling()).table("Points of mean test accuracy")[1:]}
    base, compound = (arm_metrics(arm, SEEDS) for arm in ("baseline", "resolution"))
    reached = [100 * each["test"]["accuracy"] for each in (base, compound)]
    gain = reached[1] - reached[0]
    expected = [reached[1] / (4 * 31.97344), reached[1] / (40.5 * 10 + 1), gain / (3 * 31.97344), gain / (40.5 * 2)]
    shown = [rows["resolution"][place] for place in (0, 1, 3, 4)]
    assert [float(cell) for cell in shown] == pytest.approx(expected, rel=0.005)
    assert rows["resolution"][2] == f"+{gain:.1f}"
    assert rows["baseline"][2:] == ["", "", ""]
    assert rows["depth"][4] == ""  # it trained faster than the baseline: no second was added


def test_the_papers_table_stands_beside_ours():
    rows = {row[0]: row[1:] for row in page_of(scaling(("baseline", "compound", "small_cnn"))).table("Table 7")[1:]}
    assert rows["compound"][:3] == ["1.8 billion", "81.1 %", "+3.8"]
    assert rows["resolution"] == ["1.9 billion", "79.1 %", "+1.8", "", "", ""]
    ours = [arm_metrics(arm, SEEDS)["test"]["accuracy"] for arm in ("baseline", "compound")]
    assert rows["compound"][3:] == ["127 893 760", f"{100 * ours[1]:.1f} %", f"+{100 * (ours[1] - ours[0]):.1f}"]
    assert rows["baseline"] == ["0.4 billion", "77.3 %", "", "31 973 440", f"{100 * ours[0]:.1f} %", ""]
    assert "small_cnn" not in rows


@pytest.mark.parametrize(
    ("means", "says"),
    [
        (
            {"baseline": 0.5, "depth": 0.6, "width": 0.6, "resolution": 0.6, "compound": 0.7},
            "At equal multiply-adds, compound scaling did better on test than depth, width and resolution alone. "
            "Against the unscaled baseline, depth, width, resolution and compound did better on test.",
        ),
        (
            {"baseline": 0.6, "depth": 0.5, "compound": 0.4},
            "At equal multiply-adds, compound scaling did worse on test than depth alone. Against the unscaled "
            "baseline, depth and compound did worse on test.",
        ),
        (
            {"baseline": 0.5, "depth": 0.4, "width": 0.7, "resolution": 0.6005, "compound": 0.6},
            "At equal multiply-adds, compound scaling did better on test than depth alone; it did worse on test than "
            "width alone; 3 seeds do not settle it against resolution alone. Against the unscaled baseline, width, "
            "resolution and compound did better on test; depth did worse on test.",
        ),
        (
            {"baseline": 0.5, "width": 0.5001, "resolution": 0.5002, "compound": 0.5003},
            "At equal multiply-adds, 3 seeds do not settle whether compound scaling does better on test than width or "
            "resolution alone. Against the unscaled baseline, 3 seeds do not settle the matter for width, resolution "
            "or compound.",
        ),
        ({"depth": 0.5, "width": 0.6}, ""),
        ({"compound": 0.5, "small_cnn": 0.6}, ""),
        ({"baseline": 0.5, "small_cnn": 0.6}, "Against the unscaled baseline, small_cnn did better on test."),
    ],
)
def test_the_verdict_claims_what_the_intervals_settle_and_nothing_else(means, says):
    assert judged(**means) == says


def test_one_seed_settles_nothing_however_large_the_difference():
    assert judged(seeds=(1,), baseline=0.1, depth=0.2, compound=0.9) == (
        "At equal multiply-adds, one seed does not settle whether compound scaling does better on test than depth "
        "alone. Against the unscaled baseline, one seed does not settle the matter for depth or compound."
    )


def test_only_arms_of_equal_cost_are_said_to_be():
    assert judged("paper", depth=0.5, compound=0.6).startswith("At the multipliers of the paper's Table 7, compound")
    assert judged("phi", depth=0.5, compound=0.6).startswith(
        "With all of α, β and γ to one power (φ), and so at unequal cost, compound"
    )


def test_the_verdict_stands_near_the_top():
    made = study()
    with undrawn():
        page = contents.report(made)
    assert str(page.lead[0]).startswith(scaling_verdict.verdict(made))
    chapter = next(section for section in page.sections if section.title == "Does compound scaling pay?")
    assert chapter.blocks[:2] == [scaling_verdict.verdict(made), scaling_training.conditions(made)]


def test_without_arms_the_search_alone_is_shown():
    made = study(scaled=scaling(()))
    with undrawn():
        page = contents.report(made)
    titles = [section.title for section in page.sections]
    assert "Which way to scale" in titles
    assert "Does compound scaling pay?" not in titles
    assert not [block for block in page.lead if isinstance(block, str) and "scal" in block]
    tables = shown(provenance.settings(made), provenance.machine(made))
    assert ["scaling_arms", "none"] in tables.table("Every value")
    assert not [row for row in tables.table("What each stage took") if row[0].startswith("scaling_ablation")]


def test_a_study_that_trained_nothing_from_scratch_says_nothing_of_scaling():
    found = scaling(())
    none = replace(found, candidates=found.candidates.assign(val_accuracy=float("nan")))
    with undrawn():
        page = contents.report(study(scaled=none))
    assert not {"Which way to scale", "Does compound scaling pay?"} & {section.title for section in page.sections}


@pytest.mark.parametrize(
    ("arms", "seeds"),
    [
        (("depth", "width", "resolution", "compound"), SEEDS),
        (ARMS[:-1], (7,)),
        (("compound",), (7,)),
        (("small_cnn", "resnet50"), SEEDS),
        ((*ARMS, "densenet201"), SEEDS),
    ],
    ids=["no baseline", "no compound, one seed", "one arm, one seed", "references alone", "axes and a reference"],
)
def test_any_set_of_arms_and_seeds_has_its_part_of_the_report(arms, seeds):
    drawn = arms in (("compound",), (*ARMS, "densenet201"))  # the fewest, and of every kind
    page = page_of(scaling(arms, seeds=seeds, epochs=1), drawn=drawn)
    assert "nan" not in page.words.lower().split()
    assert [row[0] for row in page.table("What was trained")[1:]] == list(arms)
    for row in page.table("What was trained")[1:]:
        assert (row[1:3] == ["", ""]) == (row[0] not in ARMS)
        assert (row[-1] == "") == ("baseline" not in arms)
    assert all(("±" in row[2]) == (len(seeds) > 1) for row in page.table("What it reached")[1:])
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 2
    tables = " ".join(page.tables)
    assert ("Differences" in tables) == ("baseline" in arms or len(set(arms) & set(ARMS)) > 1)
    assert ("Table 7" in tables) == bool(set(arms) & set(ARMS))


def test_arms_that_allow_no_comparison_say_so():
    words = page_of(scaling(("small_cnn", "resnet50"))).words
    assert "takes the unscaled baseline, or compound beside a single axis; trained: small_cnn and resnet50." in words


def test_seeds_without_spread_have_no_p_value():
    accuracies = {"baseline": dict.fromkeys(SEEDS, 0.5), "depth": dict.fromkeys(SEEDS, 0.6)}
    ((_, text, p_value),) = page_of(replace(scaling(("baseline", "depth")), accuracies=accuracies)).table(
        "Differences"
    )[1:]
    assert "without spread" in text
    assert p_value == ""


def test_an_arm_that_was_not_timed_has_empty_cells_and_stays_in_the_figure():
    found = scaling(("baseline", "depth"))
    timed = found.runs["depth"]
    untimed = replace(timed, facts={key: value for key, value in timed.facts.items() if key != "training_seconds"})
    page = page_of(replace(found, runs=found.runs | {"depth": untimed}), drawn=True)
    assert page.table("What it reached")[2][4] == ""
    assert page.table("Points of mean test accuracy")[2][2] == ""
    assert "nan" not in page.words.lower().split()


def test_arms_with_settings_of_their_own_are_named():
    found = scaling(("baseline", "depth"))
    assert "trained alike" not in page_of(found).words
    own = {"baseline": Arm(), "depth": Arm(epochs=5, learning_rate=0.01)}
    text = page_of(found, scaling_arms=own).words
    assert "Not all arms were trained alike: depth with epochs 5, learning_rate 0.01." in text
    settings = shown(provenance.settings(study(scaled=found, scaling_arms=own))).table("Every value")
    assert ["scaling_arms.depth", "epochs 5, learning_rate 0.01"] in settings
    assert ["scaling_arms.baseline", "as the others"] in settings


def test_the_name_of_an_arms_network_is_no_way_to_train_it():
    found = scaling(("baseline", "mine"))
    own = {"baseline": Arm(), "mine": Arm(name="efficientnet_b0", resolution=96)}
    assert "Not all arms were trained alike: mine with resolution 96." in page_of(found, scaling_arms=own).words


def test_arms_that_are_the_same_network_count_once_for_what_chance_does():
    found = scaling()
    same = {**found.metrics["compound"], "depth": 1.0}
    twins = replace(
        found,
        metrics=found.metrics | {"width": same},
        accuracies=found.accuracies | {"width": found.accuracies["compound"]},
    )
    assert "pooled over 5 arms, 8 degrees of freedom" in plain(scaling_verdict.reach(study(scaled=found)))
    assert "pooled over 4 arms, 6 degrees of freedom" in plain(scaling_verdict.reach(study(scaled=twins)))
    other = {arm: Arm() for arm in ARMS} | {"width": Arm(learning_rate=0.01)}
    trained_otherwise = study(scaled=twins, scaling_arms=other)
    assert ("compound", "width") in [(each.arm, each.other) for each in scaling_verdict.compared(trained_otherwise)]


def test_a_network_is_not_compared_with_itself():
    found = scaling()
    same = {**found.metrics["compound"], "depth": 1.0}
    page = page_of(replace(found, metrics=found.metrics | {"width": same}))
    assert "compound and width are the same network after rounding, and are not compared." in page.words
    names = [row[0] for row in page.table("Differences in test accuracy")[1:]]
    assert "compound − width" not in names
    assert len(names) == 6


@pytest.mark.parametrize("trained", [True, False])
def test_only_the_arms_that_params_name_are_read(tmp_path, trained):
    paths = {key: tmp_path / key for key in ("metrics", "runs", "predictions", "curves")}
    for arm in (*ARMS, "dropped"):
        artifacts.write_json(arm_metrics(arm, SEEDS), paths["metrics"] / f"{arm}.json")
        artifacts.write_json(asdict(arm_run(arm, SEEDS)), paths["runs"] / f"{arm}.json")
        artifacts.save(arm_predictions(arm, SEEDS), paths["predictions"] / f"{arm}.pt")
        artifacts.write_csv(arm_curve(arm, SEEDS, 4), paths["curves"] / f"{arm}.csv")
    expected = scaling(trained=trained)
    for key in ("search", "coefficients"):
        artifacts.write_json(getattr(expected, key), tmp_path / f"{key}.json")
    artifacts.write_json(asdict(expected.search_run), tmp_path / "search_run.json")
    artifacts.write_csv(candidates(trained=trained), tmp_path / "candidates.csv")
    searched = {key: str(tmp_path / f"{key}.json") for key in ("search", "search_run", "coefficients")}
    found = read_scaling(
        SETTINGS.scaling_arms,
        **{key: str(path) for key, path in paths.items()},
        **searched,
        candidates=str(tmp_path / "candidates.csv"),
    )
    assert list(SETTINGS.scaling_arms) == found.arms == list(ARMS)
    for field in ("metrics", "runs", "accuracies", "search", "search_run", "coefficients"):
        assert getattr(found, field) == getattr(expected, field)
    for arm, rows in expected.curves.items():
        assert_frame_equal(found.curves[arm], rows.reset_index(drop=True))
    assert_frame_equal(found.candidates, expected.candidates)


def test_the_run_of_the_report_gets_the_metrics_of_every_arm_and_the_table_of_stages_its_record():
    found = scaling(("baseline", "depth"), trained=False)
    logged = found.stage_metrics
    assert logged["scaling_ablation"]["depth"]["test"]["accuracy"] == arm_metrics("depth", SEEDS)["test"]["accuracy"]
    assert logged["scaling_search"]["candidates"] == 5
    assert list(found.stage_runs) == ["scaling_search", "scaling_ablation@baseline", "scaling_ablation@depth"]
    stages = {row[0]: row[1:] for row in shown(provenance.machine(study(scaled=found))).table("What each stage took")}
    assert stages["scaling_ablation@depth"] == ["cpu (x86_64)", "10.3 min", "513 MiB", "2", "900"]
