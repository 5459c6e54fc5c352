"""The test of one pair of arms.

It uses paired seeds, replicates of the search, or signs if a mean has no meaning:

    configurations       Paired differences over the seeds that both ran: Student's t, without the luck of the
                         searches that found them.
    one replicate        Paired differences over the seeds that both arms ran. The standard error includes
                         their noise and an allowance for the luck of each search
                         (`studies.statistics.search_luck`).
    several replicates   Each repetition of the search is one observation: Welch's t of the replicates' means
                         over the same seeds.
    a run diverged, or   Exact sign test: a diverged run loses to a finished run, and two diverged runs tie.
    no difference varies With one replicate, finished runs that differ by less than the searches' luck tie
                         too.

In this module all values are oriented: larger is better, a diverged run is -inf, and a run that was not made
is NaN.
"""

__all__ = ["Covers", "Evidence", "Record", "compare", "compare_configurations"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.statistics.paired import effect_size, effective_df, sign_test, t_interval, t_p_value, varies
from studies.statistics.search_luck import SearchLuck

Covers = Literal["seeds and search", "replicates", "signs", "configurations"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """The stored results of an arm, oriented.

    Attributes:
        scores: test values [R, S] of the confirmation runs.
        luck: of its search; None if it cannot be estimated.
    """

    scores: NDArray[np.float64]
    luck: SearchLuck | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one pair shows; differences are first minus second, and NaN if unknown.

    Attributes:
        n: number of paired seeds, or the smaller of the two numbers of replicates.
        difference: mean difference of the finished runs.
        interval: its 95 % interval.
        seeds_interval: the one over seeds alone, for these configurations.
        effect_size: Hedges' g_z of the paired differences.
        p: two-sided p-value.
        leans: 1 to the first arm, -1 to the second, 0 to neither.
        method: how p was computed, or why it was not computed.
        covers: the variation that the interval and p allow for.
    """

    n: int
    covers: Covers
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    seeds_interval: tuple[float, float] = (math.nan, math.nan)
    effect_size: float = math.nan
    p: float = math.nan
    leans: int = 0
    method: str = ""


def compare(first: Record, second: Record) -> Evidence:
    """Return what two arms' confirmation runs show about which arm is better."""
    if max(len(first.scores), len(second.scores)) > 1:
        return _by_replicates(first.scores, second.scores)
    return _by_seeds(first, second)


def compare_configurations(first: Record, second: Record) -> Evidence:
    """Return what the runs of two configurations [1, S] show about which of them is better.

    The searches that found them are taken as given.
    """
    return _by_seeds(first, second, is_search_given=True)


def _by_seeds(first: Record, second: Record, *, is_search_given: bool = False) -> Evidence:
    """Return the evidence of one replicate per arm; the runs on equal seeds are the pairs."""
    a, b = (
        arm.scores[0] if len(arm.scores) else np.full(arm.scores.shape[1], np.nan) for arm in (first, second)
    )
    ran = ~(np.isnan(a) | np.isnan(b))
    a, b = a[ran], b[ran]
    seeds = _Differences.of(a, b)
    covers: Covers = "configurations" if is_search_given else "seeds and search"
    draft = Evidence(n=a.size, covers=covers, difference=seeds.mean)
    if seeds.n == draft.n:
        draft = replace(draft, seeds_interval=seeds.interval, effect_size=seeds.effect_size)
    if draft.n < 2:
        return replace(draft, method="none: fewer than two seeds that both arms ran")
    # Two equally noisy runs each have half the variance of their difference.
    noise = seeds.sd / math.sqrt(2)
    lucks = [(arm.luck.variance(noise=noise), arm.luck.df) for arm in (first, second) if arm.luck is not None]
    if seeds.n < draft.n or not seeds.varies:
        margin = 0.0 if is_search_given else _margin(lucks) if len(lucks) == 2 else math.inf
        return _signs(draft, won=_beyond(a, b, margin), lost=_beyond(b, a, margin), over="paired seeds")
    over_seeds = (seeds.sd**2 / seeds.n, seeds.n - 1.0)
    if is_search_given:
        return _t(draft, [over_seeds], method="t over paired seeds")
    if len(lucks) < 2:
        return replace(
            draft, method="none: too few trials have a value to estimate the variation over searches"
        )
    return _t(
        draft, [over_seeds, *lucks], method="t over paired seeds, widened for the variation over searches"
    )


def _by_replicates(first: NDArray[np.float64], second: NDArray[np.float64]) -> Evidence:
    """Return the evidence of several replicates [R, S].

    Each replicate is one observation: its mean over the seeds that all of them ran.
    """
    ran_first, ran_second = (np.any(~np.isnan(scores), axis=1) for scores in (first, second))
    a, b = first[ran_first], second[ran_second]
    shared = np.all(~np.isnan(np.concatenate([a, b])), axis=0)
    n = min(len(a), len(b)) if shared.any() else 0
    draft = Evidence(n=n, covers="replicates")
    if n == 0:
        return replace(draft, method="none: no seed that both arms ran")
    a, b = a[:, shared], b[:, shared]
    # Replicates with the same number began from equal initialisations, so they are the pairs of the effect
    # size and of the signs.
    rows = [r for r in range(min(len(first), len(second))) if ran_first[r] and ran_second[r]]
    one, other = first[rows][:, shared], second[rows][:, shared]
    is_finished = bool(np.isfinite(a).all() and np.isfinite(b).all())
    means = [scores.mean(axis=1) for scores in (a, b)]
    if is_finished:
        seeds = _Differences.of(a.mean(axis=0), b.mean(axis=0))
        size = _Differences.of(one.mean(axis=1), other.mean(axis=1)).effect_size
        draft = replace(draft, difference=seeds.mean, seeds_interval=seeds.interval, effect_size=size)
    if n < 2:
        return replace(draft, method="none: fewer than two replicates of either arm are confirmed")
    if not is_finished or not any(varies(mean) for mean in means):
        balance = (one > other).sum(axis=1) - (one < other).sum(axis=1)
        return _signs(
            draft, won=int((balance > 0).sum()), lost=int((balance < 0).sum()), over="paired replicates"
        )
    # A mean that does not vary has a variance of 0, which keeps its degrees of freedom out of the sum.
    parts = [(float(mean.var(ddof=1)) / len(mean), len(mean) - 1.0) for mean in means]
    return _t(draft, parts, method="Welch's t over replicates of the search")


@dataclass(frozen=True, kw_only=True)
class _Differences:
    """Differences [n] of the pairs in which both runs finished."""

    values: NDArray[np.float64]
    varies: bool

    @classmethod
    def of(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> "_Differences":
        finished = np.isfinite(a) & np.isfinite(b)
        a, b = a[finished], b[finished]
        return cls(values=a - b, varies=a.size > 1 and varies(a - b, scale=float(np.abs([a, b]).max())))

    @property
    def n(self) -> int:
        return self.values.size

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if self.n else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation of one difference; 0 if the differences do not vary."""
        return float(self.values.std(ddof=1)) if self.varies else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean.

        NaN if the differences do not vary: a width of zero would claim a certainty that does not exist.
        """
        return (
            t_interval(self.mean, error=self.sd / math.sqrt(self.n), df=self.n - 1)
            if self.varies
            else (math.nan, math.nan)
        )

    @property
    def effect_size(self) -> float:
        """Hedges' g_z; NaN if the differences do not vary."""
        return effect_size(self.values) if self.varies else math.nan


def _t(draft: Evidence, parts: Sequence[tuple[float, float]], *, method: str) -> Evidence:
    """Return the evidence of Student's t on the difference.

    The variance of the difference is the sum of the parts, each with its degrees of freedom.
    """
    error, df = math.sqrt(sum(variance for variance, _ in parts)), effective_df(parts)
    interval = t_interval(draft.difference, error=error, df=df)
    p = t_p_value(draft.difference, error=error, df=df)
    return replace(draft, interval=interval, p=p, leans=int(np.sign(draft.difference)), method=method)


def _signs(draft: Evidence, *, won: int, lost: int, over: str) -> Evidence:
    counts = f"{won} won and {lost} lost" if won or lost else "all of them tied"
    method = f"exact sign test over {over}, {counts}"
    return replace(
        draft, covers="signs", p=sign_test(won, lost), leans=int(np.sign(won - lost)), method=method
    )


def _beyond(a: NDArray[np.float64], b: NDArray[np.float64], margin: float) -> int:
    """Return how many runs of a beat their partner in b.

    A run wins by more than the margin, or because its partner diverged.
    """
    over = np.subtract(a, b, out=np.zeros_like(a), where=np.isfinite(a) & np.isfinite(b)) > margin
    return int((over | (np.isfinite(a) & np.isinf(b))).sum())


def _margin(lucks: Sequence[tuple[float, float]]) -> float:
    """Return by how much two configurations may differ by the luck of their searches alone.

    The difference stays within it 19 times out of 20. The luck is given by its parts of variance.
    """
    variance = sum(part for part, _ in lucks)
    return t_interval(0.0, error=math.sqrt(variance), df=effective_df(lucks))[1] if variance > 0 else 0.0
