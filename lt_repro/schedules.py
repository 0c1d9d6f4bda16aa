"""Schedules as functions of the fraction of training, so that a short run passes every milestone of a long one."""

import math
from collections.abc import Sequence


def learning_rate(
    t: float, *, base: float, warmup: float, milestones: Sequence[float], factor: float, schedule: str = "steps"
) -> float:
    """Returns the learning rate at the fraction `t` of training: linear warm-up, then lowered in steps (Sec. 4.2).

    With "cosine" it follows half a cosine, base (1 + cos(pi t)) / 2, with the same warm-up.

    The rate changes at every step. LDAM's code changes it once per epoch. So a run of 10 epochs has a warm-up too.

    Args:
        t: Fraction of training in [0, 1], at the middle of a step.
        base: The rate between warm-up and the first milestone.
        warmup: Fraction of training over which the rate rises linearly from 0 to `base`; 0 for none.
        milestones: Fractions of training at which the rate is multiplied by `factor`.
        factor: Each milestone multiplies the rate by this.
        schedule: "steps", or "cosine", which has no milestones.
    """
    rise = min(1.0, t / warmup) if warmup > 0 else 1.0
    if schedule == "cosine":
        return base * rise * (1 + math.cos(math.pi * t)) / 2
    passed = sum(t >= milestone for milestone in milestones)
    return float(base * rise * factor**passed)
