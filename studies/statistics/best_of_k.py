"""The unbiased estimate of the best value of k random trials, from n of them."""

__all__ = ["budgets", "expected_best"]

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign
from studies.statistics.orientation import oriented

# exp(-45) is 3e-20: smaller weights add less than the rounding error.
_NEGLIGIBLE: Final = 45


def budgets(most: int, *, points: int = 100) -> NDArray[np.int64]:
    """Return budgets from 1 to `most`, [K], ascending.

    Every budget is included up to `points` of them. Beyond that there are `points` in about equal ratios,
    including both ends.
    """
    if most <= points:
        return np.arange(1, most + 1)
    # Small budgets may round to the same number.
    return np.unique(np.round(np.geomspace(1, most, points)).astype(np.int64))


def expected_best(
    values: ArrayLike,
    trials: ArrayLike,
    *,
    direction: Direction,
    given: float | None = None,
) -> NDArray[np.float64]:
    """Return the expected best of k random trials at each k of `trials`, [K].

    NaN means that some set of k trials has no finite value.

    It is the mean, over all sets of k of the n trials, of the best of the set:

        U_k = sum_i C(i-1, k-1) / C(n, k) y_(i), with values in ascending order when larger is better.

    It is unbiased for trials drawn independently (random search), whereas Dodge et al. (2019) draw with
    replacement and are biased low. With d diverged trials, a set of k <= d may have no value at all; the mean
    does not exist there and is NaN.

    Args:
        values: [N] results of independently drawn trials, in any order; NaN (no result) is left out, the
            worst infinity stands for diverged.
        trials: [K] budgets, each from 1 to the number of results (one more with `given`).
        direction: which way is better.
        given: result of a trial that every budget begins with, as an arm's search begins with its defaults;
            the worst infinity if it diverged, None for none. It is not a random draw, so it must not be among
            `values`: k trials then are this one and k - 1 of the values.

    Raises:
        ValueError: a budget is below 1 or larger than the number of trials.

    Source: Tang et al. (2020), "Showing Your Work Doesn't Always Work": the U-statistic that corrects
    Dodge's estimate.
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
        # The best of the given trial and others is the best of the others after each that is worse than the
        # given one is raised to it.
        raised = np.maximum(results, first)
        expected = np.array([first if k == 1 else _mean_best(raised, int(k) - 1) for k in ks])
    expected = np.where(np.isfinite(expected), expected, np.nan)
    return sign(direction) * expected


def _mean_best(ascending: NDArray[np.float64], k: int) -> float:
    """Return the mean best over all sets of k; -inf if some set has no finite value."""
    n = ascending.size
    if ascending[k - 1] == -np.inf:
        return -np.inf
    # w_n = k / n and w_(i-1) = w_i (i - k) / (i - 1): products of ratios of at most 1, so nothing overflows.
    # They fall at least as fast as exp(-j (k - 1) / n) at j places from the top, so terms further down
    # add nothing.
    reach = n - k if k == 1 else min(n - k, math.ceil(_NEGLIGIBLE * n / (k - 1)))
    i = np.arange(n, n - reach, -1, dtype=np.float64)
    weights = np.cumprod(np.concatenate([[k / n], (i - k) / (i - 1)]))
    return float(weights @ ascending[n - 1 - reach :][::-1] / weights.sum())
