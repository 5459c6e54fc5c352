"""Times until training reaches a target, and medians in which a miss counts as infinite."""

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
        runs: number of runs that have ended.
        reached: number of those that reached the target.
        median: median time, with a miss counted as infinite; None if it is infinite (half or more missed) or
            there is no run.
    """

    runs: int
    reached: int
    median: float | None


def time_to_target(values: ArrayLike, at: ArrayLike, *, target: float, direction: Direction) -> float:
    """Return the time of the first value that is at least as good as the target, or inf without one.

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
        times: [S] one per run: inf for a miss, NaN for a run that has not ended, which is left out.
    """
    ended = np.asarray(times, dtype=np.float64)
    ended = ended[~np.isnan(ended)]
    # With an even number of runs, the median is the mean of two times: infinite if either is infinite.
    median = float(np.median(ended)) if ended.size else math.inf
    return TargetTimes(
        runs=ended.size,
        reached=int(np.count_nonzero(ended < math.inf)),
        median=median if median < math.inf else None,
    )
