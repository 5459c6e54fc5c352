"""Learning-rate schedules: the factor that multiplies a parameter group's own learning rate at each step."""

__all__ = ["factor"]

import math
from typing import assert_never

from studies.training_settings import ScheduleName


def factor(schedule: ScheduleName, *, step: int, total_steps: int, warmup_fraction: float) -> float:
    """Return the multiplier of the learning rate for one step, in [0, 1].

    `constant` is 1. `cosine` falls from 1 as (1 + cos(pi t)) / 2, where t is the fraction of the steps
    already taken: it would reach 0 one step after the last, so every step moves the weights. `warmup-cosine`
    rises linearly over the first `warmup_fraction` of the steps, reaching 1 at the last of them, and then
    falls like `cosine` over the remaining steps.

    Args:
        schedule: name of the schedule.
        step: steps already taken, 0 <= step < total_steps.
        total_steps: steps of the whole trial, over all its epochs.
        warmup_fraction: share of total_steps that warm up, rounded to whole steps; used by `warmup-cosine`
            only.

    Raises:
        ValueError: `step` is outside the trial.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5 without restarts; the linear rise of Goyal et al.
    (2017), section 2.2.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"expected a step in [0, {total_steps}), got {step}")
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return _cosine(step, total_steps)
        case "warmup-cosine":
            warmup_steps = round(warmup_fraction * total_steps)
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            return _cosine(step - warmup_steps, total_steps - warmup_steps)
        case _:
            assert_never(schedule)


def _cosine(step: int, total_steps: int) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * step / total_steps))
