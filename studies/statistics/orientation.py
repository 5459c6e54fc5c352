"""The convention for results in arrays.

NaN means that there is no result (not run, or lost to a fault). The worst infinity means that training
diverged.
"""

__all__ = ["oriented"]


import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign


def oriented(values: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """Return a copy of the values in which larger is better, so that a diverged run is -inf.

    Args:
        values: any shape; NaN where there is no result, the worst infinity (-inf when maximizing, inf when
            minimizing) where training diverged.
        direction: which way is better.

    Raises:
        ValueError: a value is the best infinity, which cannot be a result.
    """
    array = np.array(values, dtype=np.float64)
    signed = sign(direction) * array
    if np.any(signed == np.inf):
        raise ValueError(
            "expected finite values, NaN, or the worst infinity for a diverged run; got "
            f"{array[signed == np.inf][0]} to {direction}"
        )
    return signed
