"""How results depend on one hyperparameter while the others vary too."""

__all__ = ["Bucket", "Stretch", "bucket_best", "edge_nearby", "good_range", "isolation"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from studies.direction import Direction, sign
from studies.statistics.orientation import oriented

NEAR = 0.05
"""Share of a range's width, on its own scale, that counts as its edge."""


def bucket_best(
    x: ArrayLike,
    values: ArrayLike,
    *,
    direction: Direction,
    low: float,
    high: float,
    log: bool,
    buckets: int = 8,
) -> NDArray[np.int64]:
    """Return the index of the best trial of each bucket of x, in ascending order of the buckets.

    Empty buckets are left out.

    The best of a bucket is what the optimizer can reach at about this x if the other hyperparameters are
    tuned to it, as far as was tried. This is what a sensitivity curve should show. The mean would penalize an
    optimizer for bad settings of the others.

    Args:
        x: [N] the hyperparameter.
        values: [N] results; NaN where a trial has none, which is never a best.
        direction: which way is better.
        low: the lower end of the range that is cut into buckets of equal width; x below it falls into the
            first.
        high: the upper end; x above it falls into the last.
        log: whether widths are equal in log(x); needs low > 0.
        buckets: number of buckets.

    Raises:
        ValueError: the range is empty, or not positive on a log scale.
    """
    edges = _edges(low=low, high=high, log=log, buckets=buckets)
    bucket = np.searchsorted(edges[1:-1], np.asarray(x, dtype=np.float64), side="right")
    result = np.asarray(values, dtype=np.float64)
    signed = sign(direction) * result
    best = [
        members[np.nanargmax(signed[members])]
        for b in range(buckets)
        if (members := np.flatnonzero((bucket == b) & ~np.isnan(result))).size
    ]
    return np.array(best, dtype=np.int64)


def _edges(*, low: float, high: float, log: bool, buckets: int) -> NDArray[np.float64]:
    if not low < high or (log and low <= 0):
        raise ValueError(
            f"expected low < high, and low > 0 on a log scale, got low={low:g} and high={high:g}"
        )
    return np.geomspace(low, high, buckets + 1) if log else np.linspace(low, high, buckets + 1)


def edge_nearby(value: float, *, low: float, high: float, log: bool) -> Literal["lower", "upper"] | None:
    """Return which edge of its range a value lies at, or None if it lies inside.

    "At an edge" means within 5 % of the width, on the range's own scale.

    A best configuration at an edge suggests that the range was too narrow (Tuning Playbook, "Identifying bad
    search space boundaries").
    """
    scaled = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
    if scaled <= NEAR:
        return "lower"
    return "upper" if scaled >= 1 - NEAR else None


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The results of the trials with a hyperparameter in one part of its range, the others being free.

    Attributes:
        low: lower end of the part.
        high: upper end of the part.
        trials: number of trials in it that have a result, including diverged ones.
        diverged: number of those that diverged.
        best: best value; None if no trial has a value.
        index: position of the trial that reached it, in the arrays.
    """

    low: float
    high: float
    trials: int
    diverged: int
    best: float | None
    index: int | None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A range from `low` to `high` in which every bucket's best is close to the best of all."""

    low: float
    high: float


def isolation(
    x: ArrayLike,
    values: ArrayLike,
    *,
    direction: Direction,
    low: float,
    high: float,
    log: bool,
    buckets: int = 8,
) -> tuple[Bucket, ...]:
    """Return the isolation curve of a hyperparameter.

    It has every bucket of the range in ascending order, including empty ones.

    Args:
        x: [N] the hyperparameter; outside the range it falls into the nearest bucket.
        values: [N] results; NaN (none) is left out, the worst infinity stands for diverged.
        direction: which way is better.
        low: the lower end of the range that is cut into buckets of equal width.
        high: the upper end.
        log: whether widths are equal in log(x); needs low > 0.
        buckets: number of buckets.

    Raises:
        ValueError: the range is empty, or not positive on a log scale.

    Source: Godbole et al. (2023), Deep Learning Tuning Playbook, "isolation plots".
    """
    edges = _edges(low=low, high=high, log=log, buckets=buckets)
    bucket = np.searchsorted(edges[1:-1], np.asarray(x, dtype=np.float64), side="right")
    result = oriented(values, direction)
    curve: list[Bucket] = []
    for b in range(buckets):
        members = np.flatnonzero((bucket == b) & ~np.isnan(result))
        finite = members[np.isfinite(result[members])]
        index = int(finite[np.argmax(result[finite])]) if finite.size else None
        curve.append(
            Bucket(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                trials=members.size,
                diverged=members.size - finite.size,
                best=None if index is None else sign(direction) * float(result[index]),
                index=index,
            )
        )
    return tuple(curve)


def good_range(curve: Sequence[Bucket], *, direction: Direction, within: float = 0.01) -> Stretch | None:
    """Return the range around the best bucket that is about as good, or None without any value.

    In it, every bucket's best is within a share of the best value.

    It ends at the first bucket that is worse, is empty or has only diverged trials. It is known to the width
    of a bucket.

    Args:
        curve: the result of `isolation`.
        direction: which way is better.
        within: share of the size of the best value; 0.01 allows 0.98 to fall to 0.9702, or a loss of 0.5
            to rise to 0.505.
    """
    scores = [-math.inf if bucket.best is None else sign(direction) * bucket.best for bucket in curve]
    best = max(scores, default=-math.inf)
    if best == -math.inf:
        return None
    good = [score >= best - within * abs(best) for score in scores]
    first = last = scores.index(best)
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return Stretch(low=curve[first].low, high=curve[last].high)
