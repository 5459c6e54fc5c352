"""The bounds of a metric: no interval is shown beyond the values that the metric can take.

Student's t and its relatives do not know that an accuracy ends at 100 %. Clipping an interval at the bounds
takes away only values that cannot be true, so it covers the truth as often as before.
"""

__all__ = ["clip_difference", "clip_interval"]

import math

from studies.statistics.verdict import PairJudgement


def clip_interval(low: float | None, high: float | None, unit: str) -> tuple[float | None, float | None]:
    """Return the ends of an interval of a metric, inside the metric's bounds."""
    return _clip(low, high, _bounds(unit))


def clip_difference(pair: PairJudgement, unit: str) -> PairJudgement:
    """Return a pair's judgement with its intervals inside the bounds of a difference of two values."""
    lowest, highest = _bounds(unit)
    width = highest - lowest
    if math.isinf(width):
        return pair
    low, high = _clip(pair.low, pair.high, (-width, width))
    seeds_low, seeds_high = _clip(pair.seeds_low, pair.seeds_high, (-width, width))
    return pair.model_copy(
        update={"low": low, "high": high, "seeds_low": seeds_low, "seeds_high": seeds_high}
    )


def _bounds(unit: str) -> tuple[float, float]:
    """Return the lowest and the highest value of a metric: a fraction's are 0 and 1, others have none."""
    return (0.0, 1.0) if unit == "fraction" else (-math.inf, math.inf)


def _clip(
    low: float | None, high: float | None, bounds: tuple[float, float]
) -> tuple[float | None, float | None]:
    lowest, highest = bounds
    return None if low is None else max(low, lowest), None if high is None else min(high, highest)
