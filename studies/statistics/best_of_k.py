"""What a budget of k random trials is expected to reach: the unbiased estimate from n of them."""

__all__ = ["budgets", "expected_best"]

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign
from studies.statistics.orientation import oriented

# exp(-45) is 3e-20: weights beyond add less than rounding does.
_NEGLIGIBLE: Final = 45


def budgets(most: int, *, points: int = 100) -> NDArray[np.int64]:
    """Return budgets from 1 to `most`, [K], ascending.

    Every one up to `points`, else so many in about equal ratios, both ends among them.
    """
    if most <= points:
        return np.arange(1, most + 1)
    # Small budgets that round to the same are one.
    return np.unique(np.round(np.geomspace(1, most, points)).astype(np.int64))


def expected_best(
    values: ArrayLike,
    trials: ArrayLike,
    *,
    direction: Direction,
    given: float | None = None,
) -> NDArray[np.float64]:
    """Return the expected best of k random trials at each k of `trials`, [K].

    NaN where the estimate takes in a set without any finite value.

    It is the mean, over all sets of k of the n trials, of the set's best: U_k = sum_i C(i-1, k-1) / C(n, k)
    y_(i), values in ascending order when larger is better. Unbiased for trials drawn independently (random
    search), where Dodge et al. (2019) draw with replacement and are biased low. With d diverged trials a set
    of k <= d may have no value at all: there the mean does not exist, and NaN says so.

    Args:
        values: [N] results of independently drawn trials, in any order; NaN (no result) is left out, the
            worst infinity stands for diverged.
        trials: [K] budgets, each from 1 to the number of results (one more with `given`).
        direction: which way is better.
        given: result of a trial that every budget begins with, as an arm's search begins with its defaults;
            the worst infinity if it diverged, None for none. It is no random draw, so it must not be among
            `values`: k trials then are this one and k - 1 of the values.

    Raises:
        ValueError: a budget is below 1 or larger than what was tried.

    Source: Tang et al. (2020), "Showing Your Work Doesn't Always Work": the U-statistic that mends Dodge's
    estimate.
    """
    results = oriented(values, direction)
    results = np.sort(results[~np.isnan(results)])
    ks = np.asarray(trials, dtype=np.int64)
    most = results.size + (given is not None)
    if np.any((ks < 1) | (ks > most)):
        raise ValueError(
            f"expected budgets from 1 to {most}, the results there are, got {ks.min()} to {ks.max()}"
        )
    if given is None:
        expected = np.array([_mean_best(results, int(k)) for k in ks])
    else:
        first = float(oriented(given, direction))
        # The best of the given trial and others is that of the others, none of them counted below the given
        # one.
        raised = np.maximum(results, first)
        expected = np.array([first if k == 1 else _mean_best(raised, int(k) - 1) for k in ks])
    expected = np.where(np.isfinite(expected), expected, np.nan)
    return sign(direction) * expected


def _mean_best(ascending: NDArray[np.float64], k: int) -> float:
    """Return the mean best over all sets of k; -inf where some set is without a finite value."""
    n = ascending.size
    if ascending[k - 1] == -np.inf:
        return -np.inf
    # w_n = k / n and w_(i-1) = w_i (i - k) / (i - 1): products of ratios of at most 1, so nothing overflows.
    # They fall at least as fast as exp(-j (k - 1) / n) at j places from the top, so that far down there is
    # nothing left to add.
    reach = n - k if k == 1 else min(n - k, math.ceil(_NEGLIGIBLE * n / (k - 1)))
    i = np.arange(n, n - reach, -1, dtype=np.float64)
    weights = np.cumprod(np.concatenate([[k / n], (i - k) / (i - 1)]))
    return float(weights @ ascending[n - 1 - reach :][::-1] / weights.sum())
