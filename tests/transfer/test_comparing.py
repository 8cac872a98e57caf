"""One backbone of the comparison: its training images, the probe that validation chooses, and what cannot be."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from src.base.splits import Split
from src.interface.params import Backbone, Comparison
from src.transfer import comparing
from src.transfer.comparing import Features
from tests.builders.small import images, load, quiet

CPU = torch.device("cpu")


def settings(**changes: object) -> Comparison:
    values = {"train_limit": None, "penalties": (1.0, 0.1, 0.01), "neighbours": 3}
    return Comparison(**(values | changes))  # type: ignore[arg-type]


def features(*, classes: int = 3, noise: float = 1.0, val: int = 60) -> Features:
    """Clouds, one a class."""
    found: dict[str, Tensor] = {}
    labels: dict[str, Tensor] = {}
    for seed, (name, count) in enumerate({"train": 90, "val": val, "test": 120}.items()):
        labels[name] = torch.arange(count) % classes
        drawn = noise * torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
        found[name] = (torch.eye(classes, 8)[labels[name]] * 3 + drawn).half()
    return Features(features=found, labels=labels, classes=tuple("abcdef"[:classes]))


def split(labels: list[int], classes: tuple[str, ...] = ("a", "b", "c")) -> Split:
    return Split(images=torch.arange(len(labels)).view(-1, 1, 1, 1), labels=torch.tensor(labels), classes=classes)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_fit_with_the_best_validation_is_chosen_and_scored_once_on_test(classes: int) -> None:
    found = features(classes=classes, noise=1.5)
    probed = comparing.probe(found, settings(), CPU, label="x")
    best = max(row["val_accuracy"] for row in probed.path)
    first = next(row["penalty"] for row in probed.path if row["val_accuracy"] == best)
    assert probed.chosen.penalty == first, "of equals, the strongest"
    scored = comparing.scores(probed, found.labels)
    named = {split: logits.argmax(1) == found.labels[split] for split, logits in probed.logits["probe"].items()}
    assert scored["val"]["accuracy"] == best == named["val"].double().mean().item()
    assert scored["test"]["accuracy"] == named["test"].double().mean().item() > 1.3 / classes
    assert scored["test"]["low"] < scored["test"]["accuracy"] < scored["test"]["high"]
    assert scored["test"]["neighbours"] > 1.3 / classes
    kept = comparing.predictions(probed, found)
    assert list(kept["logits"]) == ["probe", "neighbours"]
    assert len(kept["label"]) == 60 + 120


def test_fits_that_did_not_converge_are_said_and_on_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.transfer.probe.ITERATIONS", 1)
    probed = comparing.probe(features(), settings(penalties=(0.1,)), CPU, label="compare_backbones@x")
    assert probed.unconverged == [0.1]
    assert "compare_backbones@x: the probe at penalty 0.1 did not converge" in capsys.readouterr().err
    monkeypatch.undo()
    assert comparing.probe(features(), settings(), CPU, label="x").unconverged == []


def test_a_limit_keeps_the_classes_in_proportion_and_more_than_there_are_is_all() -> None:
    train = split([0] * 40 + [1] * 20 + [2] * 10)
    kept = comparing.limited(train, settings(train_limit=35), seed=3)
    assert torch.bincount(kept.labels).tolist() == [20, 10, 5]
    assert torch.equal(train.labels[kept.images.flatten()], kept.labels)
    assert torch.equal(comparing.limited(train, settings(train_limit=35), seed=3).images, kept.images)
    assert comparing.limited(train, settings(train_limit=71), seed=3) is train
    assert comparing.limited(train, settings(), seed=3) is train


def test_a_limit_below_one_image_a_class_and_a_class_without_any_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"^comparison\.train_limit: 2 is not allowed; allowed: 3 \(one image"):
        comparing.limited(split([0, 1, 2, 2]), settings(train_limit=2), seed=0)
    with pytest.raises(ValueError, match=r"^class 'c' has no training image, so no probe can name it"):
        comparing.limited(split([0, 1, 1]), settings(), seed=0)


def test_a_class_absent_from_validation_is_one_line_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    full, lacking = split([0, 1, 2]), split([0, 0, 2])
    assert comparing.warn_of_absent({"val": lacking}, "compare_backbones@x") == ["b"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "compare_backbones@x: validation, which chooses, has no image of b: what is chosen is blind to it"
    )
    assert comparing.warn_of_absent({"val": full}, "x") == []
    found = features()
    blind = replace(found, labels=found.labels | {"val": found.labels["val"].clamp(max=1)})
    assert comparing.probe(blind, settings(), CPU, label="x").path


def test_an_entry_is_named_by_its_key() -> None:
    known = {"a": Backbone(name="resnet18", weights="random", resolution=32)}
    assert comparing.named(known, ["a"]) == "a"
    for arguments, entries, line in (
        (["b"], known, "b: allowed: one of compared_backbones in params.yaml (a)"),
        ([], known, "no entry: allowed: one of"),
        (["a"], {}, "a: allowed: one of compared_backbones in params.yaml (none, compared_backbones is empty)"),
    ):
        with pytest.raises(ValueError, match=r"allowed: one of compared_backbones") as caught:
            comparing.named(entries, arguments)
        assert str(caught.value).startswith(line)


def test_features_are_the_clean_views_of_all_splits() -> None:
    network = load().network.eval().requires_grad_(False)
    splits = {"train": images(5, resolution=32), "val": images(3, name="val", resolution=32)}
    found = comparing.extract(network, splits, width=640, batch_size=2, section="x", advance=quiet)
    assert (found.width, found.classes) == (640, tuple("abcd"))
    with torch.no_grad():
        expected = network(next(splits["val"].clean(3)))
    torch.testing.assert_close(found.features["val"].float(), expected, atol=2e-3, rtol=2e-3)
    assert torch.equal(found.labels["train"], splits["train"].labels)


def test_memory_that_runs_out_is_one_line_that_names_the_entrys_own_key() -> None:
    def never(inputs: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    with pytest.raises(MemoryError, match=r"not even one image .*; try a lower compared_backbones\.x\.resolution"):
        comparing.extract(
            never, {"train": images(4)}, width=8, batch_size=4, section="compared_backbones.x", advance=quiet
        )


def test_memory_that_the_probe_does_not_get_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(comparing, "fit_path", refuse)
    with pytest.raises(MemoryError, match=r"a probe of 90 images by 8 features .*try comparison\.train_limit=45"):
        comparing.probe(features(), settings(), CPU, label="x")


def test_features_that_overflow_name_the_entrys_weights() -> None:
    with pytest.raises(FloatingPointError, match=r"check compared_backbones\.x\.weights"):
        comparing.extract(
            lambda inputs: torch.full((len(inputs), 8), 1e6),
            {"train": images(4)},
            width=8,
            batch_size=4,
            section="compared_backbones.x",
            advance=quiet,
        )
