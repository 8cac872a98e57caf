"""What runs a frozen network: ONNX Runtime gives torch's features, or says why torch computes them."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.interface.params import Inference
from src.models import engines
from tests.builders.small import convolutional

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def frozen() -> nn.Module:
    return convolutional().eval().requires_grad_(False)


def settings(engine: str = "auto", precision: str = "auto") -> Inference:
    return Inference(engine=engine, precision=precision, batch_size=4)  # type: ignore[arg-type]


def test_onnx_runtime_is_chosen_on_a_cpu_and_agrees_with_torch_for_any_number_of_images() -> None:
    network = frozen()
    engine = engines.build_engine(network, settings(), IMAGES[:2])
    assert engine.name.startswith("onnxruntime 1.")
    for count in (1, 2, 6):
        torch.testing.assert_close(engine.run(IMAGES[:count]), network(IMAGES[:count]), atol=1e-6, rtol=1e-5)


def test_onnx_runtime_is_given_no_more_pixels_at_once_than_caches_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "AT_ONCE", 2 * 8 * 8 + 1)
    network, given = frozen(), list[int]()
    engine = engines.build_engine(network, settings(), IMAGES)
    split = Tensor.split

    def counted(images: Tensor, size: int) -> tuple[Tensor, ...]:
        given.append(size)
        return split(images, size)

    monkeypatch.setattr(Tensor, "split", counted)
    torch.testing.assert_close(engine.run(IMAGES[:5]), network(IMAGES[:5]), atol=1e-6, rtol=1e-5)
    assert given == [2]


def test_torch_is_taken_where_it_is_asked_for_and_where_a_16_bit_format_is() -> None:
    network = frozen()
    for asked in (settings("torch"), settings("auto", "bfloat16")):
        assert engines.build_engine(network, asked, IMAGES).name == "torch"
    assert engines.build_engine(network, settings("auto", "bfloat16"), IMAGES).run(IMAGES).dtype == torch.bfloat16


def test_onnx_runtime_in_a_16_bit_format_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inference\.engine: onnxruntime does not run in bfloat16 on cpu; allowed: "):
        engines.build_engine(frozen(), settings("onnxruntime", "bfloat16"), IMAGES)


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_without_its_packages_it_is_an_error_and_not_another_result(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    find: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ValueError, match=rf"inference\.engine: {engine} needs onnxscript, not installed .* torch"):
        engines.build_engine(frozen(), settings(engine), IMAGES)


class Branching(nn.Module):
    """What it computes depends on its input's values, which no graph can hold."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.sum() > 0 else -images.mean((2, 3))


def test_a_network_that_cannot_be_exported_says_so_and_runs_on_torch(capsys: pytest.CaptureFixture[str]) -> None:
    engine = engines.build_engine(Branching(), settings(), IMAGES)
    assert engine.name == "torch"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "cannot be exported to ONNX" in line


def test_features_that_differ_from_torchs_are_said_and_not_trusted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, other = frozen(), frozen()
    with torch.no_grad():
        next(other.parameters()).mul_(1.1)
    exported = engines._exported
    monkeypatch.setattr(engines, "_exported", lambda given, images: exported(other, images))
    assert engines.build_engine(network, settings(), IMAGES).name == "torch"
    assert "ONNX Runtime's features differ from torch's by" in capsys.readouterr().err


CRAMPED = """
import resource, torch
from torch import nn
from src.interface.params import Inference
from src.models import engines
layers = (nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.Conv2d(512, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
network = nn.Sequential(*layers).eval().requires_grad_(False)
settings = Inference(engine="auto", precision="auto", batch_size=4)
engine = engines.build_engine(network, settings, torch.rand(2, 3, 64, 64))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
engines.AT_ONCE = 2**30
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20,) * 2)
try:
    engine.run(torch.rand(256, 3, 64, 64))
except torch.OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process that runs")
def test_memory_that_runs_out_in_onnx_runtime_is_what_it_is_in_torch() -> None:
    """So that extraction halves its batch for both."""
    command = [sys.executable, "-c", CRAMPED]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert done.stdout == "ONNX Runtime has no memory for 256 images\n"
