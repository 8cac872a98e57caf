"""Pictures of the page: the images that the texts speak of, small, and nothing without a text."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from src.report import pictures
from src.report.pages import Gallery
from src.report.thumbnails import SIDE, marked, strip, thumbnail
from tests.builders.report import HUNDRED, NAMES, plain, study


@pytest.fixture(scope="module")
def made():
    return study()


def opened(content):
    return Image.open(io.BytesIO(content))


def galleries(blocks):
    return [block for block in blocks if isinstance(block, Gallery)]


def test_a_small_image_is_kept_pixel_for_pixel_and_a_large_one_shrunk():
    small = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    assert np.array_equal(np.asarray(opened(thumbnail(small))), small.permute(1, 2, 0).numpy())
    large = opened(thumbnail(torch.zeros(3, 300, 200, dtype=torch.uint8)))
    assert (large.format, max(large.size)) == ("JPEG", SIDE)
    assert opened(thumbnail(torch.zeros(1, 8, 8, dtype=torch.uint8))).size == (8, 8)


def test_a_strip_has_its_images_from_left_to_right():
    images = torch.stack([torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (0, 120, 250)])
    pixels = np.asarray(opened(strip(images))).astype(int)
    assert pixels.shape == (16, 48, 3)
    assert [abs(pixels[8, x, 0] - value) < 9 for x, value in ((8, 0), (24, 120), (40, 250))] == [True] * 3


def test_a_mark_lies_where_hiding_costs_most_and_nowhere_without_cost():
    image = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    fall = torch.zeros(7, 7)
    fall[0, 0] = 2.0
    shown = marked(image, fall)
    assert shown.shape == (3, SIDE, SIDE)
    assert shown[0, 0, 0] > 170
    assert shown[:, -1, -1].tolist() == [100] * 3
    assert torch.equal(marked(image, -fall), torch.full((3, SIDE, SIDE), 100, dtype=torch.uint8))


def test_mistakes_repairs_and_breaks_are_counted_as_predictions_have_them(made):
    rows = made.answers.rows[made.answers.rows["split"] == "test"]
    right = {method: rows[method] == rows["actual"] for method in ("frozen", "finetuned")}
    counts = [
        (~right["finetuned"]).sum(),
        (right["finetuned"] & ~right["frozen"]).sum(),
        (right["frozen"] & ~right["finetuned"]).sum(),
    ]
    captions = [gallery.caption for gallery in galleries(pictures.mistakes(made.images))]
    assert [int(re.match(r"\d+", caption)[0]) for caption in captions] == counts
    assert all(len(gallery.pictures) == 12 for gallery in galleries(pictures.mistakes(made.images)))


def test_a_picture_is_of_the_image_that_its_text_is_about(made):
    first = galleries(pictures.mistakes(made.images))[0].pictures[0]
    row = made.images.finetuned[made.images.finetuned["actual"] != made.images.finetuned["named"]].iloc[0]
    assert np.array_equal(np.asarray(opened(first.image)), made.images.test[int(row["index"])].permute(1, 2, 0).numpy())
    actual, named = NAMES[int(row["actual"])], NAMES[int(row["named"])]
    assert plain(first.text).startswith(f"{actual}, taken for {named}; ")


def test_nothing_wrong_is_said_and_not_shown(made):
    right = made.images.finetuned.assign(named=made.images.finetuned["actual"])
    blocks = pictures.mistakes(replace(made.images, finetuned=right, frozen=right))
    assert blocks == [
        "No test image is named wrong by the fine-tuned network.",
        "No test image is repaired by fine-tuning: named wrong before.",
        "No test image is broken by fine-tuning: named right before.",
    ]


def test_beside_the_most_frequent_mistakes_stand_three_images_of_each(made):
    (gallery,) = pictures.confusions(made.images, made.answers)
    texts = [plain(picture.text).partition(";")[0] for picture in gallery.pictures]
    assert 6 <= len(texts) <= 18
    pairs = list(dict.fromkeys(texts))
    assert len(pairs) == 6
    assert all(texts.count(pair) <= 3 for pair in pairs)


def test_of_every_class_there_is_a_strip_up_to_twenty():
    for names, count in ((NAMES, len(NAMES)), (HUNDRED, 20)):
        strips, batch = pictures.training(study(names).images)
        assert [picture.text for picture in strips.pictures] == list(names)[:count]
        assert len(batch.pictures) == 6


def test_what_was_explained_is_shown_with_what_was_said_of_it(made):
    (gallery,) = pictures.looked_at(made.images)
    assert len(gallery.pictures) == len(made.images.explained["index"])
    assert ["taken for" in picture.text for picture in gallery.pictures] == [True] * 4 + [False] * 4
