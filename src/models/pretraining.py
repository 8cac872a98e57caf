"""What pretrained networks have seen, as the tags of timm's weights say it.

`augreg_in21k_ft_in1k` is ImageNet-21k, then ImageNet-1k.

A network that saw far more images than another is better for that, too: a comparison of networks alone has to say so.
"""

import re

import safetensors

from src.interface.params import Backbone
from src.models import hub
from src.models.weights import own_file

IMAGENET = "ImageNet-1k"
DATA = {  # a part of a tag, as a regular expression, and what it stands for
    "in1k": IMAGENET,
    "in12k": "ImageNet-12k",
    "(in|inw)2[12]k": "ImageNet-21k",
    "jft": "JFT-300M",
    "ig1b": "Instagram-1B",
    "swag": "Instagram-3.6B",
    "seer": "Instagram-1B",
    "yfcc(15m|100m)": "YFCC-{}",
    "cc12m": "CC12M",
    "laion(400m|2b)": "LAION-{}",
    "laiona": "LAION-Aesthetic",
    "openai": "OpenAI's 400 million image-text pairs",
    "webli": "WebLI",
    "datacomp(1b|xl)": "DataComp-{}",
    "dfn(2b|5b)": "DFN-{}",
    "dfndr2b": "DataCompDR-2B",
    "metaclip": "MetaCLIP",
    "metaclip2": "MetaCLIP 2",
    "lvd(142m|1689m)": "LVD-{}",
    "sat493m": "SAT-493M",
    "merged2b": "Merged-2B",
    "m(30m|38m)": "Merged-{}",
    "sa1b": "SA-1B",
}
PATTERNS = {re.compile(pattern): name for pattern, name in DATA.items()}


def data_of(tag: str) -> str:
    """What weights of this tag were trained on, in that order; of a tag that does not say it, the tag.

    >>> data_of("sw_in12k_ft_in1k")
    'ImageNet-12k then ImageNet-1k'
    """
    found = []
    for part in tag.split("_"):
        for pattern, name in PATTERNS.items():
            if match := pattern.fullmatch(part):
                found.append(name.format(*(group.upper() for group in match.groups() if group)))
    return " then ".join(dict.fromkeys(found)) or f"unknown ({tag})"


def trained_on(settings: Backbone) -> str:
    """The images that the weights are from, where their name, or the header of their file, says it."""
    if settings.weights == "random":
        return "nothing"
    path = own_file(settings)
    if path is None:
        return data_of(hub.tag(settings.name)) if hub.is_timm(settings.name) else IMAGENET
    if path.suffix == ".safetensors":
        with safetensors.safe_open(path, framework="pt") as file:
            stated = file.metadata() or {}
        return str(stated.get("dataset", "unknown"))
    return "unknown"
