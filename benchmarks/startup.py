"""The start-up of a stage: from the start of its process to the end of its first optimizer step, at EfficientNet-B0.

It is the real stage `finetune`, in a temporary repository with this folder's files in their present state: 50 000
training images of 32 x 32, EfficientNet-B0 at 64 pixels with weights from a file, the rest as in params.yaml. Ten
thousand validation and test images, the head and MLflow's database are there already, as they are in a study. A hook
that torch offers ends the process after the first step. Beside it: the imports alone.

`python -m benchmarks.startup`
"""

import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks import timing
from benchmarks.finetuning import CLASSES
from benchmarks.memory import write_data
from src.base import artifacts
from src.interface import params
from src.models import backbones
from src.models.heads import Head, build_head
from src.training import fitting
from tests.builders.repository import Repository

LIMIT = 8.0  # seconds
NAME, RESOLUTION = "efficientnet_b0", 64
COUNTS = {"train": 50_000, "val": 5_000, "test": 10_000}
WEIGHTS = "weights/random.pth"
HEAD = Head(
    learning_rate=0.001, weight_decay=0.0, dropout=0.2, optimizer="adamw", schedule="cosine", classifier="simple"
)
STEPPED = "stepped"
TO_THE_FIRST_STEP = f"""
import os, runpy
from torch.optim.optimizer import register_optimizer_step_post_hook

def end(*_):
    print("{STEPPED}", flush=True)
    os._exit(0)

register_optimizer_step_post_hook(end)
runpy.run_module("stages.finetune", run_name="__main__", alter_sys=True)
"""


def prepare(repository: Repository, settings: tuple[str, ...] = (), counts: dict[str, int] = COUNTS) -> None:
    """What the stages before `finetune` would have left, with random images and weights."""
    backbone_settings = params.Backbone(name=NAME, weights="random", resolution=RESOLUTION)
    backbone = backbones.load_backbone(backbone_settings, seed=0)
    head = build_head("simple", width=backbone.width, classes=CLASSES, dropout=0.2, seed=0)
    for name, count in counts.items():
        write_data(repository.folder / f"data/images/{name}.pt", count)
    artifacts.write_json(asdict(HEAD), repository.folder / "models/best_head.json")
    artifacts.save(fitting.weights(head), repository.folder / "models/frozen_head.pt")
    artifacts.save(fitting.weights(backbone.network), repository.folder / WEIGHTS)
    chosen = (f"backbone.name={NAME}", f"backbone.weights={WEIGHTS}", f"backbone.resolution={RESOLUTION}")
    repository.set_params((*chosen, *settings))


def python(repository: Repository, code: str) -> str:
    """What a fresh process prints that runs `code` in the repository; it keeps compiled modules, as a user's does."""
    extra = {"PYTHONDONTWRITEBYTECODE": "", "DEVICE": os.environ.get("DEVICE", "cpu")}
    return repository.run(sys.executable, "-c", code, **extra).stdout


def first_step(repository: Repository) -> None:
    printed = python(repository, TO_THE_FIRST_STEP)
    if STEPPED not in printed:
        sys.exit(f"the stage ended before its first step:\n{printed}")


def main() -> None:
    print(timing.machine())
    with tempfile.TemporaryDirectory() as folder:
        repository = Repository(Path(folder))
        prepare(repository)
        seconds = timing.interleaved(
            {
                "imports": lambda: python(repository, "import stages.finetune"),
                "first step": lambda: first_step(repository),
            }
        )
    print(f"start-up of finetune: {NAME} at {RESOLUTION} pixels, {COUNTS['train']} images, seconds")
    for name, values in seconds.items():
        print(f"  {name}: {timing.spread(values)}")
    median = statistics.median(seconds["first step"])
    print(f"  limit {LIMIT:g} s: {'met' if median < LIMIT else 'MISSED'}", flush=True)


if __name__ == "__main__":
    main()
