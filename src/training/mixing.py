"""Mixup and CutMix: each image of a batch blended with another one, or a rectangle of it replaced; so are the labels.

Sources: mixup, Zhang et al., arXiv:1710.09412; CutMix, Yun et al., arXiv:1905.04899. Their code draws one share for a
batch and shuffles the batch for partners. Here each image draws its own, and its partner is the image before it, since
the batch is a random permutation already.

N images of C channels, R x R pixels, K classes.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def draw(count: int, *, mixup: float, cutmix: float, seed: int) -> Tensor:
    """What decides how `count` images are mixed, float32 of shape (N, 4), on the CPU.

    The columns: the share lambda that an image keeps of itself; 1.0 where it is a CutMix and 0.0 where it is a mixup;
    the centre x, y of the rectangle as fractions of the side.

    Args:
        mixup, cutmix: a of lambda ~ Beta(a, a), 0 for off. Where both are on, each image gets one, with probability
            1/2; where both are off, every image keeps all of itself.
        seed: decides all.
    """
    numbers = np.random.Generator(np.random.Philox(seed))  # torch's Beta takes no generator
    choice, *centre = numbers.random((3, count))
    cuts = choice < 0.5 if mixup and cutmix else np.full(count, bool(cutmix))
    alpha = np.where(cuts, cutmix, mixup)
    share = numbers.beta(alpha, alpha) if mixup or cutmix else np.ones(count)
    return torch.from_numpy(np.stack([share, cuts, *centre], axis=1)).float()


def mix(inputs: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Each image mixed with the one before it in the batch, and the share that each has kept of itself.

    Args:
        inputs: (N, C, R, R), floating point.
        draws: (N, 4) from `draw`, on the device of `inputs`.

    Returns:
        The mixed images, and float32 of shape (N,): lambda, or with CutMix the share of pixels outside the rectangle.
    """
    share, cuts = draws[:, 0], draws[:, 1] > 0
    rows, columns, area = _rectangles(draws, inputs.shape[-1])
    own = ~(rows.unsqueeze(2) & columns.unsqueeze(1))  # (N, R, R)
    weights = torch.where(cuts.view(-1, 1, 1), own, share.view(-1, 1, 1)).unsqueeze(1)  # (N, 1, R, R)
    mixed = torch.lerp(inputs.roll(1, 0), inputs, weights.to(inputs.dtype))
    return mixed, torch.where(cuts, 1 - area, share)


def _rectangles(draws: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows (N, R) and columns (N, R) of CutMix's rectangles, and their shares of the pixels (N,).

    As in the authors' code: R * sqrt(1 - lambda) pixels a side, cut off at the border; half of it and the centre are
    rounded down to whole pixels.
    """
    half = (side * (1 - draws[:, :1]).sqrt() / 2).floor()  # (N, 1)
    centre_x, centre_y = (side * draws[:, 2:]).floor().split(1, dim=1)
    position = torch.arange(side, device=draws.device)
    rows, columns = ((position >= centre - half) & (position < centre + half) for centre in (centre_y, centre_x))
    return rows, columns, rows.sum(1) * columns.sum(1) / side**2


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    partners: Tensor | None = None,
    kept: Tensor | None = None,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The sum over images of the cross-entropy in nats, float32; divide it by their number for the mean.

    With `partners` it is kept * CE(labels) + (1 - kept) * CE(partners) for each image, the cross-entropy with the mixed
    labels, as both papers have it.

    Args:
        logits: (N, K).
        labels: int64 (N,).
        partners: labels of the images that are mixed in, int64 (N,).
        kept: the share of each image that is its own, (N,), from `mix`; needed with `partners`.
        label_smoothing: share of each label that is spread evenly over the classes (Szegedy et al., arXiv:1512.00567).
        class_weights: by which each class's term counts, (K,); None: all 1.
    """
    logits = logits.float()
    if partners is None or kept is None:
        return F.cross_entropy(logits, labels, class_weights, reduction="sum", label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, targets, class_weights, reduction="none", label_smoothing=label_smoothing)
        for targets in (labels, partners)
    )
    return (kept * own + (1 - kept) * other).sum()


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """What makes each class count the same in the loss, float32 (K,): N / (K * images of the class).

    Over the images of `labels`, int64 (N,), they average 1, so that learning rates keep their scale. K counts classes
    that have images. Source: King and Zeng, "Logistic regression in rare events data", Political Analysis 9 (2001).
    """
    counts = torch.bincount(labels, minlength=classes)
    return len(labels) / (counts.clamp(min=1) * (counts > 0).sum())
