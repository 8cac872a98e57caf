"""params.yaml: every value is checked before any work, and a wrong one is one line that names its key."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml

from src.interface import kinds, params, scaling_params

ROOT = Path(__file__).parents[2]
WRITTEN: dict[str, Any] = load_yaml(ROOT / "params.yaml")  # as DVC reads it


FAMILIES = {"scaling_arms": scaling_params.Arm, "compared_backbones": params.Backbone}  # whose keys a person chooses


def is_section(name: str, value: Any) -> bool:
    return isinstance(value, dict) and name not in FAMILIES


def text_of(tree: Mapping[str, Any]) -> str:
    """params.yaml with one line per key, and one for all arms, and all backbones that are compared."""
    lines = []
    for name, value in tree.items():
        lines.append(f"{name}:" if is_section(name, value) else f"{name}: {json.dumps(value)}")
        lines += [f"  {key}: {json.dumps(inner)}" for key, inner in value.items()] if is_section(name, value) else []
    return "\n".join(lines) + "\n"


# Known values where they meet others, because an experiment may have left its own in the workspace.
SHIPPED = text_of(
    WRITTEN
    | {"dataset": WRITTEN["dataset"] | {"name": "cifar10", "source": None}}
    | {"finetune": WRITTEN["finetune"] | {"epochs": 10, "warmup_epochs": 1}}
    | {"scaling_arms": {arm: {} for arm in scaling_params.OWN_ARMS}}
)


def edited(**values: str) -> str:
    """params.yaml with other text behind keys: `edited(lr="1", finetune__epochs="5")`."""
    text = SHIPPED
    for name, value in values.items():
        section, _, key = name.rpartition("__")
        start = text.index(f"\n{section}:") if section else 0
        indent = "  " if section else ""
        line = re.compile(rf"^{indent}{key}:.*$", re.MULTILINE).search(text, start)
        text = f"{text[: line.start()]}{indent}{key}: {value}{text[line.end() :]}"
    return text


def loaded(text: str | bytes, folder: Path) -> params.Params:
    path = folder / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return params.load(path)


def message(text: str | bytes, folder: Path) -> str:
    """What is wrong with params.yaml, without the folder it lies in; empty when nothing is."""
    try:
        loaded(text, folder)
    except ValueError as error:
        return str(error).replace(f"{folder}{os.sep}", "")
    return ""


def test_values_arrive_as_dvc_reads_them():
    read = params.load(ROOT / "params.yaml")
    assert [field.name for field in fields(read)] == list(WRITTEN)
    for name, section in WRITTEN.items():
        for key, value in section.items() if is_section(name, section) else [(name, section)]:
            holder = getattr(read, name) if is_section(name, section) else read
            if key in FAMILIES:
                value = {member: FAMILIES[key](**own) for member, own in section.items()}
            if key == "rate_factor":
                value = params.RateFactor(**value)
            assert getattr(holder, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("text", ["1e-05", "1E-5", "1.0e-05", "0.00001", ".00001"])
def test_a_number_is_read_however_it_is_spelled(text, tmp_path):
    assert loaded(edited(lr=text), tmp_path).lr == 1e-5


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_null_is_read_however_it_is_spelled(text, tmp_path):
    assert loaded(edited(dataset__source=text), tmp_path).dataset.source is None


def test_whole_numbers_become_floats_where_a_number_is_asked_for(tmp_path):
    rotation = loaded(edited(augment__rotation="0"), tmp_path).augment.rotation
    assert (rotation, type(rotation)) == (0.0, float)


def test_leading_zeros_are_no_octal_number(tmp_path):
    assert loaded(edited(seed="010"), tmp_path).seed == 10


def test_a_value_cannot_be_changed_after_loading():
    with pytest.raises(AttributeError):
        params.load(ROOT / "params.yaml").finetune.epochs = 3  # type: ignore[misc]


OPTIMIZERS = "adam, adamw, sgd, rmsprop"
BAD_VALUES = [
    ("seed", "-1", "seed: -1 is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("seed", "4294967296", "seed: 4294967296 is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("seed", "1.5", "seed: 1.5 is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("seed", "true", "seed: true is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("seed", "null", "seed: null is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("seed", "0x10", "seed: '0x10' is not allowed; allowed: an integer >= 0 and <= 4294967295"),
    ("lr", "abc", "lr: 'abc' is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "0", "lr: 0 is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "-1e-05", "lr: -1e-05 is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", ".nan", "lr: nan is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", ".inf", "lr: inf is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "1e999", "lr: inf is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "0,001", "lr: '0,001' is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", '"0.001"', "lr: '0.001' is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "[0.1, 0.2]", "lr: [0.1, 0.2] is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "{a: 1}", "lr: {'a': 1} is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "2026-01-02", "lr: '2026-01-02' is not allowed; allowed: a number > 0 and <= 100"),
    ("lr", "1:30", "lr: '1:30' is not allowed; allowed: a number > 0 and <= 100"),
    ("dataset__name", "cifar", "dataset.name: 'cifar' is not allowed; allowed: "
     "cifar10, cifar100, svhn, digits, folder; did you mean cifar10?"),
    ("dataset__name", "null", "dataset.name: null is not allowed; allowed: cifar10, cifar100, svhn, digits, folder"),
    ("dataset__source", "3", "dataset.source: 3 is not allowed; allowed: a text or null"),
    ("dataset__source", "' '", "dataset.source: ' ' is not allowed; allowed: a text or null"),
    ("dataset__source", '"a\\0b"', "dataset.source: 'a\\x00b' is not allowed; allowed: a text or null"),
    ("dataset__image_size", "3", "dataset.image_size: 3 is not allowed; allowed: an integer >= 4 and <= 100000"),
    ("dataset__val_fraction", "0", "dataset.val_fraction: 0 is not allowed; allowed: a number > 0 and < 1"),
    ("dataset__val_fraction", "1.0", "dataset.val_fraction: 1.0 is not allowed; allowed: a number > 0 and < 1"),
    ("dataset__train_limit", "0.5", "dataset.train_limit: 0.5 is not allowed; "
     "allowed: an integer >= 2 and <= 1000000000 or null"),
    ("backbone__name", "efficientnet_b8", "backbone.name: 'efficientnet_b8' is not allowed; allowed: "
     f"{', '.join(kinds.BACKBONES)} or timm/<name>; did you mean efficientnet_b7?"),
    ("backbone__weights", "null", "backbone.weights: null is not allowed; allowed: a text"),
    ("backbone__resolution", "nativ", "backbone.resolution: 'nativ' is not allowed; allowed: "
     "native or an integer >= 32 and <= 4096; did you mean native?"),
    ("backbone__resolution", "16", "backbone.resolution: 16 is not allowed; allowed: "
     "native or an integer >= 32 and <= 4096"),
    ("augment__flip", "yes", "augment.flip: 'yes' is not allowed; allowed: true or false"),
    ("augment__flip", "1", "augment.flip: 1 is not allowed; allowed: true or false"),
    ("augment__hue", "0.6", "augment.hue: 0.6 is not allowed; allowed: a number >= 0 and <= 0.5"),
    ("augment__brightness", "1", "augment.brightness: 1 is not allowed; allowed: a number >= 0 and < 1"),
    ("augment__erase_probability", "1.1", "augment.erase_probability: 1.1 is not allowed; "
     "allowed: a number >= 0 and <= 1"),
    ("baseline__head_seeds", "1", "baseline.head_seeds: 1 is not allowed; allowed: an integer >= 2 and <= 1000"),
    ("tune_head__optimizer", "[adamv]", f"tune_head.optimizer[0]: 'adamv' is not allowed; allowed: {OPTIMIZERS}; "
     "did you mean adam?"),
    ("tune_head__optimizer", "adamw", "tune_head.optimizer: 'adamw' is not allowed; "
     f"allowed: a list of at least one: {OPTIMIZERS}"),
    ("tune_head__dropout", "[]", "tune_head.dropout: [] is not allowed; "
     "allowed: a list of at least one: a number >= 0 and < 1"),
    ("tune_head__dropout", "[0.1, 0.1]", "tune_head.dropout: [0.1, 0.1] names a value twice; allowed: each value once"),
    ("tune_head__learning_rate", "[0.1, -1]", "tune_head.learning_rate[1]: -1 is not allowed; "
     "allowed: a number > 0 and <= 100"),
    ("tune_head__rate_factor", "{adam: 1, adamw: 1, sgd: 0, rmsprop: 1}", "tune_head.rate_factor.sgd: 0 is not "
     "allowed; allowed: a number > 0 and <= 1000000"),
    ("tune_head__rate_factor", "{adam: 1, adamw: 1, sgd: 1}", "tune_head.rate_factor.rmsprop: missing; "
     "allowed: a number > 0 and <= 1000000"),
    ("tune_head__rate_factor", "{sdg: 1}", "tune_head.rate_factor.sdg: unknown key; "
     "did you mean tune_head.rate_factor.sgd?"),
    ("finetune__batch_size", "1", "finetune.batch_size: 1 is not allowed; allowed: an integer >= 2 and <= 1000000"),
    ("finetune__warmup_epochs", "10", "finetune.warmup_epochs: 10 leaves no epoch after the warm-up; "
     "allowed: less than finetune.epochs (10)"),
    ("finetune__ema_decay", "1", "finetune.ema_decay: 1 is not allowed; allowed: a number >= 0 and < 1"),
    ("scaling__base", "efficientnet_b1", "scaling.base: 'efficientnet_b1' is not allowed; allowed: "
     "efficientnet_b0, efficientnet_pico; did you mean efficientnet_b0?"),
    ("scaling__base_resolution", "0", "scaling.base_resolution: 0 is not allowed; "
     "allowed: an integer >= 1 and <= 4096"),
    ("scaling__stem_stride", "3", "scaling.stem_stride: 3 is not allowed; allowed: an integer >= 1 and <= 2"),
    ("scaling__warmup_fraction", "1", "scaling.warmup_fraction: 1 is not allowed; allowed: a number >= 0 and < 1"),
    ("scaling__warmup_fraction", "-0.1", "scaling.warmup_fraction: -0.1 is not allowed; "
     "allowed: a number >= 0 and < 1"),
    ("scaling__epsilon", "0", "scaling.epsilon: 0 is not allowed; allowed: a number > 0 and <= 1"),
    ("scaling__dropout", "1", "scaling.dropout: 1 is not allowed; allowed: a number >= 0 and < 1"),
    ("scaling_search__step", "0", "scaling_search.step: 0 is not allowed; allowed: a number >= 0.01 and <= 1"),
    ("scaling_search__epochs", "-1", "scaling_search.epochs: -1 is not allowed; "
     "allowed: an integer >= 0 and <= 1000000000"),
    ("scaling_search__max_multiply_adds", "0", "scaling_search.max_multiply_adds: 0 is not allowed; "
     "allowed: a number > 0 and <= 1e+15 or null"),
    ("scaling_ablation__match", "flops", "scaling_ablation.match: 'flops' is not allowed; "
     "allowed: multiply_adds, paper, phi"),
    ("scaling_ablation__budget", "1", "scaling_ablation.budget: 1 is not allowed; allowed: a number > 1 and <= 1000"),
    ("scaling_ablation__budget", "0.5", "scaling_ablation.budget: 0.5 is not allowed; "
     "allowed: a number > 1 and <= 1000"),
    ("scaling_ablation__phi", "0", "scaling_ablation.phi: 0 is not allowed; allowed: a number > 0 and <= 10"),
    ("scaling_ablation__seeds", "[0, 1, 0]", "scaling_ablation.seeds: [0, 1, 0] names a value twice; "
     "allowed: each value once"),
    ("scaling_ablation__seeds", "3", "scaling_ablation.seeds: 3 is not allowed; "
     "allowed: a list of at least one: an integer >= 0 and <= 4294967295"),
    ("scaling_ablation__seeds", "[]", "scaling_ablation.seeds: [] is not allowed; "
     "allowed: a list of at least one: an integer >= 0 and <= 4294967295"),
    ("scaling_ablation__seeds", "[0, -1]", "scaling_ablation.seeds[1]: -1 is not allowed; "
     "allowed: an integer >= 0 and <= 4294967295"),
    ("report__title", "''", "report.title: '' is not allowed; allowed: a text or null"),
    ("lr", "9" * 5000, f"lr: '{'9' * 56}... is not allowed; allowed: a number > 0 and <= 100"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), BAD_VALUES, ids=[f"{k}={v[:20]}" for k, v, _ in BAD_VALUES])
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, expected, tmp_path):
    assert message(edited(**{key: value}), tmp_path) == expected


SMALL = (
    "is too small; allowed: {0} or more, since the network's strides, the stem's of {1} among them, make one pixel "
    "out of {0}"
)


@pytest.mark.parametrize(("resolution", "stem_stride", "least"), [(16, 2, 32), (31, 2, 32), (15, 1, 16)])
def test_a_base_resolution_below_the_strides_is_refused(resolution, stem_stride, least, tmp_path):
    said = message(edited(scaling__base_resolution=str(resolution), scaling__stem_stride=str(stem_stride)), tmp_path)
    assert said == f"scaling.base_resolution: {resolution} {SMALL.format(least, stem_stride)}"
    enough = edited(scaling__base_resolution=str(least), scaling__stem_stride=str(stem_stride))
    assert message(enough, tmp_path) == ""


@pytest.mark.parametrize("section", ["finetune", "scaling"])
def test_a_part_of_a_batch_is_at_most_the_batch(section, tmp_path):
    parts = {f"{section}__batch_size": "256", f"{section}__micro_batch_size": "257"}
    assert message(edited(**parts), tmp_path) == (
        f"{section}.micro_batch_size: 257 is more than a batch; allowed: null, or at most {section}.batch_size (256)"
    )
    assert message(edited(**parts | {f"{section}__micro_batch_size": "256"}), tmp_path) == ""


def test_digits_take_no_source(tmp_path):
    text = edited(dataset__name="digits", dataset__source="somewhere")
    assert message(text, tmp_path) == "dataset.source: 'somewhere' is not allowed; allowed with digits: null"


BAD_FILES = [
    (
        "no arms at all",
        re.sub(r"\nscaling_arms:.*", "", SHIPPED),
        "scaling_arms: missing; allowed: a mapping whose keys",
    ),
    ("an unknown key", SHIPPED + "learning: 1\n", "learning: unknown key; allowed: "),
    ("a misspelled key", SHIPPED.replace("\nlr:", "\nlrr:"), "lrr: unknown key; did you mean lr?"),
    ("a misspelled section", SHIPPED.replace("finetune:", "finetun:"), "finetun: unknown key; did you mean finetune?"),
    ("a misspelled nested key", SHIPPED.replace("  flip:", "  flipp:"), "augment.flipp: unknown key; did you mean"),
    ("a key that is a number", SHIPPED + "5: 1\n", "5: unknown key; allowed: "),
    ("a key of two lines", SHIPPED + '"a\\nb": 1\n', "'a\\nb': unknown key; allowed: "),
    ("a missing key", re.sub(r"\nlr:.*", "", SHIPPED), "lr: missing; allowed: a number > 0 and <= 100"),
    ("a missing section", SHIPPED[: SHIPPED.index("report:")], "report: missing; allowed: a section"),
    ("an emptied section", edited(report="null").replace("  title", "#"), "report: null is no section; allowed: "),
    ("a list for a section", edited(report="[1]").replace("  title", "#"), "report: [1] is no section; allowed: "),
    ("an empty file", "", "params.yaml: null is no section; allowed: a mapping with the keys seed, lr, "),
    ("a text file", "hello\n", "params.yaml: 'hello' is no section; allowed: a mapping with the keys seed, lr, "),
    ("an equal key", SHIPPED + "lr: 1\n", "params.yaml, line N: not YAML: 'lr' for the second time"),
    ("an equal nested key", SHIPPED + "  title: x\n", "params.yaml, line N: not YAML: 'title' for the second time"),
    ("a tab", SHIPPED + "\tx: 1\n", "params.yaml, line N: not YAML: found character '\\t' that cannot start"),
    ("an open bracket", edited(lr="[1"), "params.yaml, line N: not YAML: expected ',' or ']', but got ':'"),
    ("an unknown alias", edited(lr="*x"), "params.yaml, line N: not YAML: found undefined alias 'x'"),
    (
        "an unknown tag",
        edited(lr="!!python/name:os.system x"),
        "params.yaml, line N: not YAML: could not determine a con",
    ),
    ("a tag that does not fit", edited(lr="!!int x"), "params.yaml: not YAML: invalid literal for int() with base 10"),
    ("another such tag", edited(lr="!!bool x"), "params.yaml: not YAML: 'x'"),
    ("a third such tag", edited(lr="!!timestamp x"), "params.yaml: not YAML: "),
    (
        "a structure within itself",
        edited(lr="&a [*a]"),
        "params.yaml, line N: not YAML: found unconstructable recursive",
    ),
    ("a second document", SHIPPED + "---\nlr: 1\n", "params.yaml, line N: not YAML: but found another document"),
    ("a control character", SHIPPED + "\x07", "params.yaml: not YAML: unacceptable character #x0007"),
    ("deep nesting", edited(lr="[" * 9999), "params.yaml: not YAML: maximum recursion depth exceeded"),
    ("another encoding", SHIPPED.encode() + b"# caf\xe9\n", "params.yaml: not YAML: 'utf-8' codec can't decode"),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES])
def test_a_file_that_is_not_params_is_refused_in_one_line(text, expected, tmp_path):
    found = message(text, tmp_path)
    assert re.sub(r"line \d+", "line N", found).startswith(expected)
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["a folder", "nothing"])
def test_an_unreadable_file_is_an_os_error_that_names_it(make, tmp_path):
    make(tmp_path / "params.yaml")
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "params.yaml"))):
        params.load(tmp_path / "params.yaml")
