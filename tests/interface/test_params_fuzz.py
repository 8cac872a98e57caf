"""Whatever stands in params.yaml, it loads or it is one line that names the key; from a stage too, with status 2."""

import copy
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from src.interface import checking, params, scaling_params
from tests.interface.test_params import SHIPPED, edited, message, text_of

ROOT = Path(__file__).parents[2]


def keys(section: type = params.Params, prefix: str = "") -> Iterator[str]:
    for field in fields(section):
        if is_dataclass(field.type):
            yield from keys(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


TREE = checking.parse(SHIPPED.encode(), "params.yaml")


def tree_with(place: str, value: Any, *, remove: bool = False) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    *outer, key = place.split(".")
    holder = tree
    for name in outer:
        holder = holder.setdefault(name, {})
    if remove:
        holder.pop(key, None)
    else:
        holder[key] = value
    return tree


def with_value(place: str, value: Any, *, remove: bool) -> str:
    """As a file; PyYAML takes its time, and writes only the part that was changed."""
    tree, (part, *_) = tree_with(place, value, remove=remove), place.split(".")
    changed = {part: tree.pop(part)} if part in tree else {}
    return text_of(tree) + (yaml.safe_dump(changed, allow_unicode=True) if changed else "")


def said_of(tree: dict[str, Any]) -> str:
    """What is wrong with these values, however a file spells them; empty when nothing is."""
    try:
        checking.check(params.Params, tree)
    except ValueError as error:
        return str(error)
    return ""


KEYS = sorted(keys())
LINES = [key for key in KEYS if key.count(".") < 2]  # that have a line of their own
ARMS = [f"scaling_arms.{arm}" for arm in ("depth", "resnet50", "vgg16")]  # an axis, a reference, and neither
ARM_KEYS = [f"{arm}.{key.name}" for arm in ARMS[:2] for key in fields(scaling_params.Arm)]
ALL_KEYS = st.sampled_from(KEYS) | st.sampled_from(ARMS + ARM_KEYS)
PLACES = ALL_KEYS | st.builds(lambda key, more: key + more, ALL_KEYS, st.sampled_from("sx_1é"))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
    st.binary(max_size=5),
    st.sampled_from(["1e-05", "1E5", "-0", "yes", "cifar10", "native", "random", "adamw", "~", "010", "0x10", "1_000"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def fuzzed(examples: int) -> Any:
    # tmp_path is one folder for all examples of a test: each of them writes params.yaml anew
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def names(line: str, place: str) -> bool:
    """Whether a message is one line about the key `place`."""
    if place == "finetune.epochs":  # too few of them contradict the warm-up
        place = "finetune.warmup_epochs" if line.startswith("finetune.warmup_epochs") else place
    inner = (
        f"{place}." if place.startswith(("scaling_arms", "compared_backbones")) else f"{place}["
    )  # what is wrong may lie within
    return len(line.splitlines()) == 1 and len(line) < 1000 and line.startswith((f"{place}:", inner))


def check_value(place: str, value: Any, remove: bool, folder: Path) -> None:
    found = message(with_value(place, value, remove=remove), folder)
    assert not found or names(found, place)


@fuzzed(50)
@given(place=PLACES, value=VALUES, remove=st.booleans())
def test_any_value_loads_or_is_one_line_that_names_its_key(place, value, remove, tmp_path):
    check_value(place, value, remove, tmp_path)


@pytest.mark.slow
@fuzzed(2000)
@given(place=PLACES, value=VALUES, remove=st.booleans())
def test_any_of_thousands_of_values_loads_or_is_one_line_that_names_its_key(place, value, remove, tmp_path):
    check_value(place, value, remove, tmp_path)


@pytest.mark.parametrize("place", KEYS)
def test_every_key_meets_every_kind_of_value(place):
    for value in (1e-05, -1, None, [[]], "no", "1", {}, math.nan):
        found = said_of(tree_with(place, value))
        assert not found or names(found, place), value


@pytest.mark.slow
@pytest.mark.parametrize("value", ["1e-05", "-1", "null", "[[]]", "no", "'1'", "{}", ".nan"])
@pytest.mark.parametrize("place", KEYS)
def test_every_key_meets_every_kind_of_value_in_a_file(place, value, tmp_path):
    if place in LINES:
        text = edited(**{place.replace(".", "__"): value})
    else:
        text = with_value(place, yaml.safe_load(value), remove=False)
    found = message(text, tmp_path)
    assert not found or names(found, place)


@pytest.mark.parametrize("place", ARM_KEYS)
def test_every_key_of_an_arm_meets_every_kind_of_value(place):
    """Only null is allowed everywhere: it means as the others do."""
    for value in (1e-05, -1, [[]], "no", "1", {}, math.nan, True):
        found = said_of(tree_with(place, value))
        assert names(found, place) or (value == 1e-05 and not found)
    assert said_of(tree_with(place, None)) == ""


@pytest.mark.parametrize("place", KEYS)
def test_every_key_is_missed(place):
    assert names(said_of(tree_with(place, None, remove=True)), place)


@fuzzed(50)
@given(place=st.sampled_from(LINES), text=st.text(max_size=30))
def test_any_text_behind_a_key_loads_or_is_one_line(place, text, tmp_path):
    assert len(message(edited(**{place.replace(".", "__"): text}), tmp_path).splitlines()) <= 1


@pytest.mark.slow
@fuzzed(1000)
@given(place=st.sampled_from(LINES), text=st.text(max_size=30))
def test_any_of_many_texts_behind_a_key_loads_or_is_one_line(place, text, tmp_path):
    assert len(message(edited(**{place.replace(".", "__"): text}), tmp_path).splitlines()) <= 1


@fuzzed(150)
@given(content=st.binary(max_size=200) | st.text(max_size=200))
def test_any_file_is_one_line(content, tmp_path):
    assert len(message(content, tmp_path).splitlines()) == 1


@pytest.mark.slow
@fuzzed(25)
@given(place=PLACES, value=VALUES.filter(lambda value: value is not None), remove=st.booleans())
@example(place="lr", value="1e-05x", remove=False)
@example(place="lrr", value=1, remove=False)
@example(place="finetune.epochs", value=-1, remove=False)
@example(place="dataset.name", value=None, remove=False)
@example(place="scaling_arms.vgg16", value={}, remove=False)
@example(place="scaling_arms.depth.resolution", value=64, remove=False)
def test_a_stage_says_one_line_and_ends_with_status_2(place, value, remove, tmp_path):
    expected = message(with_value(place, value, remove=remove), tmp_path)
    if not expected:
        return  # what good values do is for the tests of the stages
    command = [sys.executable, "-m", "stages.download"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stage = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (stage.returncode, stage.stdout, stage.stderr) == (2, "", f"download: {expected}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
