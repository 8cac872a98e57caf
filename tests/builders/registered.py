"""A study's files, as far as registering and the demo page read them, around the small exported network."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src.base import artifacts
from src.base.splits import Split, save_split
from src.base.stage_records import Recorder
from src.interface.params import Backbone
from src.models import backbones
from src.training import metrics
from tests.builders import exported

LABELS = torch.arange(40) % len(exported.CLASSES)


def right(count: int, images: int = len(LABELS)) -> NDArray[np.int64]:
    """Classes named of the images of test, of which the first `count` are right."""
    wrong = (LABELS + 1) % len(exported.CLASSES)
    found: NDArray[np.int64] = torch.where(torch.arange(images) < count, LABELS, wrong).numpy()
    return found


def leave(folder: Path, *, count: int, model: int = 0, seed: int = 0) -> Path:
    """What `export` leaves in `folder`, of a network that names `count` images of test right.

    Args:
        model: which of several; their files differ in what they say of themselves alone.
        seed: of the images of test.
    """
    for name in ("models", "data/predictions", "data/images"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "models/finetuned.pt").write_bytes(b"weights %d" % model)
    facts = {
        "dataset": "digits",
        "licence": "MIT",
        "finetuned_sha256": artifacts.sha256(folder / "models/finetuned.pt"),
    }
    (folder / "models/finetuned.onnx").write_bytes(exported.content(**facts))
    images = torch.from_numpy(exported.images(len(LABELS), seed))
    save_split(Split(images=images, labels=LABELS, classes=exported.CLASSES), folder / "data/images/test.pt")
    named = torch.nn.functional.one_hot(torch.from_numpy(right(count)), len(exported.CLASSES)).float()
    logits, labels = {"finetuned": {"val": -named, "test": named}}, {"val": LABELS, "test": LABELS}
    table = metrics.collect_predictions(logits, labels, exported.CLASSES)
    artifacts.save(table, folder / "data/predictions/finetune.pt")
    return folder


def leave_features(folder: Path, backbone: Backbone, known: torch.Tensor, images: torch.Tensor) -> None:
    """What `extract_features` leaves: features (N, D) of training images (N, 3, S, S), and a view of noise beside."""
    labels = torch.arange(len(images)) % len(exported.CLASSES)
    for name in ("data/features", "data/images", "data/runs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    views = torch.stack([known, torch.randn_like(known)]).half()
    content = {"features": views, "labels": labels, "classes": exported.CLASSES}
    artifacts.save(content, folder / "data/features/train.pt")
    save_split(Split(images=images, labels=labels, classes=exported.CLASSES), folder / "data/images/train.pt")
    record = Recorder("extract_features", {"seed": 0, "backbone": asdict(backbone)})
    record.note(**backbones.describe(backbone))
    (folder / "data/runs/extract_features.json").write_text(json.dumps(record.values()))
