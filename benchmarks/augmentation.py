"""Batched augmentation against torchvision's PIL transforms and against kornia, on the same cores.

Every random change of params.yaml is on, for all three; each makes normalised float batches from the same uint8 images.
torchvision works image by image in DataLoader workers, one per core; ours and kornia's batches use one thread per core.
The order of operations is torchvision's usual one: geometry and colour at the stored 32 pixels, then resizing.

`python -m benchmarks.augmentation`; kornia is left out where it is not installed (requirements-bench.txt).
"""

import importlib.util
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms.functional import to_pil_image

from benchmarks import timing
from src import augmentation, params
from src.augmentation import View
from src.backbones import IMAGENET_MEAN, IMAGENET_STD

STORED = 32
PLAN = (  # resolution, images, batch size, targets against torchvision and kornia
    (32, 16384, 512, 10, 2),
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
    steps: list[Any] = [
        transforms.RandomCrop(STORED, padding=augment.crop_padding, padding_mode="edge"),
        transforms.RandomHorizontalFlip(),
        transforms.RandomAffine(
            augment.rotation,
            translate=(augment.translate, augment.translate),
            scale=(1 - augment.scale, 1 + augment.scale),
            shear=augment.shear,
            interpolation=transforms.InterpolationMode.BILINEAR,
        ),
        transforms.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue),
    ]
    if resolution != STORED:
        steps.append(transforms.Resize(resolution))
    steps += [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    steps.append(transforms.RandomErasing(augment.erase_probability))
    return transforms.Compose(steps)


def kornia_transform(augment: params.Augment, resolution: int) -> Callable[[Tensor], Tensor]:
    import kornia.augmentation as K

    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    steps = [
        K.RandomCrop((STORED, STORED), padding=augment.crop_padding, padding_mode="replicate"),
        K.RandomHorizontalFlip(p=0.5),
        K.RandomAffine(
            augment.rotation,
            translate=(augment.translate, augment.translate),
            scale=(1 - augment.scale, 1 + augment.scale),
            shear=augment.shear,
            padding_mode="border",
            p=1.0,
        ),
        K.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue, p=1.0),
        *([K.Resize((resolution, resolution))] if resolution != STORED else []),
        K.Normalize(mean, std),
        K.RandomErasing(p=augment.erase_probability),
    ]
    return torch.nn.Sequential(*steps)


def ours(images: Tensor, augment: params.Augment, resolution: int, batch_size: int) -> Iterator[Tensor]:
    view = View(resolution=resolution, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    draws = augmentation.draw(len(images), torch.Generator().manual_seed(0))
    for index in torch.randperm(len(images)).split(batch_size):
        yield augmentation.render(images[index], view, augment, draws[index])


def kornias(images: Tensor, transform: Callable[[Tensor], Tensor], batch_size: int) -> Iterator[Tensor]:
    for index in torch.randperm(len(images)).split(batch_size):
        yield transform(images[index].float().div_(255))


def drain(batches: Callable[[], Iterator[Tensor]]) -> Callable[[], None]:
    """A run over all batches that keeps none."""

    def run() -> None:
        for batch in batches():
            if not math.isfinite(batch[0, 0, 0, 0]):
                raise FloatingPointError("a batch is not finite")

    return run


def main() -> None:
    print(timing.machine())
    augment, cores = params.load().augment, os.cpu_count() or 1
    for resolution, count, batch_size, target, kornia_target in PLAN:
        images = torch.randint(0, 256, (count, 3, STORED, STORED), dtype=torch.uint8)
        pictures = Pictures(images, torchvision_transform(augment, resolution))
        loader = DataLoader(pictures, batch_size, shuffle=True, num_workers=cores, persistent_workers=True)
        candidates = {
            "ours": drain(lambda: ours(images, augment, resolution, batch_size)),  # noqa: B023
            "torchvision": drain(lambda: iter(loader)),  # noqa: B023
        }
        targets: dict[tuple[str, str], float | None] = {("ours", "torchvision"): target}
        if importlib.util.find_spec("kornia"):
            transform = kornia_transform(augment, resolution)
            candidates["kornia"] = drain(lambda: kornias(images, transform, batch_size))  # noqa: B023
            targets["ours", "kornia"] = kornia_target
        title = f"augmentation {STORED} -> {resolution}, {count} images in batches of {batch_size}"
        timing.report(title, timing.interleaved(candidates), targets, images=count)


if __name__ == "__main__":
    main()
