"""Whether images and labels are sound, over all splits at once: near copies, and labels that are likely wrong.

No training stage imports this module: editing it retrains nothing.
N images of all splits in a row, train first; D feature width, K classes, T pixels per side of a thumbnail.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from src.base.splits import SPLITS, Split
from src.evidence import doubtful_labels, near_copies
from src.evidence.copied import with_copies
from src.evidence.folds import OutOfFold, fold_of, out_of_fold
from src.evidence.near_copies import NearCopies
from src.interface.params import Audit

PAIRS, LABELS = 24, 200  # at most, that have thumbnails
THUMBNAIL = 48  # pixels per side, at most


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All splits in a row.

    Attributes:
        images: uint8 (N, 3, H, W).
        labels, split, index: int64 (N,); split is a place in SPLITS, index a row of that split.
        classes: the K class names.
    """

    images: Tensor
    labels: Tensor
    split: Tensor
    index: Tensor
    classes: tuple[str, ...]

    @classmethod
    def of(cls, splits: Mapping[str, Split]) -> "Pool":
        sizes = [len(splits[name].labels) for name in SPLITS]
        return cls(
            images=torch.cat([splits[name].images for name in SPLITS]),
            labels=torch.cat([splits[name].labels for name in SPLITS]),
            split=torch.arange(len(SPLITS)).repeat_interleave(torch.tensor(sizes)),
            index=torch.cat([torch.arange(size) for size in sizes]),
            classes=splits[SPLITS[0]].classes,
        )

    def described(self, rows: Tensor, prefix: str = "") -> dict[str, Any]:
        """Columns split, index and label of the images `rows`."""
        return {
            f"{prefix}split": np.array(SPLITS)[self.split[rows]],
            f"{prefix}index": self.index[rows].numpy(),
            f"{prefix}label": np.array(self.classes, dtype=object)[self.labels[rows]],
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an audit found.

    Attributes:
        copies: a row per pair of near copies, the most alike first: first_split, first_index, first_label, the same of
            `second`, cosine, likeness.
        labels: a row per label that is likely wrong, the least believed first: split, index, label, suggested, and
            label_share, suggested_share: what the probe gives both.
        thumbnails: `pairs` uint8 (at most PAIRS, 2, 3, T, T), `pair_rows` int64: their rows in `copies`; `labels`
            uint8 (at most LABELS, 3, T, T), `label_rows` int64.
        probe: of the labels.
    """

    copies: pd.DataFrame
    labels: pd.DataFrame
    thumbnails: Mapping[str, Tensor]
    probe: OutOfFold


def audit(
    pool: Pool, features: Tensor, settings: Audit, *, seed: int, device: torch.device, advance: Callable[[int], None]
) -> Found:
    """Search near copies, then judge each label by a probe that saw neither the image nor a near copy of it.

    Args:
        features: float16 (N, D).
        advance: told the number of images after each part; in all, `steps` of them.
    """
    features = features.to(device)
    copies = near_copies.find(features, pool.images, advance=advance)
    fold = fold_of(copies.scenes(len(pool.labels)), pool.labels, folds=settings.folds, seed=seed)
    probe = out_of_fold(
        features,
        pool.labels.to(device),
        fold.to(device),
        penalties=settings.penalties,
        classes=len(pool.classes),
        advance=advance,
    )
    labels = _label_rows(pool, probe)
    pairs = _pair_rows(pool, copies)
    return Found(copies=pairs, labels=labels, thumbnails=_thumbnails(pool, copies, pairs, labels), probe=probe)


def steps(images: int, settings: Audit) -> int:
    """Images that `audit` tells of: each once in the search, and once for every fit of a fold that it is not in."""
    return images * (1 + (settings.folds - 1) * len(settings.penalties))


def scores(found: Found, pool: Pool) -> dict[str, Any]:
    """Counts by split: `in_a` images that have a near copy in a, `within` ones that have one in their own split."""
    counts: dict[str, Any] = {"pairs": len(found.copies), "penalty": found.probe.penalty}
    for place, split in enumerate(SPLITS):
        own: dict[str, int] = {
            "within" if other == split else f"in_{other}": len(with_copies(found.copies, split, other))
            for other in SPLITS[: place + 1]
        }
        counts[split] = own | {"doubtful": int((found.labels["split"] == split).sum())}
    judged = found.probe.judged
    right = (found.probe.logits.argmax(1) == pool.labels)[judged]
    counts["probe_accuracy"] = right.double().mean().item() if len(right) else 0.0
    return counts


def _pair_rows(pool: Pool, copies: NearCopies) -> pd.DataFrame:
    return pd.DataFrame(
        pool.described(copies.first, "first_")
        | pool.described(copies.second, "second_")
        | {"cosine": copies.cosine.double().numpy().round(4), "likeness": copies.likeness.double().numpy().round(4)}
    )


def _label_rows(pool: Pool, probe: OutOfFold) -> pd.DataFrame:
    judged = probe.judged.nonzero().flatten()
    shares = probe.logits[judged].double().softmax(1).numpy()
    chosen = doubtful_labels.doubtful(shares, pool.labels[judged].numpy())
    rows = judged[torch.from_numpy(chosen)]
    named = shares[chosen].argmax(axis=1)
    own = pool.labels[rows].numpy()
    places = np.arange(len(chosen))
    return pd.DataFrame(
        pool.described(rows)
        | {
            "suggested": np.array(pool.classes, dtype=object)[named],
            "label_share": shares[chosen][places, own].round(6),
            "suggested_share": shares[chosen][places, named].round(6),
        }
    )


def _thumbnails(pool: Pool, copies: NearCopies, pairs: pd.DataFrame, labels: pd.DataFrame) -> dict[str, Tensor]:
    """Of pairs across splits, more and less alike ones; of labels, the least believed of test first."""
    across = np.flatnonzero(pairs["first_split"] != pairs["second_split"])
    of_test = across[(pairs["second_split"] == "test").to_numpy()[across]]
    pair_rows = _spread(next((rows for rows in (of_test, across) if len(rows)), np.arange(len(pairs))))
    order = np.argsort(labels["split"].map({"test": 0, "val": 1, "train": 2}).to_numpy(), kind="stable")
    label_rows = order[:LABELS]
    place = {name: int((pool.split < number).sum()) for number, name in enumerate(SPLITS)}
    own = labels["split"].map(place).to_numpy(dtype=np.int64) + labels["index"].to_numpy(dtype=np.int64)
    both = torch.stack([copies.first, copies.second], dim=1)[torch.from_numpy(pair_rows)]  # (P, 2)
    return {
        "pairs": _small(pool.images[both.flatten()]).unflatten(0, (-1, 2)) if len(both) else pool.images[:0],
        "pair_rows": torch.from_numpy(pair_rows),
        "labels": _small(pool.images[torch.from_numpy(own[label_rows])]),
        "label_rows": torch.from_numpy(label_rows),
    }


def _spread(rows: "np.ndarray[Any, np.dtype[np.int64]]") -> "np.ndarray[Any, np.dtype[np.int64]]":
    """At most PAIRS of `rows`, evenly from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(PAIRS, len(rows))).round().astype(np.int64)]


def _small(images: Tensor) -> Tensor:
    """uint8 (N, 3, T, T), smaller images as they are."""
    side = min(THUMBNAIL, images.shape[-1])
    if side == images.shape[-1] or not len(images):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
