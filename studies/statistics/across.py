"""Comparisons of arms over several studies.

The module has relative performance, the interquartile mean, performance profiles, the AlgoPerf score and win
chances.

A stratum is the runs of one arm in one study: arrays of their values, `[S_1], [S_2], ...` for the studies in
order. Runs are resampled within strata, so intervals cover the variation over seeds on these workloads, not
the choice of the workloads. If there are few runs, the stratified bootstrap takes percentiles further out
than 2.5 and 97.5: the plain percentiles of 5 runs in each of 5 studies cover the truth 90 times of 100, not
95 (Hesterberg, 2015, "What Teachers Should Know About the Bootstrap", expanded percentiles; rliable does not
expand them).
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

A bootstrap of one or two runs says almost nothing about their spread.
"""

# Share of intervals that lie above the truth, and share that lie below it.
_OUTSIDE: Final = 0.025
# The fewest and the most bootstrap samples, and the most runs drawn in all of them together.
_FEWEST: Final = 200
_MOST: Final = 4000
_WORK: Final = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval.

    `low` and `high` are NaN if the bootstrap needs more runs (LEAST_RUNS).
    """

    value: float
    low: float
    high: float


def relative_performance(
    runs: Mapping[str, ArrayLike], *, direction: Direction
) -> dict[str, NDArray[np.float64]]:
    """Return one study's runs on the scale from the worst arm's mean, 0, to the best arm's mean, 1.

    The result has [S] values per arm; larger is better.

    Means are over the runs that have a value; single runs may lie below 0 or above 1. A diverged run gets 0,
    or the lowest value of the study if that is lower. If all means are equal, or only one arm has one, every
    run with a value gets 1. NaN (no result) is left out.

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
    """Return the mean of the middle half of all runs of all studies, or NaN without any run.

    25 % of the runs are cut at either end, rounded down to whole runs.

    Args:
        runs: one array of relative performances for each study. Each run has the same weight.

    Source: Agarwal et al. (2021), "Deep RL at the Edge of the Statistical Precipice"; scipy's trim_mean, as
    in rliable.
    """
    strata = _strata(runs)
    values = np.concatenate([*strata, np.empty(0)])
    if not values.size:
        return Estimate(value=math.nan, low=math.nan, high=math.nan)
    order = np.argsort(values)
    ascending, cut = values[order], values.size // 4

    def middle(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean of each sample without the ends that are cut, [B].

        Run i occurs counts[:, i] times in the samples.
        """
        upto = np.clip(np.cumsum(counts, axis=1), cut, values.size - cut)
        return np.diff(upto, axis=1, prepend=cut) @ ascending / (values.size - 2 * cut)

    value = float(middle(np.ones((1, values.size), dtype=np.int64))[0])
    if not _have_intervals(strata):
        return Estimate(value=value, low=math.nan, high=math.nan)
    counts = _resampled(strata, _generator(), resamples=_resamples(values.size))
    return _estimate(value, middle(np.concatenate(counts, axis=1)[:, order]), strata)


def performance_profile(runs: Sequence[ArrayLike], thresholds: ArrayLike) -> tuple[Estimate, ...]:
    """Return the share of runs that are at least as good as each threshold; all studies weigh the same.

    Intervals are Wilson's, for the number of runs that would determine a share as precisely as these runs do.
    Unlike bootstrap intervals, they have a width at shares of 0 and 1, and they need no minimum number of
    runs. If the studies differ a lot, they are wider than necessary.

    Args:
        runs: one array of relative performances for each study, none empty.
        thresholds: [T] relative performances.

    Source: Agarwal et al. (2021), run-score distributions; theirs counts the runs above the threshold, ours
    also those at it.
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
    """Return the share of pairs of runs that the first arm wins, as the mean over studies.

    A tie is half a win.

    Args:
        first: one array of relative performances for each study, none empty.
        second: the same studies, in the same order.

    Raises:
        ValueError: the numbers of studies differ, or a study has no run.

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
    # If one arm wins every pair, it wins every pair of each sample too. Of pairs that share no run there are
    # m, and the chance to win all of them is at most p^m.
    apart = _OUTSIDE ** (1 / (len(wins) * min(min(each.shape) for each in wins)))
    return Estimate(
        value=chance,
        low=min(found.low, apart) if chance == 1 else found.low,
        high=max(found.high, 1 - apart) if chance == 0 else found.high,
    )


def combined_evidence(p_values: ArrayLike, leans: ArrayLike) -> tuple[float, int]:
    """Return the joint two-sided p-value of one pair's tests in several studies, and which arm is ahead.

    The second value is 1 for the first arm, -1 for the second and 0 for neither.

    Each p-value becomes a normal deviate with its sign. If no study has a difference, the sum of the deviates
    over the square root of their number is normal too.

    Args:
        p_values: [W] two-sided p-values; NaN (no test) counts as 1.
        leans: [W] 1 where the first arm is ahead, -1 where the second is, 0 where neither is.

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
    """Return each time to target divided by the fastest arm's on that workload, [A, W]; inf for a miss.

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
    """Return the AlgoPerf score of each arm, [A].

    It is the mean over workloads of clip((slowest - r) / (slowest - 1), 0, 1), where r is the arm's ratio to
    the fastest arm.

    It is the area under the arm's performance profile from ratio 1 to `slowest`: 1 for an arm that is the
    fastest everywhere, 0 for one that always misses or takes `slowest` times as long. A workload whose target
    no arm reaches counts 0 for all.

    Args:
        times: [A, W] median time to target; inf for a miss.
        slowest: ratio from which on an arm earns nothing.

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
    # A fixed seed: the same record always gives the same figures.
    return np.random.default_rng(0)


def _resamples(size: int) -> int:
    """Return how many samples to draw: fewer if a sample is large, because its spread is then small."""
    return max(_FEWEST, min(_MOST, _WORK // size))


def _resampled(
    strata: Sequence[NDArray[np.float64]], generator: np.random.Generator, *, resamples: int
) -> list[NDArray[np.int64]]:
    """Return how often each run occurs in each bootstrap sample, [B, S] for every stratum.

    Each sample has as many runs as its stratum.
    """
    return [
        generator.multinomial(values.size, np.full(values.size, 1 / values.size), size=resamples)
        for values in strata
    ]


def _estimate(value: float, drawn: NDArray[np.float64], strata: Sequence[NDArray[np.float64]]) -> Estimate:
    """Return an estimate with the interval of its bootstrap samples, [B].

    The interval has Hesterberg's correction for small strata.
    """
    fewest = min(values.size for values in strata)
    freedom = sum(values.size - 1 for values in strata)
    # Resampled means of n runs spread by sqrt((n - 1) / n) of the true spread, and percentiles correspond to
    # a normal distribution, which is narrower than Student's t.
    outside = float(special.ndtr(special.stdtrit(freedom, _OUTSIDE) * math.sqrt(fewest / (fewest - 1))))
    low, high = np.quantile(drawn, (outside, 1 - outside))
    return Estimate(value=value, low=float(low), high=float(high))
