"""The registry: a file is a version once, and the champion is what the paired interval says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.interface import tracking_store
from src.use import register, registry
from src.use.registry import Standing, verdict
from tests.builders import registered

ROOT = Path(__file__).parents[2]


def standing(right: np.ndarray[Any, Any], images: str = "same") -> Standing:
    return Standing(images_sha256=images, labels=[1] * len(right), named=np.where(right, 1, 0).tolist())


def test_a_candidate_is_better_where_the_interval_of_the_paired_difference_is_above_zero() -> None:
    few, same = np.arange(400) < 300, np.arange(400) < 300
    assert verdict(standing(np.arange(400) < 330), standing(few)).better
    assert not verdict(standing(same), standing(few)).better
    assert not verdict(standing(few), standing(np.arange(400) < 330)).better
    flipped = few.copy()
    flipped[:40] = False  # 40 images lost and 44 won: +1 point, which is luck
    flipped[300:344] = True
    found = verdict(standing(flipped), standing(few))
    assert not found.better
    assert found.why.startswith("+1.0 points [")


def test_other_images_of_test_settle_nothing() -> None:
    found = verdict(standing(np.ones(40, bool), "new"), standing(np.zeros(40, bool), "old"))
    assert not found.better
    assert "other test images" in found.why


def test_what_a_server_needs_has_the_versions_of_the_study() -> None:
    ours = {line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    needed = registry.requirements()
    assert set(needed) <= ours
    assert {line.partition("==")[0] for line in needed} == {"mlflow", "onnxruntime", "numpy", "pillow"}


def test_the_code_that_goes_with_a_model_is_what_the_served_file_imports() -> None:
    from tools.deps import reached_from

    reached = reached_from(registry.SERVED)
    assert set(registry.CODE) == reached - {registry.SERVED}


def test_a_machine_without_mlflow_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"^needs MLflow: pip install -r requirements-serve.txt$"):
        registry.client(tracking_store.Sender())


def ran(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """The command's status, and all that it said."""
    command = [sys.executable, "-m", "src.use.register", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, [*done.stdout.replace("\n  ", " ").splitlines(), *done.stderr.splitlines()]


def test_without_an_exported_model_it_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["register"])
    with pytest.raises(ValueError, match=r"^models/finetuned.onnx does not exist; allowed: what `dvc repro export` l"):
        register.main()


@pytest.mark.slow
def test_versions_and_aliases_of_three_models(tmp_path: Path) -> None:
    assert ran(tmp_path) == (
        2,
        ["register: models/finetuned.onnx does not exist; allowed: what `dvc repro export` leaves"],
    )
    registered.leave(tmp_path, count=20)
    status, said = ran(tmp_path)
    assert (status, said) == (
        0,
        ["digits-classifier version 1: candidate", "champion, as there was none: version 1"],
    )
    assert ran(tmp_path)[1] == [
        "digits-classifier version 1 was registered before: candidate",
        "version 1 is the champion already",
    ]
    registered.leave(tmp_path, count=21, model=1)
    _, (first, second) = ran(tmp_path)
    assert first == "digits-classifier version 2: candidate"
    assert second.startswith("champion stays version 1: +2.5 points [")
    registered.leave(tmp_path, count=35, model=2)
    _, (first, second) = ran(tmp_path)
    assert first == "digits-classifier version 3: candidate"
    assert second.startswith("champion is version 3 now, no more 1: +37.5 points [+")
    registered.leave(tmp_path, count=40, model=3, seed=1)
    _, (_, second) = ran(tmp_path)
    assert second.startswith("champion stays version 3: it was measured on other test images, which settles nothing")
    _, (_, second) = ran(tmp_path, "--champion")
    assert second.startswith("champion is version 4 now, no more 3: ")
    (tmp_path / "models/finetuned.pt").write_bytes(b"others")
    assert ran(tmp_path) == (
        2,
        [
            "register: models/finetuned.onnx was not made from models/finetuned.pt; "
            "allowed: what `dvc repro export` leaves"
        ],
    )
