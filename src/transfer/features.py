"""Frozen features: every image through the backbone once. N images, V augmented views, D feature width."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from src.base import artifacts, devices
from src.images.image_batches import ImageBatches
from src.interface import console

PARTS_PER_WRITE = 16


def freeze(network: nn.Module) -> nn.Module:
    """The same network, its weights without gradients and its batch norms and dropout in inference mode."""
    return network.requires_grad_(False).eval()


def extract(
    run: Callable[[Tensor], Tensor],
    batches: ImageBatches,
    path: str | Path,
    *,
    views: int,
    width: int,
    batch_size: int,
    advance: Callable[[int], None],
) -> None:
    """Write float16 features (1 + V, N, D), labels (N,) and classes to `path`; the first view is clean.

    The features grow in a preallocated memory-mapped file, so they may outgrow memory.

    Args:
        run: a frozen network, images to features (N, D).
        views: V.
        width: D.
        batch_size: images at a time, halved where memory runs out.
        advance: told the number of images after each batch.

    Raises:
        FloatingPointError: a feature is too large for float16, or not a number.
        MemoryError: not even one image fits.
    """
    shape = (1 + views, len(batches.labels), width)
    with artifacts.scratch_tensor(shape, torch.float16, beside=path) as features, torch.inference_mode():
        for view, rows in enumerate(features):
            inputs_of = partial(batches.augmented, view) if view else batches.clean
            batch_size = _fill_in_memory(rows, run, inputs_of, batch_size, advance)
            if not rows.isfinite().all():
                raise FloatingPointError(
                    f"features of view {view} for {path} are not finite in float16: check backbone.weights"
                )
        artifacts.save({"features": features, "labels": batches.labels.cpu(), "classes": batches.classes}, path)


def clean_features(
    run: Callable[[Tensor], Tensor],
    batches: ImageBatches,
    *,
    width: int,
    batch_size: int,
    section: str,
    advance: Callable[[int], None],
) -> Tensor:
    """Features float16 (N, D) of the clean view, in memory, as `extract` has them.

    Args:
        section: of params.yaml, which has the backbone.

    Raises:
        FloatingPointError: a feature is too large for float16, or not a number.
        MemoryError: not even one image fits.
    """
    rows = torch.empty(len(batches.labels), width, dtype=torch.float16)
    with torch.inference_mode():
        _fill_in_memory(rows, run, batches.clean, batch_size, advance, section)
    if not rows.isfinite().all():
        raise FloatingPointError(f"features are not finite in float16: check {section}.weights")
    return rows


def _fill_in_memory(
    rows: Tensor,
    run: Callable[[Tensor], Tensor],
    inputs_of: Callable[[int], Iterable[Tensor]],
    batch_size: int,
    advance: Callable[[int], None],
    section: str = "backbone",
) -> int:
    """Fill `rows`, from their first one again with half as many images at a time where memory runs out.

    Returns:
        How many did fit.
    """
    while True:
        try:
            _fill(rows, _outputs(run, inputs_of(batch_size), advance))
            return batch_size
        except RuntimeError as problem:
            if not devices.is_out_of_memory(problem):
                raise
            reason = str(problem).strip().partition("\n")[0]
            problem.__traceback__ = None  # its frames hold the tensors that did not fit
        if batch_size == 1:
            raise MemoryError(f"not even one image at a time fits ({reason}); try a lower {section}.resolution")
        batch_size = -(-batch_size // 2)
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        console.warn(f"out of memory ({reason}): {batch_size} images at a time from here on")


def _outputs(
    run: Callable[[Tensor], Tensor], batches: Iterable[Tensor], advance: Callable[[int], None]
) -> Iterator[Tensor]:
    for inputs in batches:
        yield run(inputs).half()
        advance(len(inputs))


def _fill(rows: Tensor, parts: Iterator[Tensor]) -> None:
    """Write `parts` (n, D) into `rows` (N, D), many at a time: each write makes an accelerator wait for the host."""
    start = 0
    while batch := list(islice(parts, PARTS_PER_WRITE)):
        written = torch.cat(batch)
        rows[start : start + len(written)] = written
        start += len(written)
