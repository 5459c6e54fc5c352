"""What repeated searches say together.

Median and spread of their curves, with no claim beyond what so many repetitions allow.
"""

__all__ = ["LEAST_REPLICATES", "ReplicateCurve", "across_replicates"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction
from studies.statistics.orientation import oriented

_OUTSIDE: Final = Fraction(1, 20)

LEAST_REPLICATES = 6
"""From so many on their lowest and highest curve hold the true median with at least 95 % confidence.

1 - 2 / 2**6 = 96.9 %.
"""


@dataclass(frozen=True, kw_only=True)
class ReplicateCurve:
    """Curves of R repeated searches at common budgets, in the metric's own direction and unit.

    Attributes:
        trials: [K] budgets 1, 2, ..., K: as far as every replicate has come.
        median: [K] median over replicates; NaN while it is that of a search without any value.
        low: [K] lower end of an interval for the median of all such searches, at each budget by itself; NaN
            below LEAST_REPLICATES.
        high: [K] upper end of it.
        confidence: that of the interval, at least 0.95; None where there is none.
        replicates: R.
    """

    trials: NDArray[np.int64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float | None
    replicates: int


def across_replicates(curves: Sequence[ArrayLike], *, direction: Direction) -> ReplicateCurve:
    """Return the median of R best-so-far curves and its distribution-free interval.

    That is the narrowest pair of order statistics that holds 95 %.

    Valid for any sampler and pruner, for whole searches are what is repeated. The interval holds at one
    budget at a time, not at all at once.

    Args:
        curves: R arrays, each a best-so-far curve over a replicate's trials in order; NaN while there is no
            value. Lengths may differ.
        direction: which way is better.

    Raises:
        ValueError: there is no curve.

    Source: order statistics around the median, e.g. David and Nagaraja (2003), section 7.1: coverage 1 - 2
    B(r - 1; R, 1/2).
    """
    if not curves:
        raise ValueError("expected a curve for each replicate, got none")
    lines = [oriented(curve, direction) for curve in curves]
    shared = min(line.size for line in lines)
    replicates = len(lines)
    values = np.stack([line[:shared] for line in lines])
    # A search that has found nothing yet is worse than any that has.
    values = np.sort(np.where(np.isnan(values), -np.inf, values), axis=0)
    rank, confidence = _interval(replicates)
    nothing = np.full(shared, np.nan)
    worse, better = (
        (nothing, nothing) if confidence is None else (values[rank - 1], values[replicates - rank])
    )
    middle = (values[(replicates - 1) // 2] + values[replicates // 2]) / 2
    worse, middle, better = (np.where(np.isfinite(each), each, np.nan) for each in (worse, middle, better))
    up = direction == "maximize"
    return ReplicateCurve(
        trials=np.arange(1, shared + 1),
        median=middle if up else -middle,
        low=worse if up else -better,
        high=better if up else -worse,
        confidence=confidence,
        replicates=replicates,
    )


def _interval(replicates: int) -> tuple[int, float | None]:
    """Return the largest rank r whose values enclose the true median with 95 %, and how surely.

    The values are the r-th lowest and the r-th highest.
    """
    rank, confidence, below = 0, None, 0
    # The r-th lowest lies above the median where fewer than r values fall below it, each with chance 1/2;
    # whole numbers keep it exact.
    for r in range(1, replicates // 2 + 1):
        below += math.comb(replicates, r - 1)
        outside = 2 * Fraction(below, 2**replicates)
        if outside > _OUTSIDE:
            break
        rank, confidence = r, float(1 - outside)
    return rank, confidence
