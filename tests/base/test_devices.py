"""Devices: chosen by the machine, overridden by the environment, and wrong values answered in one line."""

from collections.abc import Iterator

import pytest
import torch

from src.base import devices
from tests.builders.small import EVERYTHING, augment, convolutional, fit, images, same_state


@pytest.fixture(autouse=True)
def own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No override from outside, and the number of threads afterwards as before."""
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.delenv("THREADS", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def test_without_an_override_the_accelerator_is_chosen_where_there_is_one() -> None:
    assert (devices.choose().type == "cpu") == (not torch.accelerator.is_available())


def test_device_cpu_is_always_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cpu")
    assert devices.choose() == torch.device("cpu")


@pytest.mark.parametrize("asked", ["gpu", "CPU", "cuda:99", "tpu", "cpu cuda"])
def test_a_device_that_is_not_here_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("DEVICE", asked)
    with pytest.raises(ValueError, match=rf"^DEVICE={asked} in the environment: allowed here: cpu.*, or unset$"):
        devices.choose()


def test_threads_sets_the_number_of_cpu_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")
    devices.choose()
    assert torch.get_num_threads() == 3
    assert devices.describe(torch.device("cpu"))["threads"] == 3


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5", " 2"])
def test_a_number_of_threads_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("THREADS", asked)
    with pytest.raises(
        ValueError, match=f"^THREADS={asked} in the environment: allowed: a positive integer, or unset$"
    ):
        devices.choose()


def test_an_empty_override_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "")
    monkeypatch.setenv("THREADS", "")
    before = torch.get_num_threads()
    assert devices.choose() is not None
    assert torch.get_num_threads() == before


def test_the_record_names_the_processor() -> None:
    assert str(devices.describe(torch.device("cpu"))["device"]).startswith("cpu (")


def test_determinism_is_asked_of_every_library_and_speed_otherwise() -> None:
    for deterministic in (True, False):
        devices.choose(deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.backends.cudnn.deterministic is deterministic
        assert torch.backends.cudnn.benchmark is not deterministic
        assert torch.backends.cudnn.allow_tf32 is not deterministic
        assert torch.backends.cuda.matmul.allow_tf32 is not deterministic


def test_deterministic_training_gives_equal_bits_twice_with_everything_on() -> None:
    """Nothing that a stage does lacks a deterministic algorithm: torch would raise an error."""
    devices.choose(deterministic=True)
    found = []
    for _ in range(2):
        model, train = convolutional(dropout=0.4), images(30, augment=augment(**EVERYTHING | {"policy": "autoaugment"}))
        fit(model, train, images(12, name="val"), mixup=0.5, cutmix=0.5, ema_decay=0.9, clip_norm=1.0)
        found.append(model.state_dict())
    assert same_state(*found)


class Machine:
    """torch as it is where two GPUs are, as far as choosing one goes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: torch.device("cuda"))
        monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
        monkeypatch.setattr("torch.cuda.set_device", lambda index: None)


def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch)
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        assert devices.choose() == torch.device("cuda", rank)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"^LAUNCHER starts process 3 where there are 2 GPUs; allowed: one per GPU$"):
        devices.choose()
    monkeypatch.setenv("DEVICE", "cpu")
    assert devices.choose() == torch.device("cpu")
