"""The head search by successive halving over the whole grid against random draws, on real cached features.

Both are `search_heads` with params.yaml's `tune_head`, on the same features and from the same seed: `sampler: random`
with its `trials`, and `sampler: halving`. Each seed's two searches are processes of one thread that take turns of a few
seconds: one runs while the other is stopped, so that other load hits both alike. Compared are the seconds that a
processor worked for each, reading the features left out, and the validation accuracy of the head that each chose; the
interval is Student's, of the paired differences over seeds. On the CPU.

`python -m benchmarks.halving`, where `dvc repro extract_features` has run; `--features FOLDER` takes another's. Without
features it says so and measures nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from scipy.stats import t as students_t

from benchmarks import timing
from src.interface import params
from src.training.fitting import Session
from src.transfer.feature_batches import FeatureBatches
from src.transfer.head_search import search_heads
from src.transfer.trials import best_of

TARGET = 1.0  # times as fast as random draws
TURN = 4.0  # seconds for which a search runs while the other waits
SAMPLERS = ("halving", "random")


def search(sampler: str, seed: int, folder: Path) -> dict[str, Any]:
    """Seconds of a processor that a search took, and what it found."""
    torch.set_num_threads(1)
    settings = replace(params.load().tune_head, sampler=sampler)
    device = torch.device("cpu")
    train, val = (FeatureBatches.load(str(folder / f"{name}.pt"), device, seed=seed) for name in ("train", "val"))
    with tempfile.TemporaryDirectory() as place:
        began = time.process_time()
        session = Session(seed=seed, advance=lambda count: None)
        trials = search_heads(
            settings, train, val, class_weights="equal", session=session, journal=Path(place) / "trials.jsonl"
        )
        seconds = time.process_time() - began
    best = best_of(trials)
    return {
        "seconds": seconds,
        "heads": len({trial.trial for trial in trials}),
        "val_accuracy": best.val_accuracy,
        "head": vars(best.head),
    }


def take_turns(commands: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    """What each command printed last, as JSON; only one of them runs at any time."""
    running = {name: subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for name, each in commands.items()}
    found = {}
    try:
        for process in running.values():
            process.send_signal(signal.SIGSTOP)
        while running:
            for name, process in list(running.items()):
                process.send_signal(signal.SIGCONT)
                try:
                    printed, _ = process.communicate(timeout=TURN)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGSTOP)
                    continue
                if process.returncode:
                    raise SystemExit(f"{name} ended with {process.returncode}")
                found[name] = json.loads(printed.splitlines()[-1])
                del running[name]
    finally:
        for process in running.values():
            process.kill()
    return found


def interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean, and Student's interval for it."""
    mean, count = fmean(differences), len(differences)
    reach = students_t.ppf((1 + confidence) / 2, count - 1) * stdev(differences) / count**0.5
    return mean, mean - reach, mean + reach


def compare(seeds: Sequence[int], folder: Path) -> None:
    found = []
    for seed in seeds:
        whole = [sys.executable, "-m", "benchmarks.halving", "--features", str(folder), "--seeds", str(seed), "--only"]
        found.append(take_turns({name: [*whole, name] for name in SAMPLERS}))
        for name in SAMPLERS:
            own = found[-1][name]
            accuracy, head = 100 * own["val_accuracy"], ", ".join(map(str, own["head"].values()))
            print(
                f"  seed {seed}, {name}: {own['seconds']:.0f} s, {own['heads']} heads, {accuracy:.2f} % ({head})",
                flush=True,
            )
    ours, theirs = ([each[name] for each in found] for name in SAMPLERS)
    ratios = timing.ratios([own["seconds"] for own in ours], [own["seconds"] for own in theirs])
    print(f"  halving / random, speed: {timing.spread(ratios)}{timing.verdict(ratios, TARGET)}")
    differences = [100 * (own["val_accuracy"] - other["val_accuracy"]) for own, other in zip(ours, theirs, strict=True)]
    if len(differences) > 1:
        mean, low, high = interval(differences)
        print(f"  validation accuracy, points: {mean:+.2f} [{low:+.2f}, {high:+.2f}] over {len(seeds)} seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, default=Path("data/features"), help="folder with train.pt and val.pt")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(timing.REPEATS)))
    parser.add_argument("--only", choices=SAMPLERS, help="one search of one seed, as JSON: what the comparison starts")
    given = parser.parse_args()
    if given.only:
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"  # as devices.choose sets it for the stages
        print(json.dumps(search(given.only, given.seeds[0], given.features)))
        return
    if not (given.features / "train.pt").exists():
        print(f"{given.features}/train.pt does not exist: nothing measured; `dvc repro extract_features` makes it")
        return
    torch.set_num_threads(1)
    print(timing.machine())
    settings = params.load().tune_head
    print(
        f"head search: {settings.trials} random trials of {settings.epochs} epochs, and halving by {settings.reduction}"
    )
    compare(given.seeds, given.features)


if __name__ == "__main__":
    main()
