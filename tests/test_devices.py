"""Devices: chosen by the machine, overridden by the environment, and wrong values answered in one line."""

from collections.abc import Iterator

import pytest
import torch

from src import devices


@pytest.fixture(autouse=True)
def own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No override from outside, and the number of threads afterwards as before."""
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.delenv("THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
