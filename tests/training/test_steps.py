"""A step of training: parts that add up, memory that runs out, a compiler that fails, gradients that overflow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.base.distributed import own_part
from src.training import fitting
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.training.steps import Batch, Step, Stepper
from tests.builders.small import convolutional, fit, images, same_state

ROOT = Path(__file__).parents[2]
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has a total capacity of 1 GiB"


class Full(nn.Module):
    """A network on a device that holds the activations of `limit` images, in the forward pass or in the backward."""

    def __init__(self, inner: nn.Module, limit: int, where: str, problem: type[Exception] = torch.OutOfMemoryError):
        super().__init__()
        self.inner, self.limit, self.where, self.problem = inner, limit, where, problem
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        logits: Tensor = self.inner(inputs)  # batch norm has counted the batch before memory runs out
        if len(inputs) > self.limit and self.where == "forward":
            raise self.problem(OUT_OF_MEMORY)
        if len(inputs) > self.limit:
            logits.register_hook(self._refuse)
        return logits

    def _refuse(self, gradient: Tensor) -> None:
        raise self.problem(OUT_OF_MEMORY)


def stepper(model: nn.Module, *, part: int | None = None, precision: str = "float32", **settings: Any) -> Stepper:
    groups = parameter_groups(model, "head", lr=0.01, weight_decay=0.01)
    return Stepper(
        model=model,
        optimizer=build_optimizer("sgd", groups, epsilon=EPSILON),
        device=torch.device("cpu"),
        precision=precision,
        part=part,
        **({"label_smoothing": 0.1, "clip_norm": 0.0, "compiled": False} | settings),
    )


def batch(count: int = 10) -> Batch:
    inputs, labels = next(images(count).shuffled(1, count))
    return Batch(inputs=inputs, labels=labels, partners=labels.roll(1, 0), kept=torch.linspace(0, 1, count))


def gradients(model: nn.Module, *, part: int | None) -> tuple[Tensor, Step]:
    stepped = stepper(model, part=part)
    stepped.optimizer.step = lambda *_, **__: None  # type: ignore[method-assign]
    step = stepped.take(batch(), total=10, seed=3)
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), step


@pytest.mark.parametrize("part", [9, 5, 3, 2])
def test_gradients_of_parts_add_up_to_those_of_the_whole_batch(part: int) -> None:
    """With batch norm in eval mode, no image sees another."""
    whole, once = gradients(convolutional().eval(), part=None)
    parts, again = gradients(convolutional().eval(), part=part)
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(again.loss, once.loss, atol=1e-6, rtol=0)
    assert again.correct == once.correct
    assert whole.abs().max() > 1e-3


def test_a_batch_is_split_evenly() -> None:
    assert [len(part.labels) for part in batch(10).split(3)] == [4, 3, 3]
    parts = batch(10).split(4)
    assert torch.equal(torch.cat([part.inputs for part in parts]), batch(10).inputs)
    assert torch.equal(torch.cat([part.kept for part in parts if part.kept is not None]), torch.linspace(0, 1, 10))


@pytest.mark.parametrize(("count", "sizes"), [(5, [3, 2]), (3, [3]), (7, [3, 2, 2]), (8, [2, 2, 2, 2])])
def test_no_part_is_a_single_image(count: int, sizes: list[int]) -> None:
    """Batch norm cannot train on one."""
    full = Full(convolutional(), 99, "forward")
    stepper(full, part=2).take(batch(count), total=count, seed=0)
    assert full.sizes == sizes


@pytest.mark.parametrize("part", [None, 8, 4, 2])
@pytest.mark.parametrize("total", [9, 10, 17, 64])
def test_all_processes_make_equally_many_forward_passes(
    part: int | None, total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synchronised batch norms would wait for each other for ever."""
    whole, passes = batch(total), []
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr("src.base.distributed.sum_over_processes", lambda tensors: None)
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        full = Full(convolutional(), 99, "forward")
        columns = (whole.inputs, whole.labels, whole.partners, whole.kept)
        inputs, labels, partners, kept = (own_part(column) for column in columns if column is not None)
        own = Batch(inputs=inputs, labels=labels, partners=partners, kept=kept)
        stepper(full, part=part).take(own, total=total, seed=0)
        passes.append(len(full.sizes))
        assert min(full.sizes) >= 2
    assert len(set(passes)) == 1


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("problem", [torch.OutOfMemoryError, RuntimeError], ids=["CUDA", "MPS"])
def test_out_of_memory_halves_the_part_for_good_and_the_failed_try_leaves_no_trace(
    where: str, problem: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    full, expected = Full(convolutional(), 3, where, problem), convolutional()
    ours, theirs = stepper(full), stepper(expected, part=3)
    for seed in (1, 2):
        assert ours.take(batch(), total=10, seed=seed) == theirs.take(batch(), total=10, seed=seed)
    assert same_state(full.inner.state_dict(), expected.state_dict())
    assert full.sizes == [10, 5, 3, 3, 2, 2, 3, 3, 2, 2]
    first, second = capsys.readouterr().err.splitlines()
    assert "out of memory with 10 images per forward pass: at most 5 images from here on" in first
    assert "out of memory with 5 images per forward pass: at most 3 images from here on" in second
    assert "batch normalisation sees smaller batches" in second


def test_what_does_not_fit_two_images_at_a_time_is_one_line() -> None:
    with pytest.raises(MemoryError) as caught:
        stepper(Full(convolutional(), 1, "forward")).take(batch(), total=10, seed=0)
    assert str(caught.value) == (
        "not even 2 images at a time fit (CUDA out of memory. Tried to allocate 20.00 MiB.); try a lower resolution"
    )


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        stepper(nn.Sequential(nn.Flatten(), nn.Linear(7, 4))).take(batch(), total=10, seed=0)


def test_a_run_out_of_memory_learns_what_a_run_in_parts_does(capsys: pytest.CaptureFixture[str]) -> None:
    data, val = images(30), images(12, name="val")
    full, expected = Full(convolutional(), 4, "forward"), convolutional()
    found, wanted = fit(full, data, val), fit(expected, data, val, micro_batch_size=4)
    assert found.curve == wanted.curve
    assert found.machine["micro_batch_size"] == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_predictions_out_of_memory_are_made_in_smaller_parts() -> None:
    data, full = images(21), Full(convolutional(), 4, "forward")
    torch.testing.assert_close(fitting.predict(full, data, 16), fitting.predict(full.inner, data, 4), atol=0, rtol=0)
    assert full.sizes == [16, 8, 4, 4, 4, 4, 4, 1]


def test_under_float16_a_step_that_overflows_is_left_out_and_counted() -> None:
    model = convolutional()
    stepped = stepper(model, precision="float16")
    stepped.scaler.load_state_dict(stepped.scaler.state_dict() | {"scale": 2.0**40})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step = stepped.take(batch(), total=10, seed=0)
    assert not step.norm.isfinite()
    assert same_state(before, model.state_dict()), "weights or running statistics moved"
    assert stepped.scaler.get_scale() == 2.0**39


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_network_learns_in_16_bits_and_its_weights_stay_in_32(precision: str) -> None:
    data, model = images(32), convolutional()
    found = fit(model, data, data, lr=0.02, epochs=25, batch_size=16, schedule="constant", precision=precision)
    assert found.scores["accuracy"] == 1.0
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert found.machine["precision"] == precision
    assert ("skipped_steps" in found.curve[0]) == (precision == "float16")


COMPILED = """
import json
from tests.builders.small import convolutional, fit, images
found = fit(convolutional(), images(30), images(12, name="val"), epochs=2, compile=True)
print(json.dumps({"compiled": found.machine["compiled"], "curve": found.curve}))
"""


def compiled(folder: Path, **extra: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(folder), "DEVICE": "cpu"} | extra
    command = [sys.executable, "-c", COMPILED]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)


@pytest.mark.slow
def test_where_compilation_fails_training_goes_on_without_it_and_says_so(tmp_path: Path) -> None:
    done = compiled(tmp_path, CXX="/nonexistent")
    found = json.loads(done.stdout)
    assert not found["compiled"]
    assert found["curve"] == fit(convolutional(), images(30), images(12, name="val"), epochs=2).curve
    warnings = [line for line in done.stderr.splitlines() if "torch.compile failed" in line]
    assert len(warnings) == 1
    assert "training goes on without it" in warnings[0]


@pytest.mark.slow
def test_a_compiled_network_learns_what_the_plain_one_does(tmp_path: Path) -> None:
    found = json.loads(compiled(tmp_path).stdout)
    assert found["compiled"]
    for row, plain in zip(
        found["curve"], fit(convolutional(), images(30), images(12, name="val"), epochs=2).curve, strict=True
    ):
        assert row == pytest.approx(plain, rel=1e-4)
