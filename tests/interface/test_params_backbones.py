"""compared_backbones, whose keys a person chooses, and what all of them share; a wrong value is one line."""

import subprocess
import sys

import pytest

from src.interface import kinds, params
from tests.interface.test_params import edited, loaded, message

LETTERS = "letters a-z, digits and _ (a stage is called so)"
ENTRY = "{name: efficientnet_lite0, weights: imagenet, resolution: 96}"
BAD = [
    (f"{{lite0/96: {ENTRY}}}", f"compared_backbones.lite0/96: not allowed as a key; allowed: {LETTERS}"),
    (f"{{Lite0: {ENTRY}}}", f"compared_backbones.Lite0: not allowed as a key; allowed: {LETTERS}"),
    (f"{{'lite0\\n': {ENTRY}}}", f"compared_backbones.lite0\\n: not allowed as a key; allowed: {LETTERS}"),
    ("{lite0: {name: efficientnet_lite0, resolution: 96}}", "compared_backbones.lite0.weights: missing; "
     "allowed: a text"),
    ("{lite0: {name: efficientnet_lite9, weights: imagenet, resolution: 96}}", "compared_backbones.lite0.name: "
     f"'efficientnet_lite9' is not allowed; allowed: {', '.join(kinds.BACKBONES)} or timm/<name>; did you mean "
     "efficientnet_lite4?"),
    ("{lite0: {name: timm/, weights: imagenet, resolution: 96}}", "compared_backbones.lite0.name: 'timm/' is not "
     f"allowed; allowed: {', '.join(kinds.BACKBONES)} or timm/<name>"),
    ("{lite0: {name: efficientnet_lite0, weights: imagenet, resolution: 31}}", "compared_backbones.lite0.resolution: "
     "31 "
     "is not allowed; allowed: native or an integer >= 32 and <= 4096"),
    ("[lite0]", f"compared_backbones: ['lite0'] is not allowed; allowed: a mapping whose keys are of {LETTERS}"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), BAD, ids=[value for value, _ in BAD])
def test_a_wrong_entry_is_named_with_what_is_allowed(value, expected, tmp_path):
    assert message(edited(compared_backbones=value), tmp_path) == expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("penalties", "[0.1, 0.3]", "comparison.penalties: [0.1, 0.3] is no path; allowed: from the strongest, "
         "which comes first, to the weakest"),
        ("penalties", "[]", "comparison.penalties: [] is not allowed; allowed: a list of at least one: a number > 0 "
         "and <= 1000000"),
        ("penalties", "[1, 0]", "comparison.penalties[1]: 0 is not allowed; allowed: a number > 0 and <= 1000000"),
        ("train_limit", "1", "comparison.train_limit: 1 is not allowed; allowed: an integer >= 2 and <= 1000000000 or "
         "null"),
    ],
)  # fmt: skip
def test_what_entries_share_is_named_with_what_is_allowed(key, value, expected, tmp_path):
    assert message(edited(**{f"comparison__{key}": value}), tmp_path) == expected


def test_entries_keep_their_order_and_any_name_of_timm_is_taken_here(tmp_path):
    text = f"{{b: {ENTRY}, a_1: {{name: timm/no.such-network, weights: pretrained, resolution: native}}}}"
    found = loaded(edited(compared_backbones=text), tmp_path).compared_backbones
    assert list(found) == ["b", "a_1"]
    assert found["a_1"] == params.Backbone(name="timm/no.such-network", weights="pretrained", resolution="native")


def test_checking_a_name_of_timm_does_not_import_timm(tmp_path):
    text = "{a: {name: timm/resnet18, weights: random, resolution: native}}"
    (tmp_path / "params.yaml").write_text(edited(compared_backbones=text))
    script = f"import sys; from src.interface import params; params.load({str(tmp_path / 'params.yaml')!r}); "
    done = subprocess.run(
        [sys.executable, "-c", script + "print('timm' in sys.modules or 'torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
