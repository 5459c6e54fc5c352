"""Learning-rate schedules: the factor that multiplies a parameter group's own learning rate at each step.

Sources, with torch's class of the same formula where there is one:

- `cosine`: Loshchilov and Hutter, SGDR (2017), equation 5 without restarts; `CosineAnnealingLR`.
- `warm-restarts`: the same with restarts; `CosineAnnealingWarmRestarts`.
- `linear`: `LinearLR` from 1 to 0; Goyal et al. (2017), section 2.2, for the warm-up of every schedule.
- `step`: He et al. (2016), section 3.4; `StepLR`.
- `one-cycle`: Smith and Topin (2018); `OneCycleLR` with its defaults, but momentum does not change.
- `wsd`: Hu et al., MiniCPM (2024), section 4, with a linear decay as in Hägele et al. (2024).
"""

__all__ = ["factor", "scheduled"]

import math
from itertools import accumulate
from typing import assert_never

from studies.catalog import OptimizerCard
from studies.training_settings import TrainingSettings

_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def scheduled(settings: TrainingSettings, optimizer: OptimizerCard) -> TrainingSettings:
    """Return a trial's settings, with a constant learning rate if its optimizer has a schedule of its own."""
    if optimizer.schedule == "any":
        return settings
    return settings.model_copy(update={"schedule": "constant", "warmup_fraction": 0.0})


def factor(settings: TrainingSettings, *, step: int, total_steps: int) -> float:
    """Return the multiplier of the learning rate for one step, in (0, 1].

    With a warm-up, it rises linearly over the first `settings.warmup` of the steps, rounded to whole steps,
    and reaches 1 at the last of them. Over the N steps after the warm-up, of which t have been taken:

    - `constant` is 1.
    - `cosine` and `warmup-cosine` fall as (1 + cos(pi t / N)) / 2, and would reach 0 one step after the last.
    - `linear` falls as 1 - t / N.
    - `step` is multiplied by `step_factor` at `step_drops` points that divide the steps into equal parts.
    - `wsd` is 1 until the last `decay_fraction` of all steps, in which it falls linearly towards 0.
    - `warm-restarts` falls like `cosine` in each of `cycles` cycles, each `cycle_growth` times as long as the
      one before.

    `one-cycle` rises along a cosine from 1/25 to 1 over the warm-up, and falls along a cosine to 1/250,000 at
    the last step.

    Args:
        settings: the trial's settings.
        step: steps already taken, 0 <= step < total_steps.
        total_steps: steps of the whole trial, over all its epochs.

    Raises:
        ValueError: `step` is outside the trial.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"expected a step in [0, {total_steps}), got {step}")
    if settings.schedule == "one-cycle":
        return _one_cycle(step, total_steps, warmup=settings.warmup)
    warmup_steps = round(settings.warmup * total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    taken, steps = step - warmup_steps, total_steps - warmup_steps
    match settings.schedule:
        case "constant":
            return 1.0
        case "cosine" | "warmup-cosine":
            return _cosine(taken / steps)
        case "linear":
            return 1.0 - taken / steps
        case "step":
            return settings.step_factor ** (taken * (settings.step_drops + 1) // steps)
        case "wsd":
            decaying = min(max(1, round(settings.decay_fraction * total_steps)), steps)
            return min(1.0, (steps - taken) / decaying)
        case "warm-restarts":
            return _warm_restarts(taken, steps, cycles=settings.cycles, growth=settings.cycle_growth)
        case _:
            assert_never(settings.schedule)


def _cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


def _warm_restarts(taken: int, steps: int, *, cycles: int, growth: float) -> float:
    lengths = list(accumulate(growth**cycle for cycle in range(cycles)))
    start = 0
    for length in lengths:
        end = round(steps * length / lengths[-1])
        if taken < end:
            return _cosine((taken - start) / (end - start))
        start = end
    raise AssertionError("the last cycle ends with the steps")


def _one_cycle(step: int, total_steps: int, *, warmup: float) -> float:
    peak, last = warmup * total_steps - 1, total_steps - 1
    if peak > 0 and step <= peak:
        low, share = _ONE_CYCLE_START, step / peak
        return 1.0 + (low - 1.0) * _cosine(share)
    start = max(peak, 0.0)
    share = (step - start) / (last - start) if last > start else 0.0
    return min(1.0, _ONE_CYCLE_END + (1.0 - _ONE_CYCLE_END) * _cosine(share))
