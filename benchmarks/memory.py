"""Peak memory of our fine-tuning loop against a bare step loop, each in fresh processes: EfficientNet-B0 at 64 pixels.

Ours reads 50 000 images of 32 x 32 from a file, touches each of them, as an epoch does, then renders and trains some
steps by `fitting.fit`, with averaged weights and a validation at the end. The bare loop has no data set, but one batch
that is ready. Same network, batch and imports. The peak is of the resident memory (ru_maxrss).

Ours may take as much as the bare loop and the data set as uint8 together.

`python -m benchmarks.memory`
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.finetuning import CLASSES, bare_loop, fit_loop, random_network
from src.base import devices, splits
from src.base.splits import Split
from src.images.image_batches import ImageBatches
from src.interface import params
from src.transfer import finetuning

NAME, RESOLUTION, SIDE = "efficientnet_b0", 64, 32
COUNT, STEPS, REPEATS = 50_000, 6, 3
MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class FirstSteps:
    """The first batches of an epoch over all of the images."""

    images: ImageBatches
    steps: int
    batch_size: int

    @property
    def labels(self) -> Tensor:
        return self.images.labels[: self.steps * self.batch_size]

    def shuffled(self, epoch: int, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        return islice(self.images.shuffled(epoch, batch_size, start), self.steps - start)

    def clean(self, batch_size: int) -> Iterator[Tensor]:
        return self.images.clean(batch_size)


def write_data(path: Path, count: int = COUNT) -> None:
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (count,))
    splits.save_split(Split(images=images, labels=labels, classes=tuple("abcdefghij")), path)


def train_ours(path: Path, steps: int = STEPS) -> None:
    device, cfg = devices.choose(), params.load()
    network, view = random_network(NAME, RESOLUTION, device)
    batch_size = cfg.finetune.batch_size
    split = splits.load_split(path)
    train = ImageBatches.of(split, device, view=view, augment=cfg.augment, seed=0)
    few = Split(images=split.images[:batch_size], labels=split.labels[:batch_size], classes=split.classes)
    val = ImageBatches.of(few, device, view=view, augment=cfg.augment, seed=0)
    for images in train.images.split(1024):
        images.max()
    fit_loop(network, FirstSteps(images=train, steps=steps, batch_size=batch_size), val, cfg)()


def train_bare(path: Path, steps: int = STEPS) -> None:
    device, cfg = devices.choose(), params.load()
    network, view = random_network(NAME, RESOLUTION, device)
    inputs = torch.randn(cfg.finetune.batch_size, 3, view.resolution, view.resolution, device=device)
    batch = inputs, torch.randint(0, CLASSES, (len(inputs),), device=device)
    bare_loop(network, finetuning.optimizer(network, cfg.finetune, lr=cfg.lr), lambda: [batch] * steps)()


ROLES = {"data": write_data, "ours": train_ours, "bare": train_bare}


def peak(role: str, path: Path) -> float:
    """MiB that a fresh process takes at most for `role`."""
    command = [sys.executable, "-m", "benchmarks.memory", "--role", role, "--path", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout) / MEBIBYTE


def report(ours: list[float], bare: list[float], data: float) -> None:
    """Print the peaks and what ours takes beyond the bare loop and the data set; all in MiB."""
    beyond = statistics.median(ours) - statistics.median(bare)
    print(f"peak memory: {NAME} at {RESOLUTION} pixels, {COUNT} images, {len(ours)} processes each")
    for name, values in (("ours", ours), ("bare", bare)):
        print(f"  {name}: {statistics.median(values):,.0f} MiB ({min(values):,.0f} to {max(values):,.0f})")
    met = "met" if beyond <= data else "MISSED"
    print(f"  ours - bare: {beyond:,.0f} MiB  limit {data:,.0f} MiB, the data set as uint8: {met}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--role", choices=ROLES, help="what this process does, where the script starts itself")
    parser.add_argument("--path", type=Path, help="of the data set, with --role")
    arguments = parser.parse_args()
    if arguments.role:
        ROLES[arguments.role](arguments.path)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(used if sys.platform == "darwin" else 1024 * used)  # macOS counts bytes, Linux KiB
        return
    print(timing.machine())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.pt"
        peak("data", path)  # in a process of its own: on Linux a child's peak begins at its parent's
        peaks: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(REPEATS):
            for role, values in peaks.items():
                values.append(peak(role, path))
    report(peaks["ours"], peaks["bare"], COUNT * 3 * SIDE**2 / MEBIBYTE)


if __name__ == "__main__":
    main()
