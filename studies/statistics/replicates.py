"""Median and interval of the best-so-far curves of repeated searches.

The interval claims no more than so few repetitions allow.
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
"""The fewest replicates whose lowest and highest curve enclose the true median with at least 95 %.

For six it is 1 - 2 / 2**6 = 96.9 %.
"""


@dataclass(frozen=True, kw_only=True)
class ReplicateCurve:
    """Curves of R repeated searches at common budgets, in the metric's own direction and unit.

    Attributes:
        trials: [K] budgets 1, 2, ..., K, up to the length of the shortest replicate.
        median: [K] median over replicates; NaN while the median search has no value.
        low: [K] lower end of an interval for the median of all such searches, at each budget separately; NaN
            with fewer than LEAST_REPLICATES.
        high: [K] upper end of the interval.
        confidence: confidence of the interval, at least 0.95; None if there is no interval.
        replicates: number of replicates, R.
    """

    trials: NDArray[np.int64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float | None
    replicates: int


def across_replicates(curves: Sequence[ArrayLike], *, direction: Direction) -> ReplicateCurve:
    """Return the median of R best-so-far curves and its distribution-free interval.

    The interval is the narrowest pair of order statistics that encloses the true median with 95 %.

    It is valid for any sampler and pruner, because whole searches are repeated. It holds at one budget at a
    time, not at all of them simultaneously.

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
    # A search without a value is worse than any search with one.
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
    """Return the largest rank r whose values enclose the true median with 95 %, and the exact confidence.

    The values are the r-th lowest and the r-th highest.
    """
    rank, confidence, below = 0, None, 0
    # The r-th lowest value lies above the median if fewer than r values fall below it, each with chance 1/2.
    # Integers keep the result exact.
    for r in range(1, replicates // 2 + 1):
        below += math.comb(replicates, r - 1)
        outside = 2 * Fraction(below, 2**replicates)
        if outside > _OUTSIDE:
            break
        rank, confidence = r, float(1 - outside)
    return rank, confidence
