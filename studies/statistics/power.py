"""Which gaps a study with paired trials could have detected, and how many pairs smaller ones need."""

__all__ = ["PairPower", "detectable_gap", "pair_power", "pairs_needed"]

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from studies.direction import Direction
from studies.paired_search import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.budget_contrasts import ArmTrials, PairedArms, degrees_of_freedom, multipliers
from studies.statistics.verdict import LEVEL

POWER: Final = 0.8
"""How often a gap that counts as detectable is detected."""

_MOST_PAIRS: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PairPower:
    """What the paired trials of two arms could have shown at the primary budget k.

    Attributes:
        first: name of one arm.
        second: name of the other.
        n: pairs of trials that both arms have.
        spread: the standard error of their difference times sqrt(n / k), which hardly depends on n; NaN
            with too few pairs, or if the difference does not vary.
        detectable: the smallest true gap that is called in 80 %, in the metric's unit; NaN if unknown.
        for_half: pairs of trials that detect half of it in 80 %, at the same k; None if unknown.
    """

    first: str
    second: str
    n: int
    spread: float
    detectable: float
    for_half: int | None


def pair_power(
    arms: Sequence[ArmTrials],
    *,
    direction: Direction,
    primary: int,
    diverged: float | None = None,
) -> tuple[PairPower, ...]:
    """Return for every pair of arms the gap that was detectable, from the jackknife errors of its trials.

    The level of a pair is that at which the family of all pairs keeps 5 %, by the multiplier bootstrap of the
    verdict.

    Args:
        arms: paired, as `judge_budgets` takes them.
        direction: which way is better.
        primary: the budget k, in trials.
        diverged: the test value of a diverged trial; by default the worst of all arms.

    Raises:
        ValueError: the arms' numbers of trials differ.
    """
    # Scipy has no stubs.
    from scipy.special import ndtr  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    trials = PairedArms(arms, direction=direction, diverged=diverged, is_paired=True)
    places = list(itertools.combinations(range(len(arms)), 2))
    counts = [trials.count(i, j) for i, j in places]
    contrasts = [
        trials.contrast(i, j, np.array([primary])) if n >= _least(primary) else None
        for n, (i, j) in zip(counts, places, strict=True)
    ]
    units = [contrast.unit[0] for contrast in contrasts if contrast]
    largest = np.abs(multipliers(trials.units) @ np.array(units).T).max(axis=1) if units else np.zeros(1)
    level = LEVEL if len(units) < 2 else 2 * float(ndtr(-np.quantile(largest, 1 - LEVEL)))
    found: list[PairPower] = []
    for (i, j), n, contrast in zip(places, counts, contrasts, strict=True):
        error = float(contrast.error[0]) if contrast else 0.0
        spread = error * math.sqrt(n / primary) if error > 0 else math.nan
        gap = detectable_gap(spread, n=n, primary=primary, level=level)
        found.append(
            PairPower(
                first=arms[i].name,
                second=arms[j].name,
                n=n,
                spread=spread,
                detectable=gap,
                for_half=pairs_needed(gap / 2, spread=spread, primary=primary, level=level),
            )
        )
    return tuple(found)


def pairs_needed(gap: float, *, spread: float, primary: int, level: float = LEVEL) -> int | None:
    """Return the fewest pairs of trials that detect a gap in 80 % at a primary budget; None if unknown.

    Args:
        gap: the true difference at the primary budget.
        spread: as `PairPower` has it, in the unit of the gap.
        primary: the budget k.
        level: two-sided, of this pair alone.
    """
    if not (gap > 0 and math.isfinite(spread)):
        return None
    low, high = _least(primary) - 1, _MOST_PAIRS
    if detectable_gap(spread, n=high, primary=primary, level=level) > gap:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if detectable_gap(spread, n=middle, primary=primary, level=level) > gap:
            low = middle
        else:
            high = middle
    return high


def _least(primary: int) -> int:
    """Return the fewest pairs of trials with which the verdict compares two arms."""
    return max(LEAST_PAIRS, TRIALS_PER_BUDGET * primary)


def detectable_gap(spread: float, *, n: int, primary: int, level: float = LEVEL) -> float:
    """Return the gap that n pairs of trials detect in 80 %: (t of the level + t of 80 %) standard errors.

    Args:
        spread: as `PairPower` has it; the gap has its unit.
        n: pairs of trials, more than the primary budget.
        primary: the budget k.
        level: two-sided, of this pair of arms alone.
    """
    # Scipy has no stubs.
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if not math.isfinite(spread):
        return math.nan
    df = float(degrees_of_freedom(n, np.array([primary]))[0])
    quantiles = -float(stdtrit(df, level / 2)) + float(stdtrit(df, POWER))
    return quantiles * spread * math.sqrt(primary / n)
