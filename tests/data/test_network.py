"""The hosts that the study downloads from: `pytest -m network`."""

from urllib.request import Request, urlopen

import pytest

from src.data import datasets
from src.interface import params
from src.models import backbones

pytestmark = pytest.mark.network
MIRRORS = [(url, archive.size) for table in datasets.OFFICIAL.values() for archive in table for url in archive.urls]


@pytest.mark.parametrize(("url", "size"), MIRRORS)
def test_mirror_offers_the_archive_at_its_size(url, size):
    with urlopen(Request(url, method="HEAD"), timeout=30) as answer:
        assert int(answer.headers["Content-Length"]) == size


def test_imagenet_weights_load_and_state_their_resolution():
    settings = params.Backbone(name="efficientnet_b0", weights="imagenet", resolution="native")
    backbone = backbones.load_backbone(settings, seed=0)
    assert (backbone.width, backbone.view.resolution) == (1280, 224)
