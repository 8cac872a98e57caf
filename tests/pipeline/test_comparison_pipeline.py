"""What the comparison of backbones refuses, by the stage itself: one line, and nothing is written."""

from pathlib import Path

import pytest

from tests.builders.repository import TINY, Repository, copied
from tests.pipeline.test_scaling_pipeline import refusal

SHIPPED = "weights/efficientnet_pico_tinyimagenet64.safetensors"
REFUSALS = {
    "an entry that params lack": ("depth", [], "depth: allowed: one of compared_backbones in params.yaml (pico_32)"),
    "a name that timm does not know": (
        "x",
        ["+compared_backbones.x={name:timm/resnet19,weights:random,resolution:32}"],
        "compared_backbones.x.name: timm has no network 'resnet19'; nearest: timm/resnet18, ",
    ),
    "weights of another network": (
        "x",
        [f"+compared_backbones.x={{name:efficientnet_b0,weights:{SHIPPED},resolution:32}}"],
        f"compared_backbones.x.weights: {SHIPPED} has the weights of efficientnet_pico, not of efficientnet_b0; "
        "allowed: compared_backbones.x.name=efficientnet_pico with it",
    ),
    "a resolution that the network cannot take": (
        "x",
        ["+compared_backbones.x={name:timm/vit_tiny_patch16_224,weights:random,resolution:96}"],
        "compared_backbones.x.resolution: 96 is not what timm/vit_tiny_patch16_224 takes; allowed: native, or 224",
    ),
    "fewer training images than classes": (
        "pico_32",
        ["comparison.train_limit=9"],
        "comparison.train_limit: 9 is not allowed; allowed: 10 (one image per class) or more, or null",
    ),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone with the images of the tiny study; tests leave it as it is."""
    repository = Repository(tmp_path_factory.mktemp("study"))
    repository.set_params(TINY)
    repository.repro("download")
    return repository


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_in_one_line_before_anything_starts(
    study: Repository, tmp_path: Path, case: str
) -> None:
    key, settings, line = REFUSALS[case]
    found = refusal(copied(study, tmp_path / "study"), f"compare_backbones@{key}", settings)
    assert found.startswith(f"compare_backbones: {line}")


def test_a_key_with_a_slash_is_refused_in_one_line(tmp_path: Path) -> None:
    settings = [f"+compared_backbones={{a/b:{{name:efficientnet_pico,weights:{SHIPPED},resolution:32}}}}"]
    line = refusal(Repository(tmp_path), "compare_backbones@a", ["~compared_backbones", *settings])
    assert line.startswith("compare_backbones: compared_backbones.a/b: not allowed as a key; allowed: letters a-z, ")
