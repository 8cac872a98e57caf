"""The audit on handwritten digits into which near copies and wrong labels were planted."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from src.base.splits import Split
from src.evidence import auditing
from src.evidence.auditing import Found, Pool
from src.evidence.folds import fold_of
from src.evidence.near_copies import NearCopies
from src.images.image_batches import ImageBatches
from src.interface.params import Audit
from src.models.backbones import load_backbone
from src.transfer import features
from tests.builders.small import backbone_settings

TEST, VAL, COPIES, WRONG = 300, 120, 50, 60
SETTINGS = Audit(folds=5, penalties=(0.1, 0.03))


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Digits of which the last COPIES of train repeat the first of test, and WRONG labels, of all splits, are false."""

    pool: Pool
    features: Tensor
    wrong: set[int]


@cache
def planted() -> Planted:
    """Copies differ by up to a fifth in contrast, in brightness, and by noise of a quarter of the digits' 16 levels."""
    digits, draws = load_digits(), torch.Generator().manual_seed(1)
    images = torch.from_numpy(digits.images * 255 / 16).round()[:, None].expand(-1, 3, -1, -1)
    order = torch.randperm(len(images), generator=draws)
    images, truth = images[order], torch.from_numpy(digits.target)[order]
    contrast = torch.linspace(0.8, 1.2, COPIES).view(-1, 1, 1, 1)
    noise = 4 * torch.randn(COPIES, 1, 8, 8, generator=draws)
    copies = (contrast * images[:COPIES] + noise + 10).clamp(0, 255).round()
    parts = {
        "train": (torch.cat([images[TEST + VAL :], copies]), torch.cat([truth[TEST + VAL :], truth[:COPIES]])),
        "val": (images[TEST : TEST + VAL], truth[TEST : TEST + VAL]),
        "test": (images[:TEST], truth[:TEST]),
    }
    names = tuple(map(str, range(10)))
    pool = Pool.of({name: Split(images=i.byte(), labels=t, classes=names) for name, (i, t) in parts.items()})
    wrong = torch.randperm(len(images) - COPIES, generator=draws)[:WRONG]
    pool.labels[wrong] = (pool.labels[wrong] + torch.randint(1, 10, (WRONG,), generator=draws)) % 10
    backbone = load_backbone(
        backbone_settings(weights="weights/efficientnet_pico_tinyimagenet64.safetensors", resolution=48), seed=0
    )
    split = Split(images=pool.images, labels=pool.labels, classes=names)
    batches = ImageBatches.of(split, device=torch.device("cpu"), view=backbone.view, augment=None, seed=0)
    network = features.freeze(backbone.network)
    with torch.inference_mode():
        found = torch.cat([network(inputs) for inputs in batches.clean(256)]).half()
    return Planted(pool=pool, features=found.clone(), wrong=set(wrong.tolist()))


@cache
def audited() -> Found:
    made, told = planted(), list[int]()
    device = torch.device("cpu")
    found = auditing.audit(made.pool, made.features, SETTINGS, seed=0, device=device, advance=told.append)
    assert sum(told) == auditing.steps(len(made.features), SETTINGS)
    return found


def test_of_planted_near_copies_eight_tenths_are_found_and_hardly_anything_else() -> None:
    rows = audited().copies
    train = int((planted().pool.split == 0).sum())
    expected = {("train", train - COPIES + number, "test", number) for number in range(COPIES)}
    columns = ["first_split", "first_index", "second_split", "second_index"]
    found = set(rows[columns].itertuples(index=False, name=None))
    hits = len(found & expected)
    assert hits / len(expected) >= 0.8
    assert hits / len(found) >= 0.95


def test_of_planted_label_errors_seven_tenths_are_found_and_nine_tenths_of_what_is_found_are_such() -> None:
    """43 of 60, and 4 digits besides, which are written so that a probe of this small network doubts them."""
    rows, pool = audited().labels, planted().pool
    starts = {name: int((pool.split < place).sum()) for place, name in enumerate(("train", "val", "test"))}
    found = {starts[split] + index for split, index in zip(rows["split"], rows["index"], strict=True)}
    hits = len(found & planted().wrong)
    assert hits / WRONG >= 0.7
    assert hits / len(found) >= 0.9


def test_a_copys_label_is_judged_by_a_probe_that_did_not_see_the_original() -> None:
    pool, rows = planted().pool, audited().copies
    starts = {name: int((pool.split < place).sum()) for place, name in enumerate(("train", "val", "test"))}
    first, second = (
        torch.tensor(
            [starts[split] + index for split, index in zip(rows[f"{n}_split"], rows[f"{n}_index"], strict=True)]
        )
        for n in ("first", "second")
    )
    copies = NearCopies(first=first, second=second, cosine=torch.ones(1), likeness=torch.ones(1), threshold=0.0)
    fold = fold_of(copies.scenes(len(pool.labels)), pool.labels, folds=5, seed=0)
    assert torch.equal(fold[first], fold[second])


def test_counts_are_those_of_the_rows() -> None:
    found, pool = audited(), planted().pool
    scores = auditing.scores(found, pool)
    rows = found.copies
    across = rows[(rows["first_split"] == "train") & (rows["second_split"] == "test")]
    assert scores["test"]["in_train"] == across["second_index"].nunique() > 0
    assert scores["pairs"] == len(rows)
    assert sum(scores[split]["doubtful"] for split in ("train", "val", "test")) == len(found.labels)
    assert set(scores["train"]) == {"within", "doubtful"}
    assert scores["probe_accuracy"] > 0.85


def test_thumbnails_are_the_images_of_the_rows_that_they_name() -> None:
    found, pool = audited(), planted().pool
    images = {name: pool.images[pool.split == place] for place, name in enumerate(("train", "val", "test"))}
    shown = found.thumbnails
    assert shown["pairs"].shape == (min(auditing.PAIRS, len(found.copies)), 2, 3, 8, 8)
    for pair, row in zip(shown["pairs"], shown["pair_rows"].tolist(), strict=True):
        for image, side in zip(pair, ("first", "second"), strict=True):
            place = found.copies.iloc[row]
            assert torch.equal(image, images[place[f"{side}_split"]][place[f"{side}_index"]])
    for image, row in zip(shown["labels"], shown["label_rows"].tolist(), strict=True):
        place = found.labels.iloc[row]
        assert torch.equal(image, images[place["split"]][place["index"]])
    order = found.labels.iloc[shown["label_rows"].tolist()]
    assert order["split"].iloc[0] == "test"
    first = order[order["split"] == "test"]["label_share"].to_numpy()
    assert (np.diff(first) >= 0).all()


def test_a_study_of_two_images_a_class_can_be_audited() -> None:
    """Each alone in its split, and unlike all others."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, 3, 64, 64), generator=draws, dtype=torch.uint8)
    labels = torch.tensor([0, 1])
    splits = {
        name: Split(images=images[2 * place : 2 * place + 2], labels=labels, classes=("no", "yes", "never"))
        for place, name in enumerate(("train", "val", "test"))
    }
    pool = Pool.of(splits)
    values = torch.randn(6, 5, generator=draws).half()
    found = auditing.audit(pool, values, SETTINGS, seed=0, device=torch.device("cpu"), advance=lambda _: None)
    scores = auditing.scores(found, pool)
    assert scores["pairs"] == 0
    assert found.thumbnails["pairs"].shape[0] == 0
    assert found.thumbnails["labels"].shape[1:] == (3, 48, 48) or len(found.labels) == 0
