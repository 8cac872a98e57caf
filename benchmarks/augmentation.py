"""Batched augmentation against torchvision's PIL transforms and against kornia, on the same cores.

Every random change of params.yaml is on, for all three; each makes normalised float batches from the same uint8 images.
torchvision works image by image in DataLoader workers, one per core; ours and kornia's batches use one thread per core.
The order of operations is torchvision's usual one: geometry and colour at the stored 32 pixels, then resizing.

`python -m benchmarks.augmentation`; kornia is left out where it is not installed (requirements-bench.txt).
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from benchmarks import timing
from src.images import augmentation
from src.images.augmentation import View
from src.interface import params
from src.models.weights import IMAGENET_MEAN, IMAGENET_STD

STORED = 32
PLAN = (  # resolution, images, batch size, targets against torchvision and kornia
    (32, 8192, 512, 10, 2),
    (64, 8192, 256, 4, 2),
    (224, 2048, 64, 2, 1.8),
)


class Pictures(Dataset[Tensor]):
    """The same images as PIL pictures, transformed one at a time."""

    def __init__(self, images: Tensor, transform: Callable[[Image.Image], Tensor]) -> None:
        self.pictures = [to_pil_image(image) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.pictures[index])


def torchvision_transform(augment: params.Augment, resolution: int) -> Callable[[Image.Image], Tensor]:
    move, low, high = augment.translate, 1 - augment.scale, 1 + augment.scale
    bilinear = transforms.InterpolationMode.BILINEAR
    steps: list[Any] = [
        transforms.RandomCrop(STORED, padding=augment.crop_padding, padding_mode="edge"),
        transforms.RandomHorizontalFlip(),
        transforms.RandomAffine(
            augment.rotation, translate=(move, move), scale=(low, high), shear=augment.shear, interpolation=bilinear
        ),
        transforms.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue),
        *([transforms.Resize(resolution)] if resolution != STORED else []),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        transforms.RandomErasing(augment.erase_probability),
    ]
    return transforms.Compose(steps)


def kornia_transform(augment: params.Augment, resolution: int) -> Callable[[Tensor], Tensor]:
    import kornia.augmentation as K

    move, low, high = augment.translate, 1 - augment.scale, 1 + augment.scale
    return torch.nn.Sequential(
        K.RandomCrop((STORED, STORED), padding=augment.crop_padding, padding_mode="replicate"),
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(
            augment.rotation,
            translate=(move, move),
            scale=(low, high),
            shear=augment.shear,
            padding_mode="border",
            p=1.0,
        ),
        K.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue, p=1.0),
        *([K.Resize((resolution, resolution))] if resolution != STORED else []),
        K.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
        K.RandomErasing(p=augment.erase_probability),
    )


def batched(images: Tensor, transform: Callable[[Tensor], Tensor], batch_size: int) -> Iterator[Tensor]:
    for index in torch.randperm(len(images)).split(batch_size):
        yield transform(images[index])


def our_transform(augment: params.Augment, resolution: int) -> Callable[[Tensor], Tensor]:
    view = View(resolution=resolution, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    generator = torch.Generator().manual_seed(0)
    return lambda images: augmentation.render(images, view, augment, augmentation.draw(len(images), generator))


def drain(batches: Callable[[], Iterator[Tensor]]) -> Callable[[], None]:
    """A run over all batches that keeps none."""

    def run() -> None:
        for _ in batches():
            pass

    return run


def main() -> None:
    print(timing.machine())
    augment, cores = params.load().augment, os.cpu_count() or 1
    for resolution, count, batch_size, target, kornia_target in PLAN:
        images = torch.randint(0, 256, (count, 3, STORED, STORED), dtype=torch.uint8)
        pictures = Pictures(images, torchvision_transform(augment, resolution))
        loader = DataLoader(pictures, batch_size, shuffle=True, num_workers=cores, persistent_workers=True)
        ours = partial(batched, images, our_transform(augment, resolution), batch_size)
        candidates = {"ours": drain(ours), "torchvision": drain(partial(iter, loader))}
        targets: dict[tuple[str, str], float | None] = {("ours", "torchvision"): target}
        if importlib.util.find_spec("kornia"):
            transform = kornia_transform(augment, resolution)
            candidates["kornia"] = drain(partial(batched, images.float() / 255, transform, batch_size))
            targets["ours", "kornia"] = kornia_target
        title = f"augmentation {STORED} -> {resolution}, {count} images in batches of {batch_size}"
        timing.report(title, timing.interleaved(candidates), targets, images=count)


if __name__ == "__main__":
    main()
