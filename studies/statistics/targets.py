"""How soon training reaches a target: times, and medians in which a miss is never."""

__all__ = ["TargetTimes", "summary", "time_to_target"]

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from studies.direction import Direction, sign
from studies.statistics.orientation import oriented


@dataclass(frozen=True, kw_only=True)
class TargetTimes:
    """Times to target of several runs.

    Attributes:
        runs: runs that have ended.
        reached: those that reached the target.
        median: median time, a miss counted as infinite; None where it is infinite (half or more missed) or
            there is no run.
    """

    runs: int
    reached: int
    median: float | None


def time_to_target(values: ArrayLike, at: ArrayLike, *, target: float, direction: Direction) -> float:
    """Return the time of the first value that is at least as good as the target, or inf where none is.

    Args:
        values: [E] a run's validation values, epoch by epoch; NaN where there is none.
        at: [E] when each was measured: epochs, or seconds.
        target: in the metric's own unit, from the workload's card.
        direction: which way is better.

    Source: AlgoPerf, external tuning ruleset.
    """
    signed = oriented(values, direction)
    goal = sign(direction) * target
    reached = np.flatnonzero(signed >= goal)
    return float(np.asarray(at, dtype=np.float64)[reached[0]]) if reached.size else math.inf


def summary(times: ArrayLike) -> TargetTimes:
    """Return how many runs reached the target and their median time.

    Args:
        times: [S] one for each run: inf for a miss, NaN for a run that has not ended, which is left out.
    """
    ended = np.asarray(times, dtype=np.float64)
    ended = ended[~np.isnan(ended)]
    # With an even number the median is a mean of two: infinite if one of them is.
    median = float(np.median(ended)) if ended.size else math.inf
    return TargetTimes(
        runs=ended.size,
        reached=int(np.count_nonzero(ended < math.inf)),
        median=median if median < math.inf else None,
    )
