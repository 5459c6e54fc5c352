"""Confidence bands of the tuning curve of random trials.

The bands hold for the median best of k at all k simultaneously, whatever the distribution of the values.
"""

__all__ = ["LEAST_TRIALS", "TuningBand", "largest_bounded_budget", "median_band"]

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # pyright: ignore[reportMissingTypeStubs] # scipy has none

from studies.direction import Direction
from studies.statistics.orientation import oriented

LEAST_TRIALS = 20
"""Fewer results than this have no band.

On the side of better values, they would bound at most budgets of one trial.
"""

# For n results: the probability with which each order statistic may leave its own equal-tailed interval so
# that all n stay inside theirs with 95 %. opda simulates it, which takes 4 s for 100 results and 8 GB for
# 10,000. These levels are exact (the tests have the recursion), reduced by half a percent, so that
# interpolation between them gives 95.0 to 95.1 %.
_LEVELS: Final = (
    (20, 0.004746),
    (24, 0.004279),
    (30, 0.003792),
    (40, 0.003275),
    (50, 0.002943),
    (60, 0.002707),
    (80, 0.002391),
    (100, 0.002184),
    (150, 0.001873),
    (200, 0.001694),
    (300, 0.001485),
    (500, 0.001277),
    (1000, 0.001065),
    (2000, 0.0009083),
    (5000, 0.0007551),
    (10000, 0.0006673),
    (20000, 0.0005965),
    (50000, 0.0005217),
    (100000, 0.0004757),
)


@dataclass(frozen=True, kw_only=True)
class TuningBand:
    """The median best of k and its simultaneous 95 % band, in the metric's own direction and unit.

    Attributes:
        trials: [K] budgets.
        median: [K] estimated median of the best of k trials; NaN where this is a diverged trial.
        low: [K] lower end of the band (the smaller number); NaN where the trials give no bound on this side.
        high: [K] upper end, likewise.
    """

    trials: NDArray[np.int64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def median_band(
    values: ArrayLike,
    trials: ArrayLike,
    *,
    direction: Direction,
    given: float | None = None,
) -> TuningBand | None:
    """Return the median best of k random trials with a simultaneous 95 % band, or None.

    None means fewer than LEAST_TRIALS results.

    The band is of the median, not of the mean: without bounds of the metric, no valid band of the mean
    exists, and a diverged trial has no number. It holds at all budgets simultaneously. With ties and diverged
    trials it stays valid: it may be wider than necessary, but never narrower.

    Args:
        values: [N] results of independently drawn trials; NaN (no result) is left out, the worst infinity
            stands for diverged.
        trials: [K] budgets, each at least 1; those beyond the number of trials are allowed, but have one
            bound at most.
        direction: which way is better.
        given: result of a trial that begins every budget (an arm's defaults), see
            `best_of_k.expected_best`.

    Raises:
        ValueError: a budget is below 1.
    """
    results = oriented(values, direction)
    results = np.sort(results[~np.isnan(results)])
    ks = np.asarray(trials, dtype=np.int64)
    if np.any(ks < 1):
        raise ValueError(f"expected budgets of at least 1 trial, got {ks.min()}")
    if results.size < LEAST_TRIALS:
        return None
    if given is None:
        worse, median, better = _quantiles(results, ks)
    else:
        first = float(oriented(given, direction))
        # A budget of 1 is the given trial alone; quantiles of the others that lie below it are raised to it.
        worse, median, better = (
            np.where(ks == 1, first, np.maximum(each, first))
            for each in _quantiles(results, np.maximum(ks - 1, 1))
        )
    worse, median, better = (np.where(np.isfinite(each), each, np.nan) for each in (worse, median, better))
    if direction == "maximize":
        return TuningBand(trials=ks, median=median, low=worse, high=better)
    return TuningBand(trials=ks, median=-median, low=-better, high=-worse)


def largest_bounded_budget(n: int) -> int:
    """Return the largest budget at which n trials bound the median best of k on the side of better values.

    It is about n / 10, and 0 if there is none.
    """
    if n < LEAST_TRIALS:
        return 0
    # The largest value's lower bound, (level / 2)^(1/n), must reach 0.5^(1/k).
    return math.floor(n * math.log(2) / math.log(2 / _local_level(n)))


def _quantiles(
    ascending: NDArray[np.float64], ks: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower bound, the estimate and the upper bound of the median best of k, [K] each.

    A bound that does not exist is infinite.
    """
    n = ascending.size
    i = np.arange(1, n + 1)
    level = _local_level(n)
    lower, upper = _beta_quantile(i, n + 1 - i, level / 2), _beta_quantile(i, n + 1 - i, 1 - level / 2)
    # The best of k is at most y with probability F(y)^k, so its median is F's quantile of this order.
    order = 0.5 ** (1 / ks)
    # From the j-th value up to the next, F lies within lower[j] and upper[j+1]. So its quantile is at most
    # the first value whose lower bound reaches the order, and at least the value before the first upper bound
    # that does.
    most = np.append(ascending, np.inf)[np.searchsorted(lower, order)]
    least = np.append(-np.inf, ascending)[np.searchsorted(upper, order)]
    return least, ascending[np.searchsorted(i / n, order)], most


def _beta_quantile(a: NDArray[np.int64], b: NDArray[np.int64], order: float) -> NDArray[np.float64]:
    return np.asarray(special.betaincinv(a, b, order), dtype=np.float64)


def _local_level(n: int) -> float:
    """Return the probability with which each order statistic may leave its own interval.

    With this level, all n stay inside their intervals with 95 %.
    """
    most = _LEVELS[-1][0]
    if n > most:
        raise ValueError(f"expected at most {most} results, got {n}")
    table = np.log(np.array(_LEVELS, dtype=np.float64))
    return math.exp(float(np.interp(math.log(n), table[:, 0], table[:, 1])))
