"""Weights of a backbone: files that fit, files that say why not, and torchvision's over the network or without one."""

import hashlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.models import WeightsEnum
from torchvision.models._api import Weights
from torchvision.transforms._presets import ImageClassification

from src.base import artifacts
from src.images.augmentation import View
from src.models import backbones, efficientnet, lite
from src.models.weights import _download
from tests.builders.small import PICO, SHIPPED, backbone_settings, load, same_state


def shipped() -> dict[str, Tensor]:
    return load_file(SHIPPED)


def message(weights: object, name: str = PICO) -> str:
    """The one line that a user reads about weights that cannot be loaded."""
    with pytest.raises(ValueError, match=r"^backbone\.weights: ") as caught:
        load(name, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_weights_load_with_their_own_resolution_and_normalisation() -> None:
    backbone = load(weights=SHIPPED)
    expected = {key: value for key, value in shipped().items() if not key.startswith("classifier.")}
    assert same_state(dict(sorted(backbone.network.state_dict().items())), dict(sorted(expected.items())))
    assert backbone.view == View(resolution=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert artifacts.sha256(SHIPPED) in (SHIPPED.parent / "README.md").read_text()
    assert backbones.describe(backbone_settings(weights=SHIPPED))["weights_sha256"] == artifacts.sha256(SHIPPED)


def test_the_header_of_a_safetensors_file_decides_resolution_and_normalisation(tmp_path: Path) -> None:
    stated = {"resolution": 48, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    header = {key: json.dumps(value) for key, value in stated.items()}
    save_file(shipped(), tmp_path / "own.safetensors", metadata=header)
    assert load(weights=tmp_path / "own.safetensors").view == View(
        resolution=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)
    )


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
def test_weights_written_to_a_file_load_bit_equal(tmp_path: Path, suffix: str) -> None:
    original, path = load(seed=1).network.state_dict(), tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file({key: value.contiguous() for key, value in original.items()}, path)
    else:
        torch.save(original, path)
    assert same_state(load(weights=path, seed=2).network.state_dict(), original)


@pytest.mark.parametrize("others", ["B0", pytest.param("all", marks=pytest.mark.slow)])
def test_weights_with_missing_unexpected_and_misshapen_keys_name_the_first_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    if others == "B0":  # each other network is built, to see whether the weights are its
        some = {"efficientnet_b0": efficientnet.PUBLISHED["efficientnet_b0"]}
        monkeypatch.setattr(efficientnet, "PUBLISHED", some)
        monkeypatch.setattr(lite, "RESOLUTIONS", {})
    state = shipped()
    keys = [key for key in load().network.state_dict() if not key.endswith("num_batches_tracked")]
    for key in keys[:4]:
        del state[key]
    state |= {"head.weight": torch.zeros(1), keys[10]: torch.zeros(2, 5)}
    save_file(state, tmp_path / "odd.safetensors")
    said = message(tmp_path / "odd.safetensors")
    assert f"does not fit {PICO}: 4 missing: {'; '.join(keys[:3])} ..." in said
    assert "1 unexpected: head.weight" in said
    assert f"1 of another shape: {keys[10]} (2, 5), not {tuple(shipped()[keys[10]].shape)}" in said
    assert keys[3] not in said


def test_weights_of_another_network_are_said_to_be_its_own_instead_of_listing_tensors() -> None:
    assert message(SHIPPED, name="resnet18") == (
        f"backbone.weights: {SHIPPED} has the weights of {PICO}, not of resnet18; "
        f"allowed: backbone.name={PICO} with it, or weights of resnet18"
    )


def test_the_prefix_that_data_parallel_training_leaves_is_dropped(tmp_path: Path) -> None:
    original = load(seed=1).network.state_dict()
    torch.save({f"module.{key}": value for key, value in original.items()}, tmp_path / "parallel.pth")
    assert same_state(load(weights=tmp_path / "parallel.pth", seed=2).network.state_dict(), original)


def test_batch_counters_may_be_missing_as_in_old_files(tmp_path: Path) -> None:
    state = {key: value for key, value in shipped().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    assert same_state(
        {key: value for key, value in load(weights=tmp_path / "old.pth").network.state_dict().items() if key in state},
        {key: state[key] for key in load().network.state_dict() if key in state},
    )


def old_densenet_state() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A DenseNet's state as this torchvision names it, and as its published file does, with a classifier."""
    state = load("densenet201", seed=3).network.state_dict()
    old = {}
    for key, value in state.items():
        for part in ("norm", "conv"):
            for number in "12":
                key = key.replace(f".{part}{number}.", f".{part}.{number}.") if "denselayer" in key else key
        old[key] = value
    return state, old | {"classifier.weight": torch.zeros(1000, 1920), "classifier.bias": torch.zeros(1000)}


def test_old_densenet_names_are_accepted(tmp_path: Path) -> None:
    state, old = old_densenet_state()
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet201-c1103571.pth")
    assert same_state(load("densenet201", tmp_path / "densenet201-c1103571.pth").network.state_dict(), state)


def test_a_path_that_does_not_exist_is_named_with_the_folder_it_was_sought_in(tmp_path: Path) -> None:
    assert (
        message("weights/nowhere.pth")
        == f"backbone.weights: weights/nowhere.pth does not exist (looked in {Path.cwd()})"
    )
    assert "does not exist" in message(tmp_path / "nowhere.safetensors")


def break_empty(path: Path) -> None:
    path.write_bytes(b"")


def break_garbage(path: Path) -> None:
    path.write_bytes(b"<html>404 Not Found</html>")


def break_truncated(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path) if path.suffix == ".pth" else save_file({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("damage", [break_empty, break_garbage, break_truncated])
def test_a_broken_file_is_one_clear_line(tmp_path: Path, suffix: str, damage: Callable[[Path], None]) -> None:
    path = tmp_path / f"broken.{suffix}"
    damage(path)
    assert str(path) in message(path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code in a weights file ran')",)


def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    torch.save({"a": Trap()}, tmp_path / "trap.pth")
    assert f"{tmp_path / 'trap.pth'} holds exec, which is no tensor" in message(tmp_path / "trap.pth")


def test_a_checkpoint_that_wraps_its_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": shipped(), "epoch": 3}, tmp_path / "checkpoint.pth")
    assert "is no state dict; allowed: a mapping from names to tensors" in message(tmp_path / "checkpoint.pth")


def test_an_unknown_name_lists_the_known_ones() -> None:
    said = message("IMAGENET1K_V9", name="resnet50")
    allowed = "imagenet, IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, random, or the path of a .pth, .pt or .safetensors file"
    assert said == f"backbone.weights: 'IMAGENET1K_V9' is not known for resnet50; allowed: {allowed}"


def test_imagenet_does_not_exist_for_pico_and_the_shipped_file_is_named() -> None:
    assert "'imagenet' does not exist for efficientnet_pico; allowed: random, or a path such as weights/" in message(
        "imagenet"
    )
    assert SHIPPED.name in message("imagenet")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """An empty cache of torch.hub's."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.mark.parametrize("weights", ["imagenet", "IMAGENET1K_V1"])
def test_without_a_network_the_message_names_the_file_and_the_ways_out(
    hub: Path, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens: it fails at once
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    said = message(weights, name="resnet18")
    assert (
        f"could not fetch https://download.pytorch.org/models/resnet18-f37072fd.pth to {hub}/resnet18-f37072fd.pth"
        in said
    )
    assert "set backbone.weights to a local file, or try `make run`, which needs no network" in said
    assert not list(hub.iterdir())


def test_a_damaged_file_in_the_cache_is_refused_by_its_hash(hub: Path) -> None:
    hub.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), hub / "resnet18-f37072fd.pth")
    said = message("imagenet", name="resnet18")
    assert 'invalid hash value (expected "f37072fd"' in said
    assert f"delete {hub}/resnet18-f37072fd.pth and try again" in said


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *message: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address under which `folder` is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def published(url: str) -> WeightsEnum:
    entry = Weights(url=url, transforms=partial(ImageClassification, crop_size=224), meta={})
    return WeightsEnum("Published", {"V1": entry}).V1


def test_published_weights_are_fetched_once_and_checked_by_the_hash_in_their_name(hub: Path, tmp_path: Path) -> None:
    """Over real HTTP with torch.hub, from this machine."""
    torch.save(shipped(), tmp_path / "pico.pth")
    digest = hashlib.sha256((tmp_path / "pico.pth").read_bytes()).hexdigest()
    (tmp_path / "pico.pth").rename(tmp_path / f"pico-{digest[:8]}.pth")
    (tmp_path / "pico-00000000.pth").write_bytes((tmp_path / f"pico-{digest[:8]}.pth").read_bytes())
    with served(tmp_path) as address:
        good = published(f"{address}/pico-{digest[:8]}.pth")
        assert same_state(_download(good), shipped())
        with pytest.raises(
            ValueError, match=rf'invalid hash value \(expected "00000000", got "{digest}"\); delete'
        ) as caught:
            _download(published(f"{address}/pico-00000000.pth"))
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"could not fetch http://127\.0\.0\.1:\d+/no-12345678\.pth .*404"):
            _download(published(f"{address}/no-12345678.pth"))
    assert same_state(_download(good), shipped()), "the second time needs no network"
    assert [path.name for path in hub.iterdir()] == [f"pico-{digest[:8]}.pth"]


class Nonsense(socketserver.BaseRequestHandler):
    """What a captive portal or a broken proxy may answer."""

    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"welcome to the hotel\r\n")


def test_a_server_that_answers_nonsense_is_one_clear_line_and_leaves_nothing(hub: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        weights = published(f"http://127.0.0.1:{server.server_address[1]}/pico-12345678.pth")
        with pytest.raises(
            ValueError, match=r"^backbone\.weights: could not fetch .*welcome to the hotel.*; put the file"
        ):
            _download(weights)
    assert not list(hub.iterdir())


def test_weights_behind_a_linked_folder_are_refused_and_a_linked_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC watches weights/: it records a linked folder by its name, and a linked file by what it holds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind/w.safetensors").write_bytes(SHIPPED.read_bytes())
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mine").symlink_to(tmp_path / "behind")
    (tmp_path / "weights/w.safetensors").symlink_to(tmp_path / "behind/w.safetensors")
    load(weights="weights/w.safetensors")
    assert message("weights/mine/w.safetensors").startswith(
        "backbone.weights: weights/mine is a link to a folder, behind"
    )
