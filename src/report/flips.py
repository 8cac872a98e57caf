"""The images that one experiment names right and another does not, as thumbnails.

N images, C channels, H x W pixels.
"""

from torch import Tensor

from src.report.comparison import Pairing
from src.report.comparison_words import images
from src.report.experiments import IMAGES
from src.report.pages import Block, Gallery, Picture
from src.report.thumbnails import thumbnail

SHOWN = 24  # images each way


def galleries(pairing: Pairing) -> list[Block]:
    """Both ways; nothing where no accuracy on test changed."""
    flips = pairing.flips
    if not flips:
        return []
    stored = _images(pairing)
    sides = (pairing.first.name, pairing.second.name)
    blocks: list[Block] = []
    for wrong, found in enumerate((flips.gained, flips.lost)):
        what = f"{images(len(found))} that {sides[1 - wrong]} names right and {sides[wrong]} does not"
        if not found:
            blocks.append(f"No {what.partition(' ')[2]}.")
        elif stored is None:
            blocks.append(f"{what}; the images themselves are in no cache.")
        else:
            chosen = f", the {SHOWN} whose loss changed most" if len(found) > SHOWN else ""
            names = [pairing.first.head.classes[int(c)] for c in flips.actual]
            said = [pairing.first.head.classes[int(c)] for c in flips.named[wrong]]
            pictures = [Picture(image=thumbnail(stored[i]), text=f"{names[i]}, not {said[i]}") for i in found[:SHOWN]]
            blocks.append(Gallery(caption=f"{what}{chosen}:", pictures=pictures))
    return blocks


def _images(pairing: Pairing) -> Tensor | None:
    """uint8 (N, C, H, W), of the first experiment that has them."""
    path = IMAGES.format("test")
    for each in (*pairing.first.members, *pairing.second.members):
        found = each.revision.load(path)
        if found:
            images: Tensor = found["images"]
            return images
    return None
