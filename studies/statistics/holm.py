"""Holm's correction: it limits the chance that any of many comparisons is called wrongly."""

__all__ = ["holm"]

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values [N], in the order given.

    The smallest is multiplied by N, the next by N - 1 and so on; none is below an earlier one, none above 1.

    Args:
        p_values: [N]; NaN where a comparison could not be made, which stays NaN and counts in N all the same:
            a study does not make fewer comparisons because some of them are missing.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics
    6 (1979).
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    # NaN sort to the end, so they never affect a number.
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p[order]))
    return adjusted
