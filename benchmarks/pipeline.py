"""The pipeline as a whole, in a fresh clone of the last commit: `make run`, then `dvc repro` with nothing to do.

The clone borrows this folder's installed .venv, so that `make run` is timed after installation. Then the peak memory of
each stage, from data/runs/ of the clone, and of this folder where a study has run here.

`python -m benchmarks.pipeline`; `--runs-only` prints only what data/runs/ here says.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import timing

MAKE_RUN_SECONDS = 240
REPRO_SECONDS = 5
MEMORY_MB = 4000


def call(command: Sequence[str], folder: Path) -> None:
    """Run `command` in `folder` as an activated .venv would; its output only where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    finished = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout}")


def judged(seconds: float, limit: float) -> str:
    return f"{seconds:.1f} s  limit {limit} s: {'met' if seconds < limit else 'MISSED'}"


def time_clone(clone: Path) -> None:
    call(["git", "clone", "--quiet", ".", str(clone)], Path())
    (clone / ".venv").symlink_to(Path(sys.executable).parent.parent)
    # -o: the stamp of the installation is not newer than the clone's requirements.txt, and need not be
    seconds = timing.timed(lambda: call(["make", "-o", ".venv/.run-installed", "run"], clone))
    print(f"make run, in a fresh clone, after installation (once): {judged(seconds, MAKE_RUN_SECONDS)}")
    repeats = sorted(timing.interleaved({"repro": lambda: call(["dvc", "repro"], clone)})["repro"])
    median = repeats[len(repeats) // 2]
    print(f"dvc repro, nothing to do (median): {judged(median, REPRO_SECONDS)}", end="  ")
    print(f"({repeats[0]:.2f} to {repeats[-1]:.2f} in {len(repeats)} repeats)", flush=True)


def print_records(folder: Path, title: str) -> None:
    """A table of the stages' own records in the order in which they ran, with the limit on memory."""
    paths = sorted((folder / "data/runs").glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return
    records = [json.loads(path.read_text()) for path in paths]
    dataset = next((record["facts"]["dataset"] for record in records if "dataset" in record["facts"]), "unknown")
    print(f"{title}: dataset {dataset}\n  {'stage':<20}{'seconds':>10}{'peak memory':>14}")
    for record in records:
        print(f"  {record['stage']:<20}{record['seconds']:>10.1f}{record['peak_memory_mb']:>11.0f} MB")
    peak = max(record["peak_memory_mb"] for record in records)
    print(f"  peak {peak:.0f} MB  limit {MEMORY_MB} MB: {'met' if peak < MEMORY_MB else 'MISSED'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs-only", action="store_true", help="only the memory of the study that has run here")
    arguments = parser.parse_args()
    print(timing.machine())
    if not arguments.runs_only:
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder) / "clone"
            time_clone(clone)
            print_records(clone, "the clone")
    print_records(Path(), "this folder")


if __name__ == "__main__":
    main()
