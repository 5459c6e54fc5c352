"""How results lie in arrays.

NaN where there is none (not run, lost to a fault), the worst infinity where training diverged.
"""

__all__ = ["oriented"]


import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign


def oriented(values: ArrayLike, direction: Direction) -> NDArray[np.float64]:
    """Return the values with larger ones better, so that a diverged run is -inf; a copy.

    Args:
        values: any shape; NaN where there is no result, the worst infinity (-inf when maximizing, inf when
            minimizing) where training diverged.
        direction: which way is better.

    Raises:
        ValueError: a value is the best infinity, which no result is.
    """
    array = np.array(values, dtype=np.float64)
    signed = sign(direction) * array
    if np.any(signed == np.inf):
        raise ValueError(
            "expected finite values, NaN, or the worst infinity for a diverged run; got "
            f"{array[signed == np.inf][0]} to {direction}"
        )
    return signed
