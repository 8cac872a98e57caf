"""Under what terms a fine-tuned model stands: those of the weights it began with, and of the images it saw."""

from src.interface.params import Backbone
from src.models import hub, lite
from src.models.weights import own_file

RESEARCH = "whose images are for non-commercial research and education"
DATA = {
    "cifar10": "CIFAR-10 states no licence",
    "cifar100": "CIFAR-100 states no licence",
    "svhn": "SVHN is for non-commercial use",
    "digits": "the digits of scikit-learn are CC BY 4.0 (UCI)",
    "folder": "images of one's own have their owner's terms",
}


def licence(backbone: Backbone, dataset: str) -> str:
    """In a sentence: of the weights, then of the data."""
    return f"{_of_weights(backbone)}; {DATA[dataset]}"


def _of_weights(backbone: Backbone) -> str:
    if backbone.weights == "random":
        return "trained here from random weights"
    if path := own_file(backbone):
        return f"began with {path.name}, whose terms hold"
    if hub.is_timm(backbone.name):
        return f"began with {backbone.name}, whose page on the hub has its licence"
    if backbone.name in lite.RESOLUTIONS:
        return f"began with EfficientNet-Lite (Apache-2.0), trained on ImageNet, {RESEARCH}"
    return f"began with torchvision's weights (BSD-3-Clause), trained on ImageNet, {RESEARCH}"
