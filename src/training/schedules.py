"""Learning-rate schedules: what a peak rate is multiplied by at each step."""

import math

DECADES = 2  # the exponential schedule ends at lr / 10**DECADES
# Of the one-cycle schedule, as shares of its peak: torch's div_factor and final_div_factor.
START, END = 1 / 25, 1 / 25 / 1e4


def learning_rate_factor(schedule: str, step: int, *, total: int, warmup: int) -> float:
    """What the peak rate is multiplied by at `step` (from 0) of `total`; the first `warmup` rise linearly from 0.

    After the warm-up, with t from 0 to 1: cosine falls to 0 as (1 + cos(pi t)) / 2 (arXiv:1608.03983), step is divided
    by 10 at t = 1/2 and t = 3/4 (arXiv:1512.03385), exponential falls evenly in its logarithm to 1/100, constant stays.

    one_cycle (arXiv:1708.07120) is torch's OneCycleLR with pct_start = warmup / total and cosines for both phases: up
    from 1/25 to the peak at the last step of the warm-up, then down to 1/250000 at the last step of all. Without a
    warm-up, or with one of a single step, it starts at the peak. We depart from the paper's straight lines, and from
    its cycle of the momentum, which stays as it is.
    """
    if schedule == "one_cycle":
        return _one_cycle(step, last=total - 1, peak=max(warmup, 1) - 1)
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, total - warmup)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    if schedule == "step":
        return 0.1 ** ((t >= 0.5) + (t >= 0.75))
    if schedule == "exponential":
        return float(0.1 ** (DECADES * t))
    if schedule == "constant":
        return 1.0
    raise ValueError(f"schedule: {schedule!r} is not known; allowed: cosine, step, exponential, one_cycle, constant")


def _one_cycle(step: int, *, last: int, peak: int) -> float:
    """Half a cosine from START up to 1 at step `peak`, and another down to END at step `last`, where it stays."""
    if step < peak:
        return _half_cosine(START, 1.0, step / peak)
    return _half_cosine(1.0, END, min(1.0, (step - peak) / max(1, last - peak)))


def _half_cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * t))
