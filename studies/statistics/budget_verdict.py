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

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from studies.direction import Direction, sign
from studies.paired_search import LEAST_PAIRS, TRIALS_PER_BUDGET
from studies.statistics.best_of_k import budgets
from studies.statistics.budget_statistic import chosen_test, chosen_test_without_each
from studies.statistics.holm import holm
from studies.statistics.orientation import oriented
from studies.statistics.paired import effective_df, t_interval, t_p_value
from studies.statistics.verdict import LEVEL, Word

_Floats = NDArray[np.float64]

_DRAWS: Final = 4000
_SEED: Final = 20_211


@dataclass(frozen=True, kw_only=True)
class ArmTrials:
    """The trials of one arm, in the order of their pairs.

    Attributes:
        name: the arm.
        validation: [N] validation values; NaN where a pair has no result, the worst infinity where it
            diverged.
        test: [N] test values of the same trials; what is not finite counts like a diverged trial.
    """

    name: str
    validation: _Floats
    test: _Floats


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
        curves: expected test value of each arm's choice at each of them, [arms, K].
        pairs: every pair of arms at the primary budget, in the order given.
        band: every pair of arms over all budgets, in the same order.
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
    trials = _Trials(arms, direction=direction, diverged=diverged, is_paired=is_paired)
    names = [arm.name for arm in arms]
    every = list(itertools.combinations(range(len(arms)), 2))
    counts = [trials.count(i, j) for i, j in every]
    most = max(min(counts, default=0) // TRIALS_PER_BUDGET, 0)
    ks = budgets(most) if most else np.empty(0, dtype=np.int64)
    signed = sign(direction)
    over_all = [trials.contrast(i, j, ks) for i, j in every] if most and min(counts) >= LEAST_PAIRS else []
    ends = _band(over_all, _multipliers(trials.units))
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
            for p, (i, j) in enumerate(every)
            if over_all
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
    trials = _Trials(arms, direction=direction, diverged=diverged, is_paired=True)
    names = [arm.name for arm in arms]
    places = [(names.index(first), names.index(second)) for first, second in pairs]
    return _words(trials, places, names, primary=primary, correction=correction, level=level)


class _Trials:
    """The oriented trials of all arms, and their contrasts."""

    def __init__(
        self, arms: Sequence[ArmTrials], *, direction: Direction, diverged: float | None, is_paired: bool
    ) -> None:
        """Orient the values; raises ValueError if the arms are paired and their numbers of trials differ."""
        if is_paired and len({arm.validation.size for arm in arms}) > 1:
            raise ValueError(
                "expected paired arms with the same number of trials, got "
                + ", ".join(f"{arm.validation.size} of {arm.name}" for arm in arms)
            )
        self.signed = sign(direction)
        self._validation = [oriented(arm.validation, direction) for arm in arms]
        self._tests = _tests(arms, direction, diverged)
        self._known = [~np.isnan(values) for values in self._validation]
        self._is_paired = is_paired
        self._offsets = np.cumsum([0, *(arm.validation.size for arm in arms)])
        self.units = arms[0].validation.size if is_paired else int(self._offsets[-1])
        # An arm is in many pairs, most often with all its trials.
        self._influences: dict[tuple[int, bytes, bytes], _Influence] = {}

    def count(self, i: int, j: int) -> int:
        """Return the pairs of trials of two arms; the smaller number of trials if they are not paired."""
        return int(min(rows.sum() for rows in self._rows(i, j)))

    def curve(self, arm: int, ks: NDArray[np.int64]) -> _Floats:
        """Return the arm's expected test value of the choice at each budget, [K], oriented."""
        known = self._known[arm]
        return chosen_test(self._validation[arm][known], self._tests[arm][known], ks)

    def contrast(self, i: int, j: int, ks: NDArray[np.int64]) -> "_Contrast":
        """Return the difference of two arms at each budget."""
        rows = self._rows(i, j)
        return _Contrast.of(
            [self._influence(arm, of_arm, ks) for arm, of_arm in zip((i, j), rows, strict=True)],
            rows=rows,
            offsets=(0, 0) if self._is_paired else (int(self._offsets[i]), int(self._offsets[j])),
            units=self.units,
            budgets=ks,
            is_paired=self._is_paired,
        )

    def _rows(self, i: int, j: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        one, other = self._known[i], self._known[j]
        return (one & other, one & other) if self._is_paired else (one, other)

    def _influence(self, arm: int, rows: NDArray[np.bool_], ks: NDArray[np.int64]) -> "_Influence":
        key = arm, rows.tobytes(), ks.tobytes()
        if key not in self._influences:
            self._influences[key] = _influence(self._validation[arm], self._tests[arm], rows, ks)
        return self._influences[key]


def _words(
    trials: _Trials,
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


def _tests(arms: Sequence[ArmTrials], direction: Direction, diverged: float | None) -> list[_Floats]:
    """Return oriented test values in which those that are not finite have one value for all arms."""
    found = [np.where(np.isfinite(arm.test), arm.test, np.nan) * sign(direction) for arm in arms]
    finite = np.concatenate(found)
    finite = finite[~np.isnan(finite)]
    value = float(finite.min()) if diverged is None and finite.size else sign(direction) * (diverged or 0.0)
    return [
        np.where(np.isnan(tests) | ~np.isfinite(arm.validation), value, tests)
        for arm, tests in zip(arms, found, strict=True)
    ]


@dataclass(frozen=True)
class _Influence:
    """One arm's statistic at each budget, [K], and the jackknife's deviations of each trial, [K, n]."""

    value: _Floats
    deviations: _Floats


def _influence(
    validation: _Floats, tests: _Floats, rows: NDArray[np.bool_], ks: NDArray[np.int64]
) -> _Influence:
    values, kept = validation[rows], tests[rows]
    without = chosen_test_without_each(values, kept, ks)
    n = len(values)
    deviations = math.sqrt((n - 1) / n) * (without - without.mean(axis=1, keepdims=True))
    return _Influence(chosen_test(values, kept, ks), deviations)


@dataclass(frozen=True)
class _Contrast:
    """The difference of two arms at some budgets.

    Attributes:
        difference: [K] first minus second, oriented.
        deviations: [K, units] the part of each trial or pair of trials; 0 for those of other arms.
        df: [K] degrees of freedom of the standard error.
    """

    difference: _Floats
    deviations: _Floats
    df: _Floats

    @classmethod
    def of(
        cls,
        parts: Sequence[_Influence],
        *,
        rows: Sequence[NDArray[np.bool_]],
        offsets: Sequence[int],
        units: int,
        budgets: NDArray[np.int64],
        is_paired: bool,
    ) -> "_Contrast":
        deviations = np.zeros((len(budgets), units))
        for part, of_arm, offset, signed in zip(parts, rows, offsets, (1, -1), strict=True):
            deviations[:, offset + np.flatnonzero(of_arm)] += signed * part.deviations
        counts = [part.deviations.shape[1] for part in parts]
        if is_paired:
            df = _freedom(counts[0], budgets)
        else:
            variances = [(part.deviations**2).sum(axis=1) for part in parts]
            own = [_freedom(n, budgets) for n in counts]
            df = np.array(
                [
                    effective_df([(float(v[k]), float(f[k])) for v, f in zip(variances, own, strict=True)])
                    if any(v[k] > 0 for v in variances)
                    else math.nan
                    for k in range(len(budgets))
                ]
            )
        return cls(parts[0].value - parts[1].value, deviations, df)

    @functools.cached_property
    def error(self) -> _Floats:
        """[K] standard errors; 0 where the difference does not vary."""
        found = np.sqrt((self.deviations**2).sum(axis=1))
        # Equal numbers may differ by their rounding.
        return np.where(found > 1e-12 * np.maximum(np.abs(self.difference), 1e-300), found, 0.0)

    def p(self, k: int) -> float:
        """Return the p-value at the k-th budget; NaN where the difference does not vary."""
        error = float(self.error[k])
        return (
            t_p_value(float(self.difference[k]), error=error, df=float(self.df[k])) if error > 0 else math.nan
        )


def _freedom(n: int, budgets: NDArray[np.int64]) -> _Floats:
    """Return the degrees of freedom of the jackknife's standard error at each budget, [K].

    The best of k depends on about n/k of the trials, and more than one of them matters. The factor and the
    bound for k = 2 and 3 are calibrated by simulation (docs/statistics.md).
    """
    return np.minimum(n / np.minimum(budgets, 2), 1.5 * n / budgets) - 1


@functools.lru_cache(maxsize=8)
def _multipliers(units: int) -> _Floats:
    """Return the bootstrap's random multipliers, [draws, units]; always the same."""
    return np.random.default_rng(_SEED).normal(size=(_DRAWS, units))


def _stepped_down(contrasts: Sequence[_Contrast | None], p_values: _Floats, units: int) -> _Floats:
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
    draws = _multipliers(units)
    directions = np.array([_unit(contrasts[p])[0] for p in tested])
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


def _unit(contrast: _Contrast | None) -> _Floats:
    """Return the deviations divided by their standard error, [K, units]; 0 where nothing varies."""
    assert contrast is not None, "a pair with a p-value has a contrast"
    error = contrast.error[:, None]
    return np.divide(contrast.deviations, error, out=np.zeros_like(contrast.deviations), where=error > 0)


def _band(contrasts: Sequence[_Contrast], draws: _Floats) -> list[_Floats]:
    """Return the ends of each pair's band at each budget, [pairs][2, K]; NaN where nothing varies."""
    from scipy.special import ndtr, stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    if not contrasts:
        return []
    largest = np.zeros(len(draws))
    for contrast in contrasts:
        largest = np.maximum(largest, np.abs(draws @ _unit(contrast).T).max(axis=1, initial=0.0))
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
    contrast: _Contrast | None,
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
