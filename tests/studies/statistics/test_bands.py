import math

import numpy as np
import pytest
from numpy.typing import NDArray
from opda.nonparametric import EmpiricalDistribution
from scipy import special

from studies.statistics.bands import LEAST_TRIALS, _local_level, largest_bounded_budget, median_band

INF = math.inf


def _chance_of_holding(n: int, level: float) -> float:
    """Return the exact probability that all n uniform order statistics lie in their equal-tailed 1 - level
    intervals.

    The order statistics are the points of a Poisson process of rate n, given that there are n points. The
    distribution of the count is convolved from one interval's end to the next and cut where it breaks a
    bound (Moscovich and Nadler, 2017, "Fast calculation of boundary crossing probabilities for Poisson
    processes").
    """
    i = np.arange(1, n + 1)
    ends = [
        (float(t), 0, int(k)) for t, k in zip(special.betainccinv(i, n + 1 - i, level / 2), i, strict=True)
    ]
    begins = [
        (float(t), 1, int(k)) for t, k in zip(special.betaincinv(i, n + 1 - i, level / 2), i, strict=True)
    ]
    chances, least, now = np.ones(1), 0, 0.0
    for t, is_begin, k in sorted([*ends, *begins]):
        chances, now = np.convolve(chances, _poisson(n * (t - now))), t
        if is_begin:  # Before its interval begins, the k-th point has not occurred.
            chances = chances[: k - least]
        else:  # By its end it has occurred.
            chances, least = chances[max(0, k - least) :], max(least, k)
    left = n - least - np.arange(len(chances))
    rest = n * (1 - now)
    last = np.exp(left * math.log(rest) - rest - special.gammaln(left + 1))
    return float(chances[left >= 0] @ last[left >= 0]) / math.exp(
        n * math.log(n) - n - float(special.gammaln(n + 1))
    )


def _poisson(mean: float) -> NDArray[np.float64]:
    count = np.arange(int(mean + 12 * math.sqrt(mean) + 12))
    return np.exp(special.xlogy(count, mean) - mean - special.gammaln(count + 1))


@pytest.mark.parametrize("n", [20, 21, 22, 27, 35, 45, 70, 100, 120, 170, 250, 400, 700, 1000, 1400])
def test_the_band_has_its_stated_simultaneous_confidence(n: int) -> None:
    assert 0.95 <= _chance_of_holding(n, _local_level(n)) < 0.951


def test_the_band_matches_opdas_ld_equal_tailed_band() -> None:
    """Equal up to the simulation's noise, which may move a step of the curve by one trial."""
    values = np.random.default_rng(3).standard_normal(30)
    trials = np.arange(1, 200)
    generator = np.random.default_rng(1)
    low, point, high = EmpiricalDistribution.confidence_bands(
        values, 0.95, method="ld_equal_tailed", n_jobs=1, generator=generator
    )
    ours = median_band(values, trials, direction="maximize")
    assert ours is not None
    np.testing.assert_array_equal(ours.median, point.quantile_tuning_curve(trials))
    assert np.mean(ours.low == high.quantile_tuning_curve(trials)) > 0.99
    assert np.mean(np.nan_to_num(ours.high, nan=INF) == low.quantile_tuning_curve(trials)) > 0.99
    down = median_band(-values, trials, direction="minimize")
    assert down is not None
    np.testing.assert_array_equal(down.high, -ours.low)
    np.testing.assert_array_equal(down.low, -ours.high)


def _misses(draws: NDArray[np.float64], truth: NDArray[np.float64], trials: NDArray[np.int64]) -> float:
    """Return the fraction of samples whose band misses the truth at any budget."""
    missed = 0
    for values in draws:
        band = median_band(values, trials, direction="maximize")
        assert band is not None
        low, high = np.nan_to_num(band.low, nan=-INF), np.nan_to_num(band.high, nan=INF)
        missed += bool(np.any((truth < low) | (truth > high)))
    return missed / len(draws)


@pytest.mark.parametrize("steps", [None, 8])
def test_the_whole_curve_lies_in_its_band_with_ties_and_diverged_trials_too(steps: int | None) -> None:
    """Scores are uniform, or rounded down to eighths where the lowest have diverged: the quantiles are known
    in both cases.
    """
    trials = np.arange(1, 300)
    draws, truth = np.random.default_rng(5).random((1500, 40)), 0.5 ** (1 / trials)
    if steps is not None:
        draws, truth = np.floor(draws * steps), np.ceil(truth * steps) - 1
        draws = np.where(draws == 0, -INF, draws)
    assert _misses(draws, truth, trials) <= 0.05


def test_a_bound_on_the_better_side_needs_about_ten_trials_for_each_of_the_budget() -> None:
    found = [largest_bounded_budget(n) for n in (19, 20, 100, 1000, 10_000)]
    assert found == [0, 2, 10, 91, 865]
    for n in (20, 100):
        most = largest_bounded_budget(n)
        band = median_band(np.random.default_rng(n).random(n), [most, most + 1], direction="maximize")
        assert band is not None
        assert np.isfinite(band.low).all()
        np.testing.assert_array_equal(np.isnan(band.high), [False, True])


def test_too_few_trials_have_no_band() -> None:
    assert median_band([0.1] * (LEAST_TRIALS - 1) + [math.nan], [1], direction="maximize") is None


def test_a_given_trial_begins_the_band_and_bounds_it() -> None:
    values = np.random.default_rng(0).random(50)
    free = median_band(values, [1, 2, 3], direction="maximize")
    band = median_band(values, [1, 2, 3, 4], direction="maximize", given=0.6)
    assert free is not None
    assert band is not None
    assert (band.low[0], band.median[0], band.high[0]) == (0.6, 0.6, 0.6)
    for ours, theirs in ((band.low, free.low), (band.median, free.median), (band.high, free.high)):
        np.testing.assert_array_equal(ours[1:], np.maximum(theirs, 0.6))
    diverged = median_band(values, [1, 2], direction="maximize", given=-INF)
    assert diverged is not None
    assert np.isnan(diverged.median[0])
    assert diverged.low[1] == free.low[0]


def test_diverged_trials_leave_the_lower_bound_open_only_where_they_may_be_the_best() -> None:
    values = np.concatenate([np.full(20, INF), np.linspace(1, 2, 20)])
    band = median_band(values, [1, 10], direction="minimize")
    assert band is not None
    assert np.isnan(band.high[0])
    assert np.isfinite(band.high[1])


def test_a_budget_without_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 trial"):
        median_band([0.0] * 30, [0], direction="maximize")
    with pytest.raises(ValueError, match="at most 100000 results"):
        median_band([0.0] * 100_001, [1], direction="maximize")
