"""Which arm is better after k trials of tuning, from the trials of a paired search; no confirmation needed.

At one primary budget every pair of arms gets a word. The band over all budgets and pairs is a second
statement: the chance that it misses any true difference is 5 %, too.
"""

__all__ = [
    "ArmTrials",
    "BudgetDifference",
    "BudgetJudgement",
    "PairAtBudget",
    "judge_at",
    "judge_budgets",
]

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction, sign
from studies.paired_search import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.best_of_k import budgets
from studies.statistics.budget_contrasts import ArmTrials, Contrast, PairedArms, multipliers
from studies.statistics.holm import holm
from studies.statistics.paired import t_interval
from studies.statistics.verdict import LEVEL, Word

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairAtBudget:
    """Two arms after k trials of tuning each, in the metric's own unit and direction; NaN where unknown.

    Attributes:
        first: name of one arm.
        second: name of the other.
        n: pairs of trials that both arms have; the smaller number of trials if they are not paired.
        word: the first arm against the second.
        difference: expected test value of the choice, first minus second.
        low: lower end of its 95 % interval, for this pair alone.
        high: upper end.
        p: two-sided p-value.
        p_corrected: the same, corrected over all pairs of arms.
    """

    first: str
    second: str
    n: int
    word: Word
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float


@dataclass(frozen=True, kw_only=True)
class BudgetDifference:
    """The difference of two arms over all budgets, with its simultaneous 95 % band.

    Attributes:
        first: name of one arm.
        second: name of the other.
        difference: [K] first minus second.
        low: [K] lower end of the band; NaN where the difference does not vary.
        high: [K] upper end.
    """

    first: str
    second: str
    difference: _Floats
    low: _Floats
    high: _Floats


@dataclass(frozen=True, kw_only=True)
class BudgetJudgement:
    """The verdict on all pairs of arms by budget.

    Attributes:
        primary: the budget at which words are given.
        budgets: [K] the budgets of the curves and the band, ascending; empty with too few trials.
        curves: expected test value of each arm's choice at each of them, [arms, K]; NaN above its number of
            trials.
        pairs: every pair of arms at the primary budget, in the order given.
        band: every pair of arms with enough trials over all budgets, in the same order.
    """

    primary: int
    budgets: NDArray[np.int64]
    curves: _Floats
    pairs: tuple[PairAtBudget, ...]
    band: tuple[BudgetDifference, ...]


def judge_budgets(
    arms: Sequence[ArmTrials],
    *,
    direction: Direction,
    primary: int,
    diverged: float | None = None,
    is_paired: bool = True,
    correction: Literal["holm", "max-t"] = "max-t",
) -> BudgetJudgement:
    """Return which arms are better after `primary` trials of tuning, and the curves over all budgets.

    The difference of two arms at k is that of `chosen_test`. Its variance is the jackknife's over the pairs
    of trials, and the interval is Student's t; for arms that are not paired, the variances add up and the
    degrees of freedom are Satterthwaite's. The correction over pairs of arms, and the band over budgets and
    pairs, come from a multiplier bootstrap of the largest |difference| / standard error.

    Args:
        arms: two arms or more with one N; without `is_paired` their N may differ.
        direction: which way is better.
        primary: the budget at which the words are given, in trials.
        diverged: the test value of a diverged trial, in every arm; by default the worst of all arms.
        is_paired: whether trial i of every arm has the same seed and the same draws.
        correction: how p-values are corrected over pairs of arms.

    Raises:
        ValueError: the arms are paired and their numbers of trials differ.

    Source: the bootstrap follows Chernozhukov, Chetverikov and Kato, Gaussian approximations and multiplier
    bootstrap for maxima of sums of high-dimensional random vectors, Annals of Statistics 41 (2013); the
    step-down of p-values Romano and Wolf, Stepwise multiple testing as formalized data snooping,
    Econometrica 73 (2005).
    """
    trials = PairedArms(arms, direction=direction, diverged=diverged, is_paired=is_paired)
    names = [arm.name for arm in arms]
    every = list(itertools.combinations(range(len(arms)), 2))
    counts = [trials.count(i, j) for i, j in every]
    # Arms without enough results take nothing from the others.
    enough = [n for n in counts if n >= LEAST_PAIRS]
    most = min(enough or counts, default=0) // TRIALS_PER_BUDGET
    ks = budgets(most) if most else np.empty(0, dtype=np.int64)
    signed = sign(direction)
    banded = [pair for pair, n in zip(every, counts, strict=True) if n >= LEAST_PAIRS]
    over_all = [trials.contrast(i, j, ks) for i, j in banded]
    ends = _band(over_all, multipliers(trials.units))
    return BudgetJudgement(
        primary=primary,
        budgets=ks,
        curves=signed * np.array([trials.curve(arm, ks) for arm in range(len(arms))]),
        pairs=_words(trials, every, names, primary=primary, correction=correction, level=LEVEL),
        band=tuple(
            BudgetDifference(
                first=names[i],
                second=names[j],
                difference=signed * over_all[p].difference,
                low=np.sort(signed * ends[p], axis=0)[0],
                high=np.sort(signed * ends[p], axis=0)[1],
            )
            for p, (i, j) in enumerate(banded)
        ),
    )


def judge_at(
    arms: Sequence[ArmTrials],
    *,
    direction: Direction,
    primary: int,
    pairs: Sequence[tuple[str, str]],
    level: float = LEVEL,
    diverged: float | None = None,
    correction: Literal["holm", "max-t"] = "max-t",
) -> tuple[PairAtBudget, ...]:
    """Return the words of `judge_budgets` for some pairs of paired arms, which are the whole family.

    Args:
        arms: as in `judge_budgets`, paired.
        direction: which way is better.
        primary: the budget, in trials.
        pairs: names of the arms to compare, in order.
        level: the chance that any word is wrong; the intervals cover in 1 - level.
        diverged: as in `judge_budgets`.
        correction: how p-values are corrected over the pairs.

    Raises:
        ValueError: the arms' numbers of trials differ.
    """
    trials = PairedArms(arms, direction=direction, diverged=diverged, is_paired=True)
    names = [arm.name for arm in arms]
    places = [(names.index(first), names.index(second)) for first, second in pairs]
    return _words(trials, places, names, primary=primary, correction=correction, level=level)


def _words(
    trials: PairedArms,
    places: Sequence[tuple[int, int]],
    names: Sequence[str],
    *,
    primary: int,
    correction: Literal["holm", "max-t"],
    level: float,
) -> tuple[PairAtBudget, ...]:
    counts = [trials.count(i, j) for i, j in places]
    contrasts = [
        trials.contrast(i, j, np.array([primary]))
        if n >= max(LEAST_PAIRS, TRIALS_PER_BUDGET * primary)
        else None
        for n, (i, j) in zip(counts, places, strict=True)
    ]
    p_values = np.array([math.nan if contrast is None else contrast.p(0) for contrast in contrasts])
    corrected = holm(p_values) if correction == "holm" else _stepped_down(contrasts, p_values, trials.units)
    return tuple(
        _at_budget(names[i], names[j], n, contrast, float(corrected[p]), signed=trials.signed, level=level)
        for p, ((i, j), n, contrast) in enumerate(zip(places, counts, contrasts, strict=True))
    )


def _stepped_down(contrasts: Sequence[Contrast | None], p_values: _Floats, units: int) -> _Floats:
    """Return p-values corrected by the largest |difference| / error that chance gives, stepping down.

    Each t value counts as the normal deviate of the same p-value, because the bootstrap's are normal.
    """
    from scipy.special import ndtri  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    tested = [int(p) for p in np.argsort(p_values) if not math.isnan(p_values[p])]
    corrected = np.full(len(p_values), math.nan)
    if not tested:
        return corrected
    if len(p_values) == 1:
        return p_values.copy()
    draws = multipliers(units)
    directions = np.array([contrast.unit[0] for p in tested if (contrast := contrasts[p])])
    sizes = np.abs(draws @ directions.T)
    # The largest of a pair and of all with a larger p-value.
    largest = np.maximum.accumulate(sizes[:, ::-1], axis=1)[:, ::-1]
    observed = np.array([-float(ndtri(p_values[p] / 2)) for p in tested])
    found = (1 + (largest >= observed).sum(axis=0)) / (1 + len(draws))
    # Neither below the p-value itself, nor above what Holm's inequality allows.
    bounds = holm(p_values)[tested]
    found = np.maximum.accumulate(np.minimum(np.maximum(found, p_values[tested]), bounds))
    corrected[tested] = found
    return corrected


def _band(contrasts: Sequence[Contrast], draws: NDArray[np.float32]) -> list[_Floats]:
    """Return the ends of each pair's band at each budget, [pairs][2, K]; NaN where nothing varies."""
    from scipy.special import ndtr, stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if not contrasts:
        return []
    largest = np.zeros(len(draws), dtype=np.float32)
    for contrast in contrasts:
        largest = np.maximum(largest, np.abs(draws @ contrast.unit.T).max(axis=1, initial=0.0))
    critical = float(np.quantile(largest, 1 - LEVEL))
    tail = float(ndtr(-critical))
    ends: list[_Floats] = []
    for contrast in contrasts:
        error = contrast.error
        half = np.where(error > 0, -stdtrit(contrast.df, tail) * error, math.nan)
        ends.append(np.stack([contrast.difference - half, contrast.difference + half]))
    return ends


def _at_budget(
    first: str,
    second: str,
    n: int,
    contrast: Contrast | None,
    corrected: float,
    *,
    signed: Literal[1, -1],
    level: float,
) -> PairAtBudget:
    if contrast is None:
        nothing = math.nan
        return PairAtBudget(
            first=first,
            second=second,
            n=n,
            word="undecided",
            difference=nothing,
            low=nothing,
            high=nothing,
            p=nothing,
            p_corrected=nothing,
        )
    difference, error = float(contrast.difference[0]), float(contrast.error[0])
    ends = (
        t_interval(difference, error=error, df=float(contrast.df[0]), confidence=1 - level)
        if error > 0
        else (math.nan, math.nan)
    )
    low, high = sorted(signed * end for end in ends) if error > 0 else ends
    is_decided = corrected < level and difference != 0
    return PairAtBudget(
        first=first,
        second=second,
        n=n,
        word="undecided" if not is_decided else "better" if difference > 0 else "worse",
        difference=signed * difference,
        low=low,
        high=high,
        p=contrast.p(0),
        p_corrected=corrected,
    )
