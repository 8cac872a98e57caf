"""What a linear probe says of images that it did not learn from: out-of-fold logits, scenes undivided.

No training stage imports this module: editing it retrains nothing.
N images, D feature width, K classes, F folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.base.randomness import generator
from src.transfer.probe import Scale, fit_path


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """What probes said of the images of the fold that each left out.

    Attributes:
        logits: float32 (N, K), at the penalty whose log loss over all images is the least.
        penalty: that one.
        judged: bool (N,): whether the image's class has an image outside its fold; without one, no probe can name it.
        unconverged: penalties at which a fit did not end where it should.
    """

    logits: Tensor
    penalty: float
    judged: Tensor
    unconverged: Sequence[float]


def fold_of(scenes: Tensor, labels: Tensor, *, folds: int, seed: int) -> Tensor:
    """A fold for each image, int64 (N,): a scene's images share one, and each class spreads evenly over all.

    Scenes of a class are dealt out in turn, in random order; a scene counts for the class of its first image.

    Args:
        scenes: for each image the index of its scene's first, (N,).
        labels: int64 (N,).
    """
    firsts = scenes.unique()
    shuffled = firsts[torch.randperm(len(firsts), generator=generator(seed, "folds"))]
    order = shuffled[labels[shuffled].argsort(stable=True)]
    counts = torch.bincount(labels[order])
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    turn = torch.arange(len(order)) - starts + labels[order]  # small classes do not all begin with fold 0
    of_first = torch.zeros(len(labels), dtype=torch.int64)
    of_first[order] = turn % folds
    return of_first[scenes]


def out_of_fold(
    features: Tensor,
    labels: Tensor,
    fold: Tensor,
    *,
    penalties: Sequence[float],
    classes: int,
    advance: Callable[[int], None],
) -> OutOfFold:
    """Fit `penalties` on all folds but one, for each fold in turn.

    Args:
        features: float16 (N, D), not standardised.
        labels: int64 (N,), on the device of the features, as is `fold` (N,).
        penalties: from the strongest to the weakest.
        classes: K.
        advance: told the number of images of each fit.
    """
    found = torch.zeros(len(penalties), len(labels), classes, device=features.device)
    lost, parts = set[float](), fold.unique().tolist()
    judged = _judged(labels, fold, classes)
    for left_out in parts if len(parts) > 1 else ():
        out = fold == left_out
        scale = Scale.of(features[~out])
        known, unseen = scale.applied(features[~out]), scale.applied(features[out])
        for place, fit in enumerate(fit_path(known, labels[~out], penalties, classes=classes)):
            found[place, out] = fit.logits(unseen)
            lost |= set() if fit.converged else {fit.penalty}
            advance(len(known))
    losses = [F.cross_entropy(logits[judged], labels[judged]).item() for logits in found]
    best = min(range(len(penalties)), key=losses.__getitem__)  # nan, of no images, is no less than any
    return OutOfFold(
        logits=found[best].cpu(), penalty=penalties[best], judged=judged.cpu(), unconverged=sorted(lost, reverse=True)
    )


def _judged(labels: Tensor, fold: Tensor, classes: int) -> Tensor:
    """Whether the class of each image has an image in another fold, bool (N,)."""
    own = torch.zeros(int(fold.max()) + 1, classes, dtype=torch.int64, device=labels.device)
    own.index_put_((fold, labels), torch.ones_like(labels), accumulate=True)  # (F, K)
    return own.sum(0)[labels] > own[fold, labels]
