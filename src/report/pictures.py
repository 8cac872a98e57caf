"""Pictures of the chapters: where the network errs, what it looks at, what it was trained on. K classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from src.evidence import answers, examples
from src.report.numbers import count, percent
from src.report.pages import Block, Gallery, Picture
from src.report.thumbnails import marked, strip, thumbnail

SUREST, CHANGED, PAIRS, OF_PAIR = 12, 12, 6, 3  # images, and pairs of classes
SURE = 0.9995  # from here on a percentage would read 100
CLASSES, OF_CLASS = 20, 6  # strips of more classes say no more


@dataclass(frozen=True, kw_only=True)
class Images:
    """What there is to show.

    Attributes:
        train, test: uint8 (N, 3, H, H), as stored.
        labels: of train, (N,).
        frozen, finetuned: what each method named, as of `examples.named_on_test`, how sure by its temperature.
        explained: data/explain/pictures.pt: index, maps, batch, batch_labels.
        classes: the K names.
    """

    train: Tensor
    test: Tensor
    labels: Tensor
    frozen: pd.DataFrame
    finetuned: pd.DataFrame
    explained: dict[str, Tensor]
    classes: Sequence[str]

    def pictures(self, rows: pd.DataFrame) -> list[Picture]:
        """Test images of `rows`, and what was said of them."""
        return [
            Picture(image=thumbnail(self.test[row["index"]]), text=self.said(row)) for row in rows.to_dict("records")
        ]

    def said(self, row: Any) -> str:
        sure = f"{percent(row['confidence'])} sure" if row["confidence"] < SURE else "all but certain"
        actual, named = self.classes[row["actual"]], self.classes[row["named"]]
        return f"{actual}, {sure}" if actual == named else f"{actual}, taken for {named}; {sure}"


def mistakes(images: Images) -> list[Block]:
    """The surest mistakes, what fine-tuning repaired and broke, and some of each frequent confusion."""
    frozen, tuned = images.frozen, images.finetuned
    return [
        *_gallery(images, examples.mistakes(tuned), SUREST, "named wrong by the fine-tuned network"),
        *_gallery(images, examples.repaired(frozen, tuned), CHANGED, "repaired by fine-tuning: named wrong before"),
        *_gallery(images, examples.broken(frozen, tuned), CHANGED, "broken by fine-tuning: named right before"),
    ]


def confusions(images: Images, found: answers.Answers) -> list[Block]:
    """Some images of each of the most frequent confusions of the fine-tuned network."""
    pairs = answers.confused_pairs(found, ["finetuned"], PAIRS)
    number = {name: place for place, name in enumerate(images.classes)}
    rows = [
        examples.of_pair(images.finetuned, number[pair["actual"]], number[pair["predicted"]]).head(OF_PAIR)
        for pair in pairs.to_dict("records")
    ]
    if not rows:
        return []
    caption = f"Of the most frequent mistakes, the {count(OF_PAIR)} images of each that the network was surest of:"
    return [Gallery(caption=caption, pictures=images.pictures(pd.concat(rows)))]


def looked_at(images: Images) -> list[Block]:
    """What the network's answer rests on, of images that it names wrong and right."""
    said = {row["index"]: images.said(row) for row in images.finetuned.to_dict("records")}
    pictures = [
        Picture(image=thumbnail(marked(images.test[place], fall)), text=said[place])
        for place, fall in zip(images.explained["index"].tolist(), images.explained["maps"], strict=True)
    ]
    caption = (
        "What its answers rest on: the more orange a place, the less sure is the network of its answer when a grey "
        "patch, a quarter of the side wide, hides it (occlusion). First its surest mistakes, then images of as many "
        "classes that it names right. A mark on the background tells of a shortcut."
    )
    return [Gallery(caption=caption, pictures=pictures)] if pictures else []


def training(images: Images) -> list[Block]:
    """Images of each class as stored, and one batch as training shows it: what is wrong with either is seen at once."""
    labels, classes = images.labels, images.classes
    strips = [
        Picture(image=strip(images.train[(labels == place).nonzero().flatten()[:OF_CLASS]]), text=name)
        for place, name in list(enumerate(classes))[:CLASSES]
    ]
    extent = "each class" if len(classes) <= CLASSES else f"the first {CLASSES} of {count(len(classes))} classes"
    batch, of_batch = images.explained["batch"], images.explained["batch_labels"].tolist()
    shown = [Picture(image=thumbnail(one), text=classes[of]) for one, of in zip(batch, of_batch, strict=True)]
    return [
        Gallery(caption=f"The first training images of {extent}, as they are stored:", pictures=strips, wide=True),
        Gallery(caption="Images of the first training batch as the network sees them, augmented:", pictures=shown),
    ]


def _gallery(images: Images, rows: pd.DataFrame, limit: int, what: str) -> list[Block]:
    if not len(rows):
        return [f"No test image is {what}."]
    chosen = f", the {count(limit)} that it is surest of" if len(rows) > limit else ""
    noun = "test image is" if len(rows) == 1 else "test images are"
    return [Gallery(caption=f"{count(len(rows))} {noun} {what}{chosen}:", pictures=images.pictures(rows.head(limit)))]
