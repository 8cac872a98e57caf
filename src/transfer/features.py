"""Frozen features: every image through the backbone once. N images, V augmented views, D feature width."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from src.base import artifacts
from src.images.image_batches import ImageBatches
from src.training.precision import autocast

PARTS_PER_WRITE = 16


def freeze(network: nn.Module) -> nn.Module:
    """The same network, its weights without gradients and its batch norms and dropout in inference mode."""
    return network.requires_grad_(False).eval()


def extract(
    network: nn.Module,
    batches: ImageBatches,
    path: str | Path,
    *,
    views: int,
    width: int,
    batch_size: int,
    advance: Callable[[int], None],
    precision: str = "float32",
) -> None:
    """Write float16 features (1 + V, N, D), labels (N,) and classes to `path`; the first view is clean.

    The features grow in a preallocated memory-mapped file, so they may outgrow memory.

    Args:
        network: frozen, images to features (N, D).
        views: V.
        width: D.
        batch_size: images per forward pass.
        advance: told the number of images after each batch.
        precision: of the network's products, as for training.

    Raises:
        FloatingPointError: a feature is too large for float16, or not a number.
    """
    shape = (1 + views, len(batches.labels), width)
    device = batches.labels.device
    with (
        artifacts.scratch_tensor(shape, torch.float16, beside=path) as features,
        torch.inference_mode(),
        autocast(precision, device),
    ):
        for view, rows in enumerate(features):
            inputs_of = batches.augmented(view, batch_size) if view else batches.clean(batch_size)
            _fill(rows, _outputs(network, inputs_of, advance))
            if not rows.isfinite().all():
                raise FloatingPointError(
                    f"features of view {view} for {path} are not finite in float16: check backbone.weights"
                )
        artifacts.save({"features": features, "labels": batches.labels.cpu(), "classes": batches.classes}, path)


def _outputs(network: nn.Module, batches: Iterable[Tensor], advance: Callable[[int], None]) -> Iterator[Tensor]:
    for inputs in batches:
        yield network(inputs).half()
        advance(len(inputs))


def _fill(rows: Tensor, parts: Iterator[Tensor]) -> None:
    """Write `parts` (n, D) into `rows` (N, D), many at a time: each write makes an accelerator wait for the host."""
    start = 0
    while batch := list(islice(parts, PARTS_PER_WRITE)):
        written = torch.cat(batch)
        rows[start : start + len(written)] = written
        start += len(written)
