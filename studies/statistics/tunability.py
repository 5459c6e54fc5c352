"""The value of tuning: the rank of the defaults among random trials.

It also has the chance that some of these trials beat a baseline.
"""

__all__ = ["DefaultsPlace", "chance_to_beat", "defaults_place"]

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction
from studies.statistics.orientation import oriented


@dataclass(frozen=True, kw_only=True)
class DefaultsPlace:
    """The rank of the defaults among the trials of an arm.

    Attributes:
        rank: 1 plus the number of better trials; None if the defaults have no result.
        of: number of results, including diverged ones and the defaults.
        gain: by how much the best value is better than that of the defaults, never negative; None if either
            has no number.
    """

    rank: int | None
    of: int
    gain: float | None


def defaults_place(defaults: float, values: ArrayLike, *, direction: Direction) -> DefaultsPlace:
    """Return the rank of the defaults among an arm's trials, and the gain of the best trial over them.

    Args:
        defaults: the defaults' value; NaN without a result, the worst infinity if they diverged.
        values: [N] values of all other trials, likewise.
        direction: which way is better.
    """
    own = float(oriented(defaults, direction))
    others = oriented(values, direction)
    others = others[~np.isnan(others)]
    if math.isnan(own):
        return DefaultsPlace(rank=None, of=others.size, gain=None)
    best = float(others.max(initial=own))
    return DefaultsPlace(
        rank=1 + int(np.count_nonzero(others > own)),
        of=others.size + 1,
        gain=best - own if math.isfinite(own) else None,
    )


def chance_to_beat(
    values: ArrayLike, trials: ArrayLike, *, baseline: float, direction: Direction
) -> NDArray[np.float64]:
    """Return the chance that the best of k random trials beats the baseline, at each k of `trials`, [K].

    With m of n results better, it is 1 - C(n - m, k) / C(n, k). This is exact for k trials drawn from these n
    without replacement (hypergeometric), and so it is an unbiased estimate for k new random trials.

    Args:
        values: [N] results of independently drawn trials (not the defaults); NaN is left out, the worst
            infinity stands for diverged.
        trials: [K] budgets, from 1 to the number of results.
        baseline: value to beat; the worst infinity if it diverged, which every value beats.
        direction: which way is better.

    Raises:
        ValueError: a budget is below 1 or larger than the number of results, or the baseline is NaN.
    """
    results = oriented(values, direction)
    results = results[~np.isnan(results)]
    ks = np.asarray(trials, dtype=np.int64)
    n = results.size
    if np.any((ks < 1) | (ks > n)):
        raise ValueError(
            f"expected budgets from 1 to {n}, the results there are, got {ks.min()} to {ks.max()}"
        )
    to_beat = float(oriented(baseline, direction))
    if math.isnan(to_beat):
        raise ValueError("expected a baseline to beat, got NaN")
    worse = n - int(np.count_nonzero(results > to_beat))
    # C(n - m, k) / C(n, k) is the product over j < k of (n - m - j) / (n - j): 0 from k = n - m + 1 on.
    j = np.arange(int(ks.max(initial=0)))
    missed: NDArray[np.float64] = np.cumprod(np.maximum(worse - j, 0) / (n - j), dtype=np.float64)
    return 1.0 - missed[ks - 1]
