"""What studies of several workloads say together.

Relative performance, interquartile mean, performance profiles, AlgoPerf's score, win chances.

Runs of one arm in one study are a stratum: arrays of their values, `[S_1], [S_2], ...` for the studies in
order. Intervals are over runs inside strata: they cover the luck of seeds on these workloads, not the choice
of the workloads. The stratified bootstrap takes percentiles further out than 2.5 and 97.5 when runs are few:
as they are, those of 5 runs in each of 5 studies hold the truth 90 times of 100, not 95 (Hesterberg, 2015,
"What Teachers Should Know About the Bootstrap", expanded percentiles; rliable does without).
"""

__all__ = [
    "LEAST_RUNS",
    "Estimate",
    "algoperf_ratios",
    "algoperf_scores",
    "combined_evidence",
    "interquartile_mean",
    "performance_profile",
    "relative_performance",
    "win_chance",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # pyright: ignore[reportMissingTypeStubs] # scipy has none

from studies.direction import Direction
from studies.statistics.orientation import oriented
from studies.statistics.proportion import wilson_interval

LEAST_RUNS = 3
"""Runs that each stratum needs for a bootstrapped interval.

The bootstrap of one or two knows next to nothing of their spread.
"""

# Share of intervals that lie above the truth, and of those below.
_OUTSIDE: Final = 0.025
# Samples of the bootstrap at least and at most, and runs drawn in all of them together.
_FEWEST: Final = 200
_MOST: Final = 4000
_WORK: Final = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval.

    Low and high are NaN where the bootstrap would need more runs (LEAST_RUNS).
    """

    value: float
    low: float
    high: float


def relative_performance(
    runs: Mapping[str, ArrayLike], *, direction: Direction
) -> dict[str, NDArray[np.float64]]:
    """Return each arm's runs of one study on the scale from the worst arm's mean to the best arm's.

    The worst arm's mean is 0 and the best arm's 1; [S] per arm; larger is better.

    Means are over runs that have a value; single runs may lie below 0 or above 1. A diverged run gets 0, or
    the lowest value of the study if that is lower. Where all means are equal, or only one arm has one, every
    run that has a value gets 1. NaN (no result) is left out.

    Args:
        runs: arm to its confirmed test values; the worst infinity for a diverged run.
        direction: which way is better.
    """
    signed = {arm: (values := oriented(each, direction))[~np.isnan(values)] for arm, each in runs.items()}
    means = [
        float(finite.mean()) for values in signed.values() if (finite := values[np.isfinite(values)]).size
    ]
    if not means:
        return {arm: np.zeros(values.size) for arm, values in signed.items()}
    worst, best = min(means), max(means)
    scaled = {
        arm: np.where(np.isfinite(values), (values - worst) / (best - worst) if best > worst else 1.0, values)
        for arm, values in signed.items()
    }
    lowest = min(float(values[np.isfinite(values)].min(initial=0.0)) for values in scaled.values())
    return {arm: np.where(np.isfinite(values), values, lowest) for arm, values in scaled.items()}


def interquartile_mean(runs: Sequence[ArrayLike]) -> Estimate:
    """Return the mean of the middle half of all runs of all studies, NaN without any run.

    25 % are cut at either end, rounded down to whole runs.

    Args:
        runs: one array of relative performances for each study. Each run weighs the same.

    Source: Agarwal et al. (2021), "Deep RL at the Edge of the Statistical Precipice"; scipy's trim_mean, as
    rliable takes it.
    """
    strata = _strata(runs)
    values = np.concatenate([*strata, np.empty(0)])
    if not values.size:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    order = np.argsort(values)
    ascending, cut = values[order], values.size // 4

    def middle(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean of what lies between the ends that are cut, [B].

        In a sample run i stands counts[:, i] times.
        """
        upto = np.clip(np.cumsum(counts, axis=1), cut, values.size - cut)
        return np.diff(upto, axis=1, prepend=cut) @ ascending / (values.size - 2 * cut)

    value = float(middle(np.ones((1, values.size), dtype=np.int64))[0])
    if not _have_intervals(strata):
        return Estimate(value=value, low=math.nan, high=math.nan)
    counts = _resampled(strata, _generator(), resamples=_resamples(values.size))
    return _estimate(value, middle(np.concatenate(counts, axis=1)[:, order]), strata)


def performance_profile(runs: Sequence[ArrayLike], thresholds: ArrayLike) -> tuple[Estimate, ...]:
    """Return, at each threshold, the share of runs that are at least that good; each study weighs the same.

    Intervals are Wilson's, for as many runs as would fix a share as well as these do: unlike the bootstrap's
    they have a width at shares of 0 and 1 and need no least number of runs. Where studies differ much they
    are wider than they need be.

    Args:
        runs: one array of relative performances for each study, none empty.
        thresholds: [T] relative performances.

    Source: Agarwal et al. (2021), run-score distributions; theirs counts runs above the threshold, ours those
    at it too.
    """
    strata = _strata(runs)
    if any(not values.size for values in strata) or not strata:
        raise ValueError("expected at least one study, and a run in each")
    levels = np.asarray(thresholds, dtype=np.float64)
    runs_in_effect = len(strata) ** 2 / sum(1 / values.size for values in strata)
    points: list[Estimate] = []
    for level in levels.tolist():
        share = sum(np.count_nonzero(values >= level) / values.size for values in strata) / len(strata)
        low, high = wilson_interval(share * runs_in_effect, runs_in_effect)
        points.append(Estimate(value=share, low=low, high=high))
    return tuple(points)


def win_chance(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> Estimate:
    """Return the mean over studies of the share of pairs of runs that the first arm wins.

    A tie is half a win.

    Args:
        first: one array of relative performances for each study, none empty.
        second: the same studies, in the same order.

    Raises:
        ValueError: the numbers of studies differ, or one has no run.

    Source: Agarwal et al. (2021), "probability of improvement" (Mann and Whitney's U over the number of
    pairs).
    """
    strata, others = _strata(first), _strata(second)
    if len(strata) != len(others) or not strata or any(not values.size for values in (*strata, *others)):
        raise ValueError(
            "expected runs of both arms in the same studies, got "
            f"{[v.size for v in strata]} and {[v.size for v in others]}"
        )
    wins = [(np.sign(a[:, None] - b) + 1) / 2 for a, b in zip(strata, others, strict=True)]
    chance = float(np.mean([each.mean() for each in wins]))
    if not _have_intervals([*strata, *others]):
        return Estimate(value=chance, low=math.nan, high=math.nan)
    generator, resamples = _generator(), _resamples(max(each.size for each in wins))
    pairs = zip(
        _resampled(strata, generator, resamples=resamples),
        wins,
        _resampled(others, generator, resamples=resamples),
        strict=True,
    )
    drawn = np.mean([((a @ each) * b).sum(axis=1) / each.size for a, each, b in pairs], axis=0)
    found = _estimate(chance, drawn, [*strata, *others])
    # Where one arm wins every pair, so does each sample. As many pairs as no run is part of twice would all
    # be won with a chance of p^m at most.
    apart = _OUTSIDE ** (1 / (len(wins) * min(min(each.shape) for each in wins)))
    return Estimate(
        value=chance,
        low=min(found.low, apart) if chance == 1 else found.low,
        high=max(found.high, 1 - apart) if chance == 0 else found.high,
    )


def combined_evidence(p_values: ArrayLike, leans: ArrayLike) -> tuple[float, int]:
    """Return the two-sided p-value of several studies of one pair together, and which way they lean.

    1 to the first arm, -1 to the second, 0.

    Each p-value becomes a normal deviate with its sign, and their sum over the root of their number is normal
    too where nowhere is a difference.

    Args:
        p_values: [W] two-sided p-values; NaN (no test) counts as 1.
        leans: [W] 1 where the first arm is ahead, -1 where the second is, 0 where neither.

    Source: Stouffer et al. (1949), The American Soldier, vol. 1; Whitlock (2005) compares it with Fisher's.
    """
    p = np.nan_to_num(np.asarray(p_values, dtype=np.float64), nan=1.0)
    # The smallest p-values are rounded to 0.
    deviates = -special.ndtri(np.maximum(p, 1e-300) / 2) * np.asarray(leans, dtype=np.float64)
    if not deviates.size:
        return 1.0, 0
    z = float(deviates.sum()) / math.sqrt(deviates.size)
    return float(2 * special.ndtr(-abs(z))), int(np.sign(z))


def algoperf_ratios(times: ArrayLike) -> NDArray[np.float64]:
    """Return each time to target over the fastest arm's on the same workload, [A, W]; inf for a miss.

    Args:
        times: [A, W] median time to target of each arm on each workload; inf for a miss.
    """
    array = np.asarray(times, dtype=np.float64)
    if array.ndim != 2 or not np.all(array > 0):
        raise ValueError(
            f"expected positive times or inf, arms by workloads, got shape {array.shape} with smallest "
            f"{array.min(initial=math.inf):g}"
        )
    ratios = np.full(array.shape, math.inf)
    fastest = np.broadcast_to(array.min(axis=0, initial=math.inf), array.shape)
    is_reached = np.isfinite(array)
    ratios[is_reached] = array[is_reached] / fastest[is_reached]
    return ratios


def algoperf_scores(times: ArrayLike, *, slowest: float = 4.0) -> NDArray[np.float64]:
    """Return AlgoPerf's score of each arm, [A].

    The mean over workloads of clip((slowest - r) / (slowest - 1), 0, 1), r its ratio to the fastest.

    It is the area under the arm's performance profile from ratio 1 to `slowest`: 1 for an arm that is the
    fastest everywhere, 0 for one that always misses or takes `slowest` times as long. A workload whose target
    nobody reaches counts 0 for all.

    Args:
        times: [A, W] median time to target; inf for a miss.
        slowest: ratio from which on nothing is earned.

    Source: Dahl et al. (2023), "Benchmarking Neural Network Training Algorithms", section 5.
    """
    ratios = algoperf_ratios(times)
    if not ratios.shape[1]:
        return np.full(len(ratios), math.nan)
    earned: NDArray[np.float64] = np.maximum((slowest - ratios) / (slowest - 1), 0.0)
    return np.mean(earned, axis=1)


def _strata(runs: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    return [np.asarray(values, dtype=np.float64) for values in runs]


def _have_intervals(strata: Sequence[NDArray[np.float64]]) -> bool:
    return all(values.size >= LEAST_RUNS for values in strata)


def _generator() -> np.random.Generator:
    # Always the same draws: what is shown for a record is shown again for it.
    return np.random.default_rng(0)


def _resamples(size: int) -> int:
    """Return how many samples to draw: fewer where each is large, for then their spread is small too."""
    return max(_FEWEST, min(_MOST, _WORK // size))


def _resampled(
    strata: Sequence[NDArray[np.float64]], generator: np.random.Generator, *, resamples: int
) -> list[NDArray[np.int64]]:
    """Return how often each run stands in each sample, [B, S] for every stratum.

    Each sample has as many runs as the stratum.
    """
    return [
        generator.multinomial(values.size, np.full(values.size, 1 / values.size), size=resamples)
        for values in strata
    ]


def _estimate(value: float, drawn: NDArray[np.float64], strata: Sequence[NDArray[np.float64]]) -> Estimate:
    """Return a figure with the interval of its bootstrap samples, [B].

    The interval has Hesterberg's correction for small strata.
    """
    fewest = min(values.size for values in strata)
    freedom = sum(values.size - 1 for values in strata)
    # Resampling n runs spreads sqrt((n - 1) / n) as much as the truth does, and Student's t is wider than the
    # normal by which percentiles go.
    outside = float(special.ndtr(special.stdtrit(freedom, _OUTSIDE) * math.sqrt(fewest / (fewest - 1))))
    low, high = np.quantile(drawn, (outside, 1 - outside))
    return Estimate(value=value, low=float(low), high=float(high))
