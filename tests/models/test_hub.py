"""timm's networks: bit-equal to timm's own forward, as their pretrained_cfg wants images, their weights by name."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from src.base import artifacts
from src.base.randomness import seed_of
from src.images import augmentation
from src.images.augmentation import View
from src.models import backbones, cost, hub, pretraining
from src.models.references import build_reference
from src.transfer import features
from tests.builders.small import SHIPPED, backbone_settings, photo, raw

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def own(name: str, **options: Any) -> torch.nn.Module:
    """timm's network as timm builds it, with the weights that our seed 0 gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, "backbone"))
        network: torch.nn.Module = timm.create_model(name, **options)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "side", "width"),
    [("mobilenetv3_small_050", 64, 1024), ("resnet10t", 64, 512), ("vit_tiny_patch16_224", 224, 192)],
)
def test_a_network_of_timm_is_bit_equal_to_timms_own_forward(name: str, side: int, width: int) -> None:
    """Of a convolutional network whose head has a layer of its own, a residual one and a transformer."""
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    whole = own(name).to(memory_format=torch.channels_last)
    found = backbones.load_backbone(backbone_settings(f"timm/{name}", resolution=side), seed=0)
    network = features.freeze(found.network)
    assert found.width == width
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features(images), pre_logits=True)
        assert torch.equal(network(images), expected)
        assert torch.equal(whole.get_classifier()(network(images)), whole(images))


def test_an_image_is_shown_as_pretrained_cfg_says() -> None:
    view = hub.view("timm/vit_tiny_patch16_224")
    assert view == View(resolution=224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic")
    assert hub.view("timm/resnet34.tv_in1k").interpolation == "bilinear"
    assert hub.classifiers("timm/convnext_atto") == ("head.fc",)
    assert hub.classifiers("timm/deit_tiny_distilled_patch16_224") == ("head", "head_dist")


@pytest.mark.parametrize("side", [16, 48])
def test_bicubic_views_are_torchs_own_resizing_smaller_and_larger(side: int) -> None:
    images = photo(3, 32)
    view = View(resolution=side, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bicubic")
    shrunk = side < 32
    expected = torch.nn.functional.interpolate(
        images.float() / 255, size=side, mode="bicubic", antialias=shrunk, align_corners=False
    )
    torch.testing.assert_close(augmentation.render(images, view), expected, atol=2e-6, rtol=0)
    assert not torch.allclose(augmentation.render(images, raw(side)), expected, atol=1e-3)


def test_weights_of_a_file_load_into_a_network_of_timm_and_its_classifier_goes(tmp_path: Path) -> None:
    state = own("resnet10t", num_classes=7).state_dict()
    save_file(
        {key: value + 0.01 for key, value in state.items() if value.is_floating_point()}, tmp_path / "w.safetensors"
    )
    settings = backbone_settings("timm/resnet10t", tmp_path / "w.safetensors", 64)
    loaded = backbones.load_backbone(settings, seed=3).network.state_dict()
    assert torch.equal(loaded["conv1.0.weight"], state["conv1.0.weight"] + 0.01)
    assert backbones.describe(settings)["weights_sha256"] == artifacts.sha256(tmp_path / "w.safetensors")


def test_published_weights_are_read_from_the_fetched_file_and_its_sha256_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is this folder; nothing else of the way is replaced."""
    state = {key: value + 0.25 for key, value in own("resnet10t").state_dict().items() if value.is_floating_point()}
    save_file(state, tmp_path / "model.safetensors")

    class Folder:
        def hf_hub_download(self, repository: str, file: str, revision: str | None) -> str:
            assert (repository, file, revision) == ("timm/resnet10t.c3_in1k", "model.safetensors", None)
            return str(tmp_path / file)

        def try_to_load_from_cache(self, repository: str, file: str, revision: str | None) -> str:
            return self.hf_hub_download(repository, file, revision)

    monkeypatch.setattr(hub, "_hub", Folder)
    settings = backbone_settings("timm/resnet10t", "pretrained", 64)
    found = backbones.load_backbone(settings, seed=0)
    assert torch.equal(found.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert backbones.describe(settings)["weights_sha256"] == artifacts.sha256(tmp_path / "model.safetensors")


REFUSED = [
    (("timm/tv_resnet34", "random"), "x.name: timm has another name for timm/tv_resnet34 now; allowed: timm/"),
    (("timm/resnet19", "random"), "x.name: timm has no network 'resnet19'; nearest: timm/resnet18, "),
    (("timm/resnet18.a7_in1k", "random"), "x.name: timm has no weights 'a7_in1k' of resnet18; nearest: timm/"),
    (("timm/resnet18", "imagenett"), "x.weights: 'imagenett' is not known for timm/resnet18; allowed: pretrained, im"),
    (("timm/vit_base_patch16_siglip_224", "imagenet"), "x.weights: imagenet is not what the weights of timm/vit_base"),
    (("timm/resnet10t", SHIPPED), f"x.weights: {SHIPPED} has the weights of efficientnet_pico, not of timm/resnet10t"),
    (("timm/vit_tiny_patch16_224", "random", 96), "x.resolution: 96 is not what timm/vit_tiny_patch16_224 takes; "
     "allowed: native, or 224"),
    (("timm/inception_v3", "random", 32), "x.resolution: 32 is not what timm/inception_v3 takes (Calculated "),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "line"), REFUSED, ids=[" ".join(map(str, case)) for case, _ in REFUSED])
def test_what_timm_does_not_have_or_take_is_one_line_with_the_nearest(settings: Any, line: str) -> None:
    with pytest.raises(ValueError, match=r"^x\.") as caught:
        backbones.load_backbone(backbone_settings(*settings), seed=0, section="x")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise OSError("[Errno -2] Name or service not known\n")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(ValueError, match=r"^x\.weights: could not fetch those of timm/resnet18 from ") as caught:
        backbones.load_backbone(backbone_settings("timm/resnet18", "pretrained"), seed=0, section="x")
    assert "set x.weights to a local file" in str(caught.value)
    assert "\n" not in str(caught.value)
    logging.getLogger("huggingface_hub").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("a1_in1k", "ImageNet-1k"),
        ("augreg_in21k_ft_in1k", "ImageNet-21k then ImageNet-1k"),
        ("fb_swsl_ig1b_ft_in1k", "Instagram-1B then ImageNet-1k"),
        ("laion2b_ft_in12k_in1k", "LAION-2B then ImageNet-12k then ImageNet-1k"),
        ("ns_jft_in1k_475", "JFT-300M then ImageNet-1k"),
        ("fcmae", "unknown (fcmae)"),
    ],
)
def test_what_weights_saw_is_read_from_their_tag(tag: str, data: str) -> None:
    assert pretraining.data_of(tag) == data


def test_what_other_weights_saw_is_what_they_say() -> None:
    assert pretraining.trained_on(backbone_settings("efficientnet_b0", "imagenet")) == "ImageNet-1k"
    assert pretraining.trained_on(backbone_settings(weights=SHIPPED)) == "Tiny-ImageNet-200"
    assert pretraining.trained_on(backbone_settings("timm/resnet18", "random")) == "nothing"
    assert pretraining.trained_on(backbone_settings("timm/resnet18", "some.pth")) == "unknown"
    assert pretraining.trained_on(backbone_settings("timm/resnet18.fb_swsl_ig1b_ft_in1k", "pretrained")).startswith(
        "Inst"
    )


def test_products_are_multiply_adds_and_count_those_within_attention() -> None:
    network = timm.create_model("resnet10t", num_classes=0)
    assert cost.products(network, 64) == cost.multiply_adds(network, 64)
    transformer = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    tokens, width, depth = 197, 192, 12
    within = depth * 2 * tokens**2 * width  # queries by keys, and their shares by values
    assert cost.products(transformer, 224) == cost.multiply_adds(transformer, 224) + within


def test_a_network_of_timm_may_be_an_arm_of_the_scaling_study() -> None:
    network = build_reference("timm/resnet10t", classes=7)
    assert network(IMAGES).shape == (2, 7)
