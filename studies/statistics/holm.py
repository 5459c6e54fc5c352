"""Holm's correction: many comparisons, and one chance in twenty that any of them is called wrongly."""

__all__ = ["holm"]

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values [N], in the order given.

    The smallest is multiplied by N, the next by N - 1 and so on; none is below an earlier one, none above 1.

    Args:
        p_values: [N]; NaN where a comparison could not be made, which stays NaN and counts in N all the same:
            what a study set out to compare does not shrink because a part of it is missing.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics
    6 (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    # NaN are sorted to the end, so they never reach a number.
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted
