"""How exactly a share of examples, such as an accuracy, is known."""

__all__ = ["standard_error"]

import math


def standard_error(share: float, examples: int) -> float:
    """Return the standard error of a share measured on `examples` independent examples, as a share: sqrt(p (1 - p) / n).

    It is 0 at shares of 0 and 1, where the normal approximation says nothing.
    """
    return math.sqrt(share * (1 - share) / examples)
