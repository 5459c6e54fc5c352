"""The test of one pair of arms.

By paired seeds, by replicates of the search, or by signs where a mean means nothing.

    one replicate        paired differences over the seeds that both arms ran; the standard error holds their
                         noise and an allowance for the luck of either search
                         (`studies.statistics.search_luck`)
    several replicates   each repetition of the search is one observation: Welch's t of the replicates' means
                         over the same seeds
    a run diverged, or   exact sign test: a diverged run loses to a finished one, two diverged runs tie; with
                         one replicate, finished runs that
    no difference varies differ by less than the searches' luck tie too

Everything here is oriented: larger is better, a diverged run is -inf, one that was not made is NaN.
"""

__all__ = ["Covers", "Evidence", "Record", "compare"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.statistics.paired import effect_size, effective_df, sign_test, t_interval, t_p_value, varies
from studies.statistics.search_luck import SearchLuck

Covers = Literal["seeds and search", "replicates", "signs"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is on record of an arm, oriented.

    Attributes:
        scores: test values [R, S] of the confirmation runs.
        luck: of its search; None where it cannot be told.
    """

    scores: NDArray[np.float64]
    luck: SearchLuck | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one pair shows; differences are first less second, NaN where unknown.

    Attributes:
        n: paired seeds, or replicates that either arm has at least.
        difference: mean difference of the finished runs.
        interval: its 95 % interval.
        seeds_interval: the one over seeds alone, for these configurations.
        effect_size: Hedges' g_z of the paired differences.
        p: two-sided p-value.
        leans: 1 to the first arm, -1 to the second, 0 to neither.
        method: how p was computed, or why it was not.
        covers: which luck interval and p allow for.
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
    """Return what two arms' confirmation runs show of which is better."""
    if max(len(first.scores), len(second.scores)) > 1:
        return _by_replicates(first.scores, second.scores)
    return _by_seeds(first, second)


def _by_seeds(first: Record, second: Record) -> Evidence:
    """Return the evidence of one replicate: the runs on equal seeds are the pairs."""
    a, b = (
        arm.scores[0] if len(arm.scores) else np.full(arm.scores.shape[1], np.nan) for arm in (first, second)
    )
    ran = ~(np.isnan(a) | np.isnan(b))
    a, b = a[ran], b[ran]
    seeds = _Differences.of(a, b)
    draft = Evidence(n=a.size, covers="seeds and search", difference=seeds.mean)
    if seeds.n == draft.n:
        draft = replace(draft, seeds_interval=seeds.interval, effect_size=seeds.effect_size)
    if draft.n < 2:
        return replace(draft, method="none: fewer than two seeds that both arms ran")
    # Each of two equally noisy runs has half of their difference's variance.
    noise = seeds.sd / math.sqrt(2)
    lucks = [(arm.luck.variance(noise=noise), arm.luck.df) for arm in (first, second) if arm.luck is not None]
    if seeds.n < draft.n or not seeds.varies:
        margin = _margin(lucks) if len(lucks) == 2 else math.inf
        return _signs(draft, won=_beyond(a, b, margin), lost=_beyond(b, a, margin), over="paired seeds")
    if len(lucks) < 2:
        return replace(
            draft, method="none: too few trials have a value to estimate the variation over searches"
        )
    parts = [(seeds.sd**2 / seeds.n, seeds.n - 1.0), *lucks]
    return _t(draft, parts, method="t over paired seeds, widened for the variation over searches")


def _by_replicates(first: NDArray[np.float64], second: NDArray[np.float64]) -> Evidence:
    """Return the evidence of several replicates [R, S].

    Each is one observation, its mean over the seeds that all of them ran.
    """
    ran_first, ran_second = (np.any(~np.isnan(scores), axis=1) for scores in (first, second))
    a, b = first[ran_first], second[ran_second]
    shared = np.all(~np.isnan(np.concatenate([a, b])), axis=0)
    n = min(len(a), len(b)) if shared.any() else 0
    draft = Evidence(n=n, covers="replicates")
    if n == 0:
        return replace(draft, method="none: no seed that both arms ran")
    a, b = a[:, shared], b[:, shared]
    # Replicates of one number began from equal initialisations: they are the pairs of the effect size and of
    # the signs.
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
    # A mean that does not vary counts 0, and keeps its degrees of freedom out of the sum.
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
        """Standard deviation of one difference; 0 where none is seen."""
        return float(self.values.std(ddof=1)) if self.varies else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The mean's 95 % interval.

        NaN where differences do not vary, for a width of zero would be a bluff.
        """
        return (
            t_interval(self.mean, error=self.sd / math.sqrt(self.n), df=self.n - 1)
            if self.varies
            else (math.nan, math.nan)
        )

    @property
    def effect_size(self) -> float:
        """Hedges' g_z; NaN where differences do not vary."""
        return effect_size(self.values) if self.varies else math.nan


def _t(draft: Evidence, parts: Sequence[tuple[float, float]], *, method: str) -> Evidence:
    """Return the evidence of Student's t on the difference.

    Its variance is the sum of parts, each with its degrees of freedom.
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

    By more than the margin, or because that one diverged.
    """
    over = np.subtract(a, b, out=np.zeros_like(a), where=np.isfinite(a) & np.isfinite(b)) > margin
    return int((over | (np.isfinite(a) & np.isinf(b))).sum())


def _margin(lucks: Sequence[tuple[float, float]]) -> float:
    """Return by how much two configurations may differ by the luck of their searches alone.

    That is 19 times out of 20, from its parts of variance.
    """
    variance = sum(part for part, _ in lucks)
    return t_interval(0.0, error=math.sqrt(variance), df=effective_df(lucks))[1] if variance > 0 else 0.0
