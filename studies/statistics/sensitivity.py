"""How a result hangs on one hyperparameter when the others vary too."""

__all__ = ["bucket_best", "edge_nearby"]

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAR = 0.05
"""Share of a range's width, on its own scale, that counts as its edge."""


def bucket_best(
    x: ArrayLike, values: ArrayLike, *, direction: Literal["maximize", "minimize"], low: float, high: float, log: bool, buckets: int = 8
) -> NDArray[np.int64]:
    """Return the index of the best trial of each bucket of x, in ascending order of the buckets; empty buckets are left out.

    The best of a bucket is what the optimizer can reach at about this x with the other hyperparameters tuned to it, as far as was tried: the
    quantity that a sensitivity curve is about. The mean would punish an optimizer for bad settings of the others.

    Args:
        x: [N] the hyperparameter.
        values: [N] results; NaN where a trial has none, which never is a best.
        direction: which way is better.
        low: the lower end of the range that is cut into buckets of equal width; x below it falls into the first.
        high: the upper end; x above it falls into the last.
        log: whether widths are equal in log(x); needs low > 0.
        buckets: how many.

    Raises:
        ValueError: the range is empty, or not positive on a log scale.
    """
    if not low < high or (log and low <= 0):
        raise ValueError(f"expected low < high, and low > 0 on a log scale, got low={low:g} and high={high:g}")
    position = np.asarray(x, dtype=np.float64)
    result = np.asarray(values, dtype=np.float64)
    scaled = (np.log(position / low) / math.log(high / low)) if log else (position - low) / (high - low)
    bucket = np.clip(np.floor(scaled * buckets), 0, buckets - 1)
    signed = result if direction == "maximize" else -result
    best = [members[np.nanargmax(signed[members])] for b in range(buckets) if (members := np.flatnonzero((bucket == b) & ~np.isnan(result))).size]
    return np.array(best, dtype=np.int64)


def edge_nearby(value: float, *, low: float, high: float, log: bool) -> Literal["lower", "upper"] | None:
    """Return which edge of its range a value lies at, or None inside; at means within 5 % of the width, on the range's own scale.

    A best configuration at an edge says that the range was too narrow (Tuning Playbook, "Identifying bad search space boundaries").
    """
    scaled = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    if scaled <= NEAR:
        return "lower"
    return "upper" if scaled >= 1 - NEAR else None
