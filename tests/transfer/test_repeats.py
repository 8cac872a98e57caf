"""Fine-tuning again under further seeds: finished ones are kept, a killed one goes on to the same bits."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from src.images.image_batches import ImageBatches
from src.training import fitting, metrics
from src.training.fitting import Session
from src.transfer import finetuning, repeats
from src.transfer.repeats import Repeat, Repeats
from tests.builders.small import (
    CHOSEN,
    EVERYTHING,
    OFF,
    Killed,
    augment,
    convolutional,
    finetune_settings,
    images,
    killer,
    load,
    quiet,
    same_state,
)

COUNT, EPOCHS, STEPS = 20, 2, 3  # training images, and steps of an epoch in batches of 8
SEED_IMAGES = COUNT * EPOCHS
SETTINGS = finetune_settings(epochs=EPOCHS, checkpoint_minutes=0.0, ema_decay=0.9, mixup=0.2)
TRAIN = partial(finetuning.train, settings=SETTINGS, lr=0.01, class_weights="equal")


def splits(seed: int = 99) -> dict[str, ImageBatches]:
    counts = {"train": COUNT, "val": 12, "test": 9}
    return {
        name: images(count, name=name, augment=augment(**EVERYTHING) if name == "train" else OFF, seed=seed)
        for name, count in counts.items()
    }


def small(*, seed: int) -> nn.Sequential:
    return convolutional(dropout=0.3)


def never(*, seed: int) -> nn.Sequential:
    raise AssertionError("a network was built")


def runs(
    folder: Path, seeds: Sequence[int] = (1, 2), build: Callable[..., nn.Sequential] = small, **own: Any
) -> Repeats:
    plain: dict[str, Any] = {"splits": splits(), "settings": SETTINGS} | own
    return Repeats(build=build, train=TRAIN, seeds=seeds, folder=folder, **plain)


def equal(first: dict[int, Repeat], second: dict[int, Repeat]) -> bool:
    return list(first) == list(second) and all(
        same_state(first[seed].logits, second[seed].logits)
        and (first[seed].curve, first[seed].best_epoch) == (second[seed].curve, second[seed].best_epoch)
        for seed in first
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Repeat]:
    return runs(tmp_path_factory.mktemp("undisturbed")).run(quiet)


def test_a_repeat_is_the_training_that_its_seed_alone_would_be(
    undisturbed: dict[int, Repeat], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the stage trains the model itself; not of the other seeds, or of what the splits were seeded with."""
    rows: list[dict[str, Any]] = []
    again = runs(tmp_path, (2,), splits=splits(seed=5), on_epoch=rows.append).run(quiet)
    assert equal(again, {2: undisturbed[2]})
    assert "finetune, seed 2: epoch 1/2" in capsys.readouterr().out
    assert rows == [{"seed": 2} | row for row in undisturbed[2].curve]
    assert [path.name for path in tmp_path.iterdir()] == ["seed_2.pt"], "states of a finished seed are in the way"
    whole, network = splits(seed=2), small(seed=2)
    session = Session(seed=2, advance=quiet)
    fitted = TRAIN(network, whole["train"], whole["val"], session=session)
    predictions, scores = metrics.evaluate(
        "finetuned", whole, lambda split: fitting.predict(network, split, 8), tuple("abcd")
    )
    model = repeats.first(fitted, predictions)
    assert equal({2: model}, again)
    labels = {name: whole[name].labels for name in repeats.SCORED}
    assert repeats.scores(model, labels) == {name: scores[name] for name in labels} | {"best_epoch": fitted.best_epoch}
    assert not torch.equal(undisturbed[1].logits["test"], undisturbed[2].logits["test"])


@pytest.mark.parametrize("killed_after", [STEPS - 1, STEPS + 2, 2 * STEPS + 2])
def test_a_kill_within_a_repeat_costs_no_step_of_it_nor_a_finished_one(
    undisturbed: dict[int, Repeat], tmp_path: Path, killed_after: int
) -> None:
    with pytest.raises(Killed):
        runs(tmp_path).run(killer(killed_after))
    told: list[int] = []
    built: list[int] = []

    def build(*, seed: int) -> nn.Sequential:
        built.append(seed)
        return small(seed=seed)

    again = runs(tmp_path, build=build)
    done = again.done
    assert done == (SEED_IMAGES if killed_after > 2 * STEPS else 0)
    assert equal(again.run(told.append), undisturbed)
    assert built == ([2] if done else [1, 2])
    assert told[0] > 0, "nothing of the killed one was kept"
    assert done + sum(told) == again.images == 2 * SEED_IMAGES
    assert equal(runs(tmp_path, build=never).run(killer(1)), undisturbed)


def test_each_network_starts_from_the_backbone_as_it_is() -> None:
    backbone = load()
    pretrained = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    head = finetuning.build_head("deep", width=backbone.width, classes=3, dropout=0.3, seed=9).state_dict()
    given = (backbone, CHOSEN, head, finetune_settings())
    for seed in (0, 1):
        network = finetuning.build(*given, classes=3, seed=seed, device=torch.device("cpu"))
        assert same_state(network.backbone.state_dict(), pretrained)
        assert same_state(network.head.state_dict(), head)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
    assert same_state(backbone.network.state_dict(), pretrained)


def test_the_summary_is_of_all_seeds_and_of_a_single_one_there_is_none(undisturbed: dict[int, Repeat]) -> None:
    labels = {name: splits()[name].labels for name in repeats.SCORED}
    table = pd.DataFrame(repeats.rows(undisturbed, labels))
    assert table["seed"].tolist() == [1, 2]
    hits = [(undisturbed[seed].logits["test"].argmax(1) == labels["test"]).double().mean().item() for seed in (1, 2)]
    assert table["test_accuracy"].tolist() == pytest.approx(hits)
    summary = repeats.summarise(undisturbed, labels)["repeats"]
    assert summary == pytest.approx({"accuracy": sum(hits) / 2, "accuracy_std": abs(hits[0] - hits[1]) / 2**0.5})
    assert repeats.summarise({1: undisturbed[1]}, labels) == {}
    assert repeats.seeds(7, 3) == [7, 8, 9]
