"""What more work at test time brings: mirrored images, an ensemble; beside the plain network, on the same images.

No training stage imports this module: editing it retrains nothing.
N images, K classes, M members.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from src.evidence import paired, scores
from src.evidence.assessment import Judged, judged
from src.evidence.intervals import proportion
from src.evidence.means import mean_interval

PLAIN = "finetuned"
COLUMNS = (
    *("method", "accuracy", "low", "high", "log_loss", "log_loss_low", "log_loss_high"),
    *("difference", "difference_low", "difference_high", "p_value", "settled"),
)


def offered(seeds: Mapping[str, Any], flips: Mapping[str, Any]) -> dict[str, Judged]:
    """The options that there are, on test: `flipped`, and `ensemble` where there are two seeds or more.

    Args:
        seeds, flips: data/predictions/finetune_repeats.pt and flips.pt as loaded.
    """
    found = {name: judged(flips, name, "test") for name in flips["logits"]}
    if len(seeds["logits"]) > 1:
        found["ensemble"] = ensemble([judged(seeds, name, "test") for name in seeds["logits"]])
    return found


def ensemble(members: Sequence[Judged]) -> Judged:
    """Logits whose softmax is the mean of the members', all on the same images.

    Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles"
    (arXiv:1612.01474).
    """
    stacked = np.stack([log_softmax(each.logits.astype(np.float64), axis=1) for each in members])  # (M, N, K)
    return Judged(logits=logsumexp(stacked, axis=0) - math.log(len(members)), labels=members[0].labels)


def compared(plain: Judged, options: Mapping[str, Judged]) -> list[dict[str, Any]]:
    """The plain network, and each option against it, corrected for their number by Holm's procedure.

    Returns:
        Rows of method, accuracy, low, high, log_loss, log_loss_low, log_loss_high; and, nan of the plain network,
        difference, difference_low, difference_high, p_value, settled, on test.
    """
    every = {PLAIN: plain, **options}
    rows = {name: {"method": name, **_scores(each)} for name, each in every.items()}
    right = {name: each.hits for name, each in every.items()}
    for found in paired.compare(right, [(name, PLAIN) for name in options]):
        bounds = {"difference_low": found.low, "difference_high": found.high, "p_value": found.p_value}
        rows[found.first] |= {"difference": found.difference, **bounds, "settled": found.settled}
    return [dict.fromkeys(COLUMNS, math.nan) | row for row in rows.values()]


def _scores(answers: Judged) -> dict[str, float]:
    losses = scores.log_losses(answers.logits, answers.labels)
    low, high = mean_interval(losses, within=(0, math.inf)) if len(losses) > 1 else (math.nan, math.nan)
    accuracy = proportion(int(answers.hits.sum()), len(answers.labels))
    del accuracy["images"]
    return accuracy | {"log_loss": float(losses.mean()), "log_loss_low": low, "log_loss_high": high}
