"""Classification without any training, on cached features: an untrained head, nearest class mean, nearest neighbours.

N reference images, M queries, D feature width, K classes.
"""

import statistics
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.models.heads import build_head
from src.training.metrics import score
from src.transfer.feature_batches import FeatureBatches
from src.transfer.neighbours import CHUNK, nearest_neighbours


def nearest_mean(references: Tensor, labels: Tensor, queries: Tensor, *, classes: int) -> Tensor:
    """Logits (M, K): cosine similarity of each query to each class's mean of unit-length features.

    Nearest class mean after Mensink et al. (TPAMI 2013), with the identity as metric.

    Args:
        references: floating point of shape (N, D).
        labels: int64 of shape (N,).
        queries: floating point of shape (M, D).
        classes: K.
    """
    means = torch.zeros(classes, references.shape[1], device=references.device)
    for part, part_labels in zip(references.split(CHUNK), labels.split(CHUNK), strict=True):
        means.index_add_(0, part_labels, F.normalize(part.float()))
    means = F.normalize(means)
    return torch.cat([F.normalize(part.float()) @ means.T for part in queries.split(CHUNK)])


def classify(splits: Mapping[str, FeatureBatches], *, neighbours: int, seed: int) -> dict[str, dict[str, Tensor]]:
    """Logits (N, K) of each method for each split; the clean features of `train` are the references."""
    train = splits["train"]
    references, labels, classes = train.features[0], train.labels, len(train.classes)
    head = _untrained_head(train, seed)
    logits: dict[str, dict[str, Tensor]] = {"untrained": {}, "nearest_mean": {}, "nearest_neighbours": {}}
    for name, split in splits.items():
        queries = split.features[0]
        logits["untrained"][name] = _apply(head, split)
        logits["nearest_mean"][name] = nearest_mean(references, labels, queries, classes=classes)
        logits["nearest_neighbours"][name] = nearest_neighbours(
            references, labels, queries, classes=classes, neighbours=neighbours, leave_one_out=name == "train"
        )
    return logits


def evaluate(
    splits: Mapping[str, FeatureBatches], logits: Mapping[str, Mapping[str, Tensor]], *, head_seeds: int, seed: int
) -> dict[str, dict[str, float]]:
    """Accuracy (fraction) of each method on val and test; the untrained head's is a mean over `head_seeds` heads."""
    heads = [_untrained_head(splits["train"], seed + i) for i in range(head_seeds)]
    scores = {}
    for name in ("val", "test"):
        untrained = [score(_apply(head, splits[name]), splits[name].labels)["accuracy"] for head in heads]
        scores[name] = {"untrained": statistics.fmean(untrained), "untrained_std": statistics.stdev(untrained)} | {
            method: score(by[name], splits[name].labels)["accuracy"]
            for method, by in logits.items()
            if method != "untrained"
        }
    return scores


def _untrained_head(train: FeatureBatches, seed: int) -> nn.Module:
    head = build_head("simple", width=train.features.shape[-1], classes=len(train.classes), dropout=0.0, seed=seed)
    return head.to(train.labels.device).eval()


@torch.inference_mode()
def _apply(head: nn.Module, split: FeatureBatches) -> Tensor:
    return torch.cat([head(features) for features in split.clean(CHUNK)])
