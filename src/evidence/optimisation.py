"""Whether an arm of the ablation trained at all: what it scored says nothing of its shape where it did not.

No training stage imports this module: editing it retrains nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from src.base.proportions import wilson_interval

EXPLODED = 5.0  # times the baseline's first gradient norm; width alone doubles it, 40 more blocks make it 13 times
CONTAIN_BASELINE = ("depth", "width", "resolution", "compound")


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How the training of an arm went; means over its seeds.

    Attributes:
        first_norm: of the gradient, in the first step, before clipping.
        first_loss, last_loss: of training, in the first and last epoch (nats).
        seeds: that were trained.
        at_chance: seeds whose validation accuracy is not above chance by its 95 % interval.
        times: `first_norm` over the baseline's; None without one.
        exploded: it began with EXPLODED times the baseline's gradient, and fits even the training images worse,
            although its network can do all that the baseline's can: what failed is its optimisation, as in He et al.
            (arXiv:1512.03385, section 1), and not its shape.
    """

    first_norm: float
    first_loss: float
    last_loss: float
    seeds: int
    at_chance: int
    times: float | None
    exploded: bool

    @property
    def failed(self) -> bool:
        return self.exploded or self.at_chance > 0


def by_arm(
    curves: Mapping[str, pd.DataFrame], *, images: int, chance: float, networks: Mapping[str, str] | None = None
) -> dict[str, Optimisation]:
    """How each arm trained.

    Args:
        curves: columns seed, epoch, train_loss (nats), val_accuracy (fraction), first_gradient_norm.
        images: of validation.
        chance: accuracy that needs no training, there.
        networks: of arms that are not named after theirs.
    """
    base = _means(curves["baseline"]) if "baseline" in curves else None
    found = {}
    for arm, curve in curves.items():
        norm, first, last = _means(curve)
        times = norm / base[0] if base else None
        best = curve.groupby("seed")["val_accuracy"].max()
        found[arm] = Optimisation(
            first_norm=norm,
            first_loss=first,
            last_loss=last,
            seeds=len(best),
            at_chance=sum(wilson_interval(round(share * images), images)[0] <= chance for share in best),
            times=times,
            exploded=(networks or {}).get(arm, arm) in CONTAIN_BASELINE
            and base is not None
            and norm > EXPLODED * base[0]
            and last > base[2],
        )
    return found


def _means(curve: pd.DataFrame) -> tuple[float, float, float]:
    """Of the first norm, and of the first and the last epoch's training loss."""
    epochs = curve.groupby("epoch")[["first_gradient_norm", "train_loss"]].mean()
    first, last = epochs.iloc[0], epochs.iloc[-1]
    return float(first["first_gradient_norm"]), float(first["train_loss"]), float(last["train_loss"])
