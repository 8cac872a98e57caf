"""What only a GPU shows: `pytest -m gpu` on a machine that has one."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.base import devices, distributed
from src.images import augmentation
from src.images.image_batches import ImageBatches
from src.interface.params import Augment
from src.models.heads import build_head, join
from src.training import fitting
from src.training.fitting import Fitted
from src.transfer import finetuning
from src.transfer.feature_batches import FeatureBatches
from tests.builders.small import (
    EVERYTHING,
    augment,
    convolutional,
    features,
    finetune_settings,
    fit,
    images,
    load,
    noise,
    random_draws,
    raw,
    same_state,
)

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.fixture
def deterministic() -> Iterator[None]:
    devices.choose(deterministic=True)
    yield
    devices.choose()


def big(host: bool, policy: str = "none") -> ImageBatches:
    """Enough batches for memory to be used again and again."""
    settings = augment(**EVERYTHING | {"policy": policy})
    return images(2000, augment=settings, resolution=64, device=DEVICE, host=host)


def kept(batches: Iterator[Any]) -> list[Tensor]:
    """All batches on the CPU; each is worked with for a while first, so that the host runs ahead of the device."""
    found = []
    for batch in batches:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        weights = torch.ones(2048, 2048, device=inputs.device)
        for _ in range(20):
            weights = weights @ weights / 2048
        found.append(inputs * weights[0, 0])
    return [inputs.cpu() for inputs in found]


@pytest.mark.parametrize(
    "read",
    [
        lambda source: source.shuffled(1, 32),
        lambda source: source.shuffled(2, 32, start=40),
        lambda source: source.clean(64),
        lambda source: source.augmented(1, 64),
    ],
    ids=["shuffled", "resumed", "clean", "augmented"],
)
def test_images_from_host_memory_give_the_bits_of_images_on_the_device(
    read: Callable[[ImageBatches], Iterator[Any]],
) -> None:
    host, resident = big(host=True), big(host=False)
    assert (host.images.device.type, host.labels.device.type, resident.images.device.type) == ("cpu", DEVICE, DEVICE)
    pairs = list(zip(kept(read(host)), kept(read(resident)), strict=True))
    assert len(pairs) > 20
    assert all(torch.equal(*pair) for pair in pairs)


def test_images_are_on_the_device_where_they_fit_and_in_host_memory_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images(8, device=DEVICE).images.device.type == DEVICE
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 10**9))
    assert images(8, device=DEVICE).images.device.type == "cpu"


def on_device(source: FeatureBatches) -> FeatureBatches:
    return replace(source, features=source.features.to(DEVICE), labels=source.labels.to(DEVICE))


@pytest.mark.parametrize(
    "build",
    [
        lambda: on_device(features(500)),
        lambda: big(host=False),
        lambda: big(host=True),
        lambda: big(host=False, policy="trivialaugment"),
        lambda: big(host=False, policy="autoaugment"),
    ],
    ids=["features", "images", "host", "trivialaugment", "autoaugment"],
)
def test_no_batch_after_the_first_makes_the_host_wait_for_the_device(build: Callable[[], Any]) -> None:
    batches = build().shuffled(1, 32)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert sum(len(labels) for _, labels in batches) > 400
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pico() -> nn.Sequential:
    """A whole EfficientNet, with squeeze-and-excitation and stochastic depth."""
    backbone = load(seed=1)
    return join(backbone.network, build_head("simple", width=backbone.width, classes=4, dropout=0.2, seed=1))


def trained(network: nn.Module, data: ImageBatches, **recipe: Any) -> tuple[dict[str, Tensor], Fitted]:
    network = network.to(DEVICE, memory_format=torch.channels_last)
    fitted = fit(network, data, data, **recipe)
    return fitting.weights(network), fitted


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("policy", ["none", "trivialaugment", "autoaugment"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_deterministic_training_gives_the_same_bits_twice(policy: str, precision: str) -> None:
    settings = augment(**EVERYTHING | {"policy": policy})
    recipe = {"epochs": 2, "batch_size": 16, "mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1, "ema_decay": 0.9}
    data = images(48, augment=settings, resolution=64, device=DEVICE)
    (first, one), (second, other) = (trained(pico(), data, precision=precision, **recipe) for _ in range(2))
    assert same_state(first, second)
    assert one.curve == other.curve


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("policy", ["none", "trivialaugment", "autoaugment"])
def test_a_gpu_renders_what_a_cpu_renders(policy: str) -> None:
    """But for rounding: an image whose draw lies within rounding of a threshold may differ."""
    settings: Augment = augment(**EVERYTHING | {"policy": policy})
    stored, draws = noise(64, 16), random_draws(64)
    here = augmentation.render(stored, raw(32), settings, draws)
    there = augmentation.render(stored.to(DEVICE), raw(32), settings, draws.to(DEVICE)).cpu()
    differ = ((here - there).abs() > 1e-3).flatten(1).any(1)
    assert int(differ.sum()) <= 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_learns_32_noise_images_by_heart_in_every_precision(precision: str) -> None:
    """Under float16 with loss scaling, whose first steps may overflow and be left out."""
    recipe = {"epochs": 60, "batch_size": 16, "schedule": "constant", "optimizer": "adamw", "lr": 0.005}
    _, fitted = trained(convolutional(), images(32, device=DEVICE), precision=precision, **recipe)
    assert fitted.machine["precision"] == precision
    assert fitted.scores["accuracy"] == 1.0
    assert fitted.curve[-1]["train_loss"] < 0.1


@pytest.mark.usefixtures("deterministic")
def test_a_compiled_network_trains_as_an_eager_one() -> None:
    recipe = {"epochs": 2, "batch_size": 16, "lr": 0.01}
    runs = [
        trained(convolutional(), images(32, device=DEVICE), compile=compiled, **recipe) for compiled in (True, False)
    ]
    (compiled, ours), (eager, theirs) = runs
    assert (ours.machine["compiled"], theirs.machine["compiled"]) == (True, False)
    for row, expected in zip(ours.curve, theirs.curve, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-3)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, atol=1e-3, rtol=1e-2, msg=name)


SHORT = {"epochs": 2, "batch_size": 16, "lr": 0.01}


def process(rank: int, processes: int, port: int, path: Path) -> None:
    """One of several processes of a run, as torchrun starts them, with synchronised batch norm."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    device = devices.choose(deterministic=True)
    with distributed.group(device):
        settings = finetune_settings(sync_batch_norm=True)
        network = finetuning.synchronise_batch_norm(convolutional(), settings, device)
        network = network.to(device, memory_format=torch.channels_last)
        data = images(48, device=str(device))
        fitted = fit(network, data, data, **SHORT)
        if distributed.leads():
            torch.save({"state": fitting.weights(network), "curve": fitted.curve}, path)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="a process group of nccl needs a GPU for each process")
@pytest.mark.usefixtures("deterministic")
def test_two_processes_with_synchronised_batch_norm_equal_one_process_with_batch_norm(tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(process, args=(2, port, tmp_path / "two.pt"), nprocs=2)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    state, one = trained(convolutional(), images(48, device=DEVICE), **SHORT)
    for row, expected in zip(two["curve"], one.curve, strict=True):
        assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-5)
        assert row["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-5)
    for name, value in state.items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-5, rtol=1e-4, msg=name)
