"""The best value so far as trials finish."""

__all__ = ["best_so_far", "improvements"]


import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction


def best_so_far(values: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """Return the best of values[0..i] at each i, [N]; NaN before the first number.

    Args:
        values: [N] results in the order in which their trials finished; NaN where a trial has none (it
            diverged, failed or was cancelled).
        direction: which way is better.
    """
    array = np.asarray(values, dtype=np.float64)
    # fmax and fmin ignore NaN, so a diverged trial counts on the axis but does not change the best.
    return np.fmax.accumulate(array) if direction == "maximize" else np.fmin.accumulate(array)


def improvements(best: ArrayLike) -> NDArray[np.int64]:
    """Return the indices at which a best-so-far curve [N] changes, and its end, as a step line needs.

    Args:
        best: the result of `best_so_far`; leading NaN are left out.
    """
    array = np.asarray(best, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(array))
    if known.size == 0:
        return known
    changed = known[1:][np.diff(array[known]) != 0]
    return np.unique(np.concatenate([known[:1], changed, known[-1:]]))
