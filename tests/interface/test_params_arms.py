"""scaling_arms, whose keys a person chooses: which names and values there may be; any other is one line."""

import re

import pytest

from src.interface import kinds, scaling_params
from tests.interface.test_params import edited, loaded, message

ARMS = ", ".join((*scaling_params.OWN_ARMS, *kinds.BACKBONES, "small_cnn"))
OTHERS = f"{ARMS}, or a name of these beside the key"
LETTERS = "letters a-z, digits and _ (a stage is called so)"
ARM_KEYS = "name, resolution, epochs, batch_size, learning_rate, weight_decay, dropout, stochastic_depth"
BAD_ARMS = [
    ("{dept: {}}", f"scaling_arms.dept: unknown; allowed: {OTHERS}; did you mean depth?"),
    ("{resnet51: {}}", f"scaling_arms.resnet51: unknown; allowed: {OTHERS}; did you mean resnet50?"),
    ("{alexnet: {}}", f"scaling_arms.alexnet: unknown; allowed: {OTHERS}"),
    ("{depth: {}, 5: {}}", f"scaling_arms.5: not allowed as a key; allowed: {LETTERS}"),
    ("{'': {}}", f"scaling_arms.: not allowed as a key; allowed: {LETTERS}"),
    ("{null: {}}", f"scaling_arms.null: not allowed as a key; allowed: {LETTERS}"),
    ('{"a\\nb": {}}', f"scaling_arms.'a\\nb': not allowed as a key; allowed: {LETTERS}"),
    ("{depth: null}", f"scaling_arms.depth: null is no section; allowed: a mapping with the keys {ARM_KEYS}"),
    ("{depth: 4}", f"scaling_arms.depth: 4 is no section; allowed: a mapping with the keys {ARM_KEYS}"),
    ("{depth: [1]}", f"scaling_arms.depth: [1] is no section; allowed: a mapping with the keys {ARM_KEYS}"),
    ("[depth, width]", "scaling_arms: ['depth', 'width'] is not allowed; "
     f"allowed: a mapping whose keys are of {LETTERS}"),
    ("depth", f"scaling_arms: 'depth' is not allowed; allowed: a mapping whose keys are of {LETTERS}"),
    ("null", f"scaling_arms: null is not allowed; allowed: a mapping whose keys are of {LETTERS}"),
    ("{depth: {epoch: 3}}", "scaling_arms.depth.epoch: unknown key; did you mean scaling_arms.depth.epochs?"),
    ("{depth: {colour: 3}}", f"scaling_arms.depth.colour: unknown key; allowed: {ARM_KEYS}"),
    ("{depth: {epochs: 0}}", "scaling_arms.depth.epochs: 0 is not allowed; "
     "allowed: an integer >= 1 and <= 1000000000 or null"),
    ("{resnet50: {resolution: 7}}", "scaling_arms.resnet50.resolution: 7 is not allowed; "
     "allowed: an integer >= 8 and <= 4096 or null"),
    ("{depth: {dropout: 1}}", "scaling_arms.depth.dropout: 1 is not allowed; "
     "allowed: a number >= 0 and < 1 or null"),
    *((f"{{{axis}: {{resolution: 64}}}}", f"scaling_arms.{axis}.resolution: 64 is not allowed, "
       "the match decides it; allowed: null") for axis in scaling_params.OWN_ARMS),
    *((f"{{{name}: {{{key}: 0.0}}}}", f"scaling_arms.{name}.{key}: 0.0 is not allowed, it is published; allowed: null")
      for name in ("resnet50", "efficientnet_b0", "small_cnn") for key in ("dropout", "stochastic_depth")),
    ("{a/b: {name: depth}}", f"scaling_arms.a/b: not allowed as a key; allowed: {LETTERS}"),
    ("{Deep: {name: depth}}", f"scaling_arms.Deep: not allowed as a key; allowed: {LETTERS}"),
    ("{deep: {name: dept}}", f"scaling_arms.deep.name: 'dept' is not allowed; allowed: {ARMS} or timm/<name> or null; "
     "did you mean depth?"),
    ("{width: {name: depth}}", "scaling_arms.width.name: depth is not what this key says; "
     "allowed: null, or another key"),
    ("{deep: {name: depth, resolution: 64}}", "scaling_arms.deep.resolution: 64 is not allowed, the match decides it; "
     "allowed: null"),
    ("{atto: {name: timm/convnext_atto, dropout: 0.1}}", "scaling_arms.atto.dropout: 0.1 is not allowed, "
     "it is published; "
     "allowed: null"),
    ("{depth: {}, resnet50: {}, depth: {}}", "params.yaml, line N: not YAML: 'depth' for the second time"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), BAD_ARMS, ids=[value for value, _ in BAD_ARMS])
def test_a_wrong_arm_is_named_with_what_is_allowed(value, expected, tmp_path):
    found = message(edited(scaling_arms=value), tmp_path)
    assert re.sub(r"line \d+", "line N", found) == expected
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize("name", [*scaling_params.OWN_ARMS, *scaling_params.REFERENCES])
def test_every_axis_and_every_backbone_is_an_arm(name, tmp_path):
    assert loaded(edited(scaling_arms=f"{{{name}: {{}}}}"), tmp_path).scaling_arms == {name: scaling_params.Arm()}


def test_arms_keep_their_order_and_what_they_say(tmp_path):
    text = (
        "{small_cnn: {resolution: 32, epochs: 5}, width: {}, baseline: {dropout: 0, learning_rate: 1e-3, epochs: null}}"
    )
    arms = loaded(edited(scaling_arms=text), tmp_path).scaling_arms
    assert list(arms.items()) == [
        ("small_cnn", scaling_params.Arm(resolution=32, epochs=5)),
        ("width", scaling_params.Arm()),
        ("baseline", scaling_params.Arm(dropout=0.0, learning_rate=0.001)),
    ]
    assert type(arms["baseline"].dropout) is float


def test_an_arm_may_have_a_key_of_its_own_beside_the_name_of_its_network(tmp_path):
    text = "{b0_96: {name: efficientnet_b0, resolution: 96}, deep: {name: depth}, atto: {name: timm/convnext_atto}}"
    arms = loaded(edited(scaling_arms=text), tmp_path).scaling_arms
    assert [arm.name for arm in arms.values()] == ["efficientnet_b0", "depth", "timm/convnext_atto"]
    assert list(arms) == ["b0_96", "deep", "atto"]


def test_there_may_be_no_arms(tmp_path):
    assert loaded(edited(scaling_arms="{}"), tmp_path).scaling_arms == {}
