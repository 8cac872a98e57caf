"""Two processes are one training run: the same losses, predictions and files; a kill of either costs little."""

import copy
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.base import distributed
from src.base.batches import Batches, shuffle
from src.training import fitting
from src.training.checkpoints import Checkpoints
from src.training.fitting import Session
from src.training.loop import Loop, Recipe
from src.training.optimizers import EPSILON, build_optimizer
from src.training.parameter_groups import parameter_groups
from src.training.steps import Stepper
from tests.builders.small import EVERYTHING, augment, convolutional, features, images, quiet, same_state

# Children are forked from a process that has torch imported: one import instead of one each, and no thread to inherit.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.builders.small", "pytest"])
SECONDS = 120.0  # until processes count as hanging
KILLED = -signal.SIGKILL


def started(work: Callable[..., Any], *arguments: Any, folder: Path, processes: int) -> list[int]:
    """Run `work` in processes that form a group; their exit statuses, as torchrun would see them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    address = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        FORKS.Process(target=member, args=(address | {"RANK": str(rank)}, folder, work, arguments))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    deadline = time.monotonic() + SECONDS
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
    hanging = [rank for rank, child in enumerate(children) if child.is_alive()]
    for child in children:
        child.kill()
        child.join()
    assert not hanging, f"processes {hanging} were still there after {SECONDS:.0f} s"
    return [child.exitcode for child in children]


def member(environment: dict[str, str], folder: Path, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """One process of a group: what `work` returns goes to a file, a traceback to another."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    rank = environment["RANK"]
    sys.stderr = (folder / f"{rank}.error").open("w")
    with distributed.group(torch.device("cpu")):
        torch.save(work(*arguments), folder / f"{rank}.result")


def together(work: Callable[..., Any], *arguments: Any, folder: Path, processes: int = 2) -> list[Any]:
    """What `work` returns in each of the processes."""
    statuses = started(work, *arguments, folder=folder, processes=processes)
    assert not any(statuses), "\n".join(path.read_text() for path in folder.glob("*.error")) or statuses
    return [torch.load(folder / f"{rank}.result", weights_only=False) for rank in range(processes)]


def still(model: nn.Module) -> None:
    """Batch norm as in evaluation: then no image depends on which others share its process."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def loop(model: nn.Module, train: Batches, **recipe: Any) -> Loop:
    optimizer = build_optimizer("sgd", parameter_groups(model, "head", lr=0.1, weight_decay=0.01), epsilon=EPSILON)
    settings = Recipe(**({"epochs": 5, "batch_size": 8, "schedule": "cosine"} | recipe))
    return Loop(model=model, optimizer=optimizer, train=train, recipe=settings, seed=0, checkpoints=Checkpoints(None))


def twenty_steps(count: int, recipe: dict[str, Any], equal_weights: bool = False) -> dict[str, Any]:
    """Losses and gradient norms of 20 steps, and the weights after them, batch norm's statistics as they were."""
    if equal_weights:
        Stepper.take = equally(Stepper.take)  # type: ignore[method-assign]
    model = convolutional()
    run = loop(model, images(count, augment=augment(flip=True, brightness=0.2)), **recipe)
    losses, norms = [], []
    for _ in range(20 // run.steps):
        model.train()
        still(model)
        row = run.train_epoch(quiet)
        losses.append(run.record.losses.clone())
        norms.append(run.record.norms.clone())
        run.end_epoch(row | {"val_accuracy": 0.0, "val_loss": 0.0})
    return {"losses": torch.cat(losses), "norms": torch.cat(norms), "weights": run.judged.state_dict()}


def equally(take: Callable[..., Any]) -> Callable[..., Any]:
    """The mistake of averaging the parts' means, whatever the sizes of the parts."""

    def wrong(stepper: Stepper, batch: Any, *, total: int, seed: int) -> Any:
        return take(stepper, batch, total=len(batch.labels) * distributed.processes(), seed=seed)

    return wrong


@pytest.mark.parametrize(
    ("count", "recipe"),
    [
        pytest.param(32, {"batch_size": 8}, marks=pytest.mark.slow),
        pytest.param(30, {"batch_size": 8, "label_smoothing": 0.1}, marks=pytest.mark.slow),  # batches of 8 and 7
        (35, {"batch_size": 7, "epochs": 4, "clip_norm": 0.5, "ema_decay": 0.9}),  # 4 and 3 images in each
        (35, {"batch_size": 7, "epochs": 4, "micro_batch_size": 4}),  # two passes over 4 images, 2 and 1 over 3
    ],
    ids=["even", "some uneven", "all uneven", "accumulated"],
)
def test_two_processes_are_one_over_20_steps(count: int, recipe: dict[str, Any], tmp_path: Path) -> None:
    one = twenty_steps(count, recipe)
    first, second = together(twenty_steps, count, recipe, folder=tmp_path)
    assert len(one["losses"]) == 20
    assert one["losses"].max() - one["losses"].min() > 0.1, "nothing was learned that could differ"
    torch.testing.assert_close(first["losses"], one["losses"], atol=1e-5, rtol=0)
    torch.testing.assert_close(first["norms"], one["norms"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(first["weights"], one["weights"], atol=1e-5, rtol=0)
    assert torch.equal(first["losses"], second["losses"])
    assert same_state(first["weights"], second["weights"])


def test_parts_weighted_equally_instead_of_by_their_size_would_show(tmp_path: Path) -> None:
    one = twenty_steps(35, {"batch_size": 7, "epochs": 4})
    wrong, _ = together(twenty_steps, 35, {"batch_size": 7, "epochs": 4}, True, folder=tmp_path)
    assert (wrong["losses"] - one["losses"]).abs().max() > 1e-3
    assert max((wrong["weights"][name] - one["weights"][name]).abs().max() for name in one["weights"]) > 1e-3


def collectives(count: int) -> dict[str, Any]:
    """What each function of src.distributed gives, for values that name their process and their row."""
    rank, rows = distributed.rank(), torch.arange(count * 2.0).view(count, 2)
    sums = [torch.full((2, 2), 1.0 + rank), torch.tensor(10.0 * rank), torch.empty(0)]
    distributed.sum_over_processes(sums)
    return {
        "own": distributed.own_part(rows).clone(),
        "all": distributed.gather(distributed.own_part(rows) - 0.5, count),
        "sums": sums,
        "leader": distributed.from_leader({"of": rank, "tensor": torch.tensor([rank])}),
        "leads": distributed.leads(),
    }


def of_each(work: Callable[[int], Any], counts: tuple[int, ...]) -> list[Any]:
    """What `work` returns for each count: one group of processes for all."""
    return [work(count) for count in counts]


def test_parts_are_disjoint_and_all_of_it_and_sums_and_rows_are_the_same_everywhere(tmp_path: Path) -> None:
    counts = (0, 1, 2, 3, 7)
    members = together(of_each, collectives, counts, folder=tmp_path, processes=3)
    for count, *found in zip(counts, *members, strict=True):
        check_parts(count, found)


def check_parts(count: int, found: list[dict[str, Any]]) -> None:
    """`found`: by process."""
    rows = torch.arange(count * 2.0).view(count, 2)
    assert torch.equal(torch.cat([part["own"] for part in found]), rows)
    lengths = [len(part["own"]) for part in found]
    assert max(lengths) - min(lengths) <= 1
    for part in found:
        assert torch.equal(part["all"], rows - 0.5)
        assert torch.equal(part["sums"][0], torch.full((2, 2), 6.0))
        assert part["sums"][1].item() == 30
        assert part["leader"] == {"of": 0, "tensor": torch.tensor([0])}
    assert [part["leads"] for part in found] == [True, False, False]


def test_one_process_needs_no_group() -> None:
    rows = torch.randn(3, 2)
    assert distributed.own_part(rows) is distributed.gather(rows, 3) is distributed.from_leader(rows) is rows
    (alone,) = [rows.clone()]
    distributed.sum_over_processes([alone])
    assert torch.equal(alone, rows)
    with distributed.group(torch.device("cpu")):
        assert not torch.distributed.is_initialized()


def predictions(count: int) -> dict[str, Tensor]:
    """Of a network, and of one that returns its very inputs: every image's own row."""
    pixels, cached = images(count), features(count, views=1)
    return {
        "network": fitting.predict(convolutional(), pixels, 4),
        "pixels": fitting.predict(nn.Flatten(), pixels, 4),
        "features": fitting.predict(nn.Flatten(), cached, 4),
    }


def test_predictions_hold_every_image_once_in_stored_order(tmp_path: Path) -> None:
    counts = (1, 2, 21)
    for count, first, second in zip(counts, *together(of_each, predictions, counts, folder=tmp_path), strict=True):
        one = predictions(count)
        assert {name: len(rows) for name, rows in first.items()} == dict.fromkeys(one, count)
        assert torch.equal(first["pixels"], one["pixels"])
        assert torch.equal(first["features"], one["features"])
        torch.testing.assert_close(first["network"], one["network"], atol=1e-6, rtol=0)
        assert same_state(first, second)


def states_of_an_epoch() -> list[dict[str, Tensor]]:
    """The network before training and after each step of an epoch, batch norm training."""
    model = convolutional()
    run = loop(model, images(31), batch_size=7)
    states = [copy.deepcopy(model.state_dict())]
    model.train()
    run.train_epoch(lambda _: states.append(copy.deepcopy(model.state_dict())))
    return states


def test_running_statistics_are_the_mean_of_the_parts_and_the_same_bits_everywhere(tmp_path: Path) -> None:
    first, second = together(states_of_an_epoch, folder=tmp_path)
    assert len(first) == 6
    assert all(same_state(*states) for states in zip(first, second, strict=True))
    data = images(31)
    inputs = torch.cat(list(data.clean(31)))
    for before, after, batch in zip(first, first[1:], shuffle(31, 7, data.seed, 1), strict=False):
        parts = []
        for index in batch.tensor_split(2):
            model = convolutional()
            model.load_state_dict(before)
            model.train()(inputs[index])
            parts.append(model.state_dict())
        for name in (name for name in after if "running" in name):
            torch.testing.assert_close(after[name], (parts[0][name] + parts[1][name]) / 2, atol=1e-6, rtol=1e-5)
            assert not torch.equal(parts[0][name], parts[1][name])


def whole_run(folder: Path, dying: tuple[int, ...] = (), last: int = 0) -> dict[str, Any]:
    """Training with everything on, a checkpoint after each step; processes `dying` kill themselves at step `last`."""
    checkpoints, model = Checkpoints(folder), convolutional(dropout=0.4)
    begun, steps = checkpoints.images, 0

    def advance(count: int) -> None:
        nonlocal steps
        steps += 1
        if steps == last and distributed.rank() in dying:
            os.kill(os.getpid(), signal.SIGKILL)

    groups = parameter_groups(model, "head", lr=0.01, weight_decay=0.01)
    recipe = {"ema_decay": 0.9, "clip_norm": 1.0, "mixup": 0.2, "cutmix": 1.0, "checkpoint_minutes": 0.0}
    fitted = fitting.fit(
        model,
        build_optimizer("adamw", groups, epsilon=EPSILON),
        images(30, augment=augment(**EVERYTHING)),
        images(13, name="val"),
        Recipe(epochs=3, batch_size=8, schedule="cosine", **recipe),
        session=Session(seed=0, advance=advance, checkpoints=checkpoints),
    )
    results = {"weights": model.state_dict(), "curve": fitted.curve, "scores": fitted.scores}
    return results | {"begun": begun, "steps": steps}


@pytest.mark.parametrize(
    "dying",
    [pytest.param((0, 1), marks=pytest.mark.slow), pytest.param((1,), marks=pytest.mark.slow), (0,)],
    ids=["both", "the second", "the leader"],
)
def test_a_kill_ends_all_and_the_next_start_ends_with_the_same_bytes(dying: tuple[int, ...], tmp_path: Path) -> None:
    """Who is left meets an error instead of waiting for the dead; torchrun names rank and signal (test_torchrun.py)."""
    folders = [tmp_path / name for name in ("undisturbed", "killed")]
    for folder in folders:
        folder.mkdir()
    undisturbed = together(whole_run, folders[0], folder=tmp_path)
    assert (undisturbed[0]["begun"], undisturbed[0]["steps"]) == (0, 12)
    statuses = started(whole_run, folders[1], dying, 6, folder=tmp_path, processes=2)
    assert statuses == [KILLED if rank in dying else 1 for rank in range(2)]
    resumed = together(whole_run, folders[1], folder=tmp_path)
    for before, after in zip(undisturbed, resumed, strict=True):
        assert (after["begun"], after["steps"]) == (30 + 16, 6)
        assert same_state(before["weights"], after["weights"])
        assert (before["curve"], before["scores"]) == (after["curve"], after["scores"])
    assert same_state(resumed[0]["weights"], resumed[1]["weights"])


def batches_of_five() -> None:
    loop(convolutional(), images(20), batch_size=5)


def test_more_processes_than_a_batch_has_images_for_are_one_line(tmp_path: Path) -> None:
    """Batch norm cannot train on one image; two processes have three and two."""
    together(batches_of_five, folder=tmp_path, processes=2)
    assert started(batches_of_five, folder=tmp_path, processes=3) == [1, 1, 1]
    for rank in range(3):
        line = (tmp_path / f"{rank}.error").read_text().splitlines()[-1]
        assert line.startswith("ValueError: LAUNCHER starts 3 processes")
        assert line.endswith("; allowed with these batches: at most 2")
