"""How many images a linear probe needs: fits on ever more of the training images, drawn several times.

No training stage imports this module: editing it retrains nothing.
N training images, n of them drawn, D feature width, K classes, M draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.base.randomness import generator
from src.evidence import repeated
from src.interface.params import DataEfficiency
from src.transfer.probe import Fit, Scale, fit_path

COMMON = 30  # images that the features' common variance weighs as much as, beside each feature's own


@dataclass(frozen=True, kw_only=True)
class Known:
    """Clean features float16 (N, D) and labels int64 (N,) of train, val and test, on one device; K classes."""

    features: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    classes: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe, by the penalty of which validation names most right; of equals, the strongest."""

    penalty: float
    val_accuracy: float
    hits: NDArray[np.bool_]  # of the test images
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy by number of images.

    Attributes:
        probes: a row per fit: per_class (mean over classes), images, draw, penalty, val_accuracy, test_accuracy,
            converged (0, 1).
        rungs: a row per number of images: per_class, images (mean over draws), draws, accuracy, low, high, spread: of
            test; of several draws the interval is over draws and images, where `repeated` has seeds; spread is the
            standard error that it stands for.
    """

    probes: Sequence[Mapping[str, Any]]
    rungs: Sequence[Mapping[str, Any]]


def sizes(labels: Tensor, settings: DataEfficiency) -> list[int | None]:
    """Images a class of each rung, rising; None, all, comes last. None of them has all images of every class."""
    largest = int(torch.bincount(labels).max())
    return [*(size for size in sorted(set(settings.images_per_class)) if size < largest), None]


def drawn(labels: Tensor, per_class: int, *, seed: int, draw: int) -> Tensor:
    """Sorted indices of `per_class` images of each class, or of all that it has; a larger number adds to them."""
    shuffled = torch.randperm(len(labels), generator=generator(seed, "images", draw))
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = torch.bincount(labels)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[torch.arange(len(order)) - starts < per_class].sort().values


def measure(known: Known, settings: DataEfficiency, *, seed: int, advance: Callable[[int], None]) -> Curve:
    """Fit a probe on each draw of each rung, all images once, and judge it on test.

    Args:
        advance: told 1 after each probe, of `count_probes` in all.
    """
    labels = known.labels["train"].cpu()
    probes: list[dict[str, Any]] = []
    rungs: list[dict[str, Any]] = []
    for size in sizes(labels, settings):
        taken = [
            torch.arange(len(labels)) if size is None else drawn(labels, size, seed=seed, draw=draw)
            for draw in range(1 if size is None else settings.draws)
        ]
        hits = []
        for draw, rows in enumerate(taken):
            probe = fit(known, rows.to(known.labels["train"].device), settings.penalties)
            probes.append(_row(probe, len(rows), draw, known.classes))
            hits.append(probe.hits)
            advance(1)
        images = float(np.mean([len(rows) for rows in taken]))
        place = {"per_class": images / known.classes, "images": images, "draws": len(taken)}
        rungs.append(place | _accuracy(np.stack(hits)))
    return Curve(probes=probes, rungs=rungs)


def _accuracy(hits: NDArray[np.bool_]) -> dict[str, float]:
    found = repeated.accuracy(hits)
    spread = (found.high - found.low) / (2 * repeated.NORMAL)
    return {"accuracy": found.mean, "low": found.low, "high": found.high, "spread": spread}


def count_probes(labels: Tensor, settings: DataEfficiency) -> int:
    return (len(sizes(labels, settings)) - 1) * settings.draws + 1


def fit(known: Known, rows: Tensor, penalties: Sequence[float]) -> Probe:
    """A path of probes on the training images `rows`, scaled by these alone.

    With fewer images than features, weights lie in the span of the images: nothing is lost by going there, and n is
    the width.
    """
    found = known.features["train"][rows]
    scale = scale_of(found)
    features = scale.applied(found)
    into: Tensor | None = None
    if len(rows) < features.shape[1]:
        into = torch.linalg.qr(features.T).Q  # (D, n)
        features = features @ into

    def seen(split: str) -> Tensor:
        values = scale.applied(known.features[split])
        return values if into is None else values @ into

    val, best = seen("val"), (-1.0, list[Fit]())
    for each in fit_path(features, known.labels["train"][rows], penalties, classes=known.classes):
        accuracy = (each.logits(val).argmax(1) == known.labels["val"]).double().mean().item()
        if accuracy > best[0]:
            best = accuracy, [each]
    (chosen,) = best[1]
    hits = chosen.logits(seen("test")).argmax(1) == known.labels["test"]
    return Probe(penalty=chosen.penalty, val_accuracy=best[0], hits=hits.cpu().numpy(), converged=chosen.converged)


def scale_of(features: Tensor) -> Scale:
    """Mean and deviation of each feature of n images, whose variances are drawn towards their mean.

    Of ten images, a variance is mostly luck, and a feature that hardly varies there would drown all others: on CIFAR-10
    a probe on one image a class is right on 33 % of test with each feature's own deviation, 48 % with this one, and
    weights from 10 to 300 do equally well. A posterior variance as in Smyth, "Linear Models and Empirical Bayes
    Methods", Stat. Appl. Genet. Mol. Biol. 3 (2004), with COMMON for its prior degrees of freedom.

    Args:
        features: (n, D).
    """
    own, images = Scale.of(features), len(features)
    still = (features == features[:1]).all(dim=0)  # whose deviation `Scale` takes for 1
    variance = own.deviation.square().where(~still, 0.0)
    shrunk = (images * variance + COMMON * variance.mean()) / (images + COMMON)
    return Scale(mean=own.mean, deviation=shrunk.sqrt().where(shrunk > 0, 1.0))


def _row(probe: Probe, images: int, draw: int, classes: int) -> dict[str, Any]:
    return {
        "per_class": images / classes,
        "images": images,
        "draw": draw,
        "penalty": probe.penalty,
        "val_accuracy": probe.val_accuracy,
        "test_accuracy": float(probe.hits.mean()),
        "converged": int(probe.converged),
    }


def scores(curve: Curve) -> dict[str, Any]:
    """Of the fewest images and of all, whose test accuracy comes first."""
    fewest, most = curve.rungs[0], curve.rungs[-1]
    last = curve.probes[-1]
    return {
        "all_images": most["accuracy"],
        "penalty": last["penalty"],
        "val": {"accuracy": last["val_accuracy"]},
        "test": {name: most[name] for name in ("accuracy", "low", "high")},
        "fewest": {name: fewest[name] for name in ("images", "accuracy", "low", "high")},
    }
