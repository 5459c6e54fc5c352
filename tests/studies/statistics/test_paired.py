import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from studies.statistics.paired import (
    effect_size,
    effective_df,
    mean_interval,
    sign_test,
    t_interval,
    t_p_value,
    varies,
)

NAN = float("nan")
INF = float("inf")
RUNS = [0.951, 0.947, 0.962, 0.949, 0.955]


def test_a_mean_and_its_interval_match_scipy() -> None:
    found = mean_interval(RUNS)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(RUNS), scale=stats.sem(RUNS))
    assert (found.n, found.mean, found.sd) == (
        5,
        pytest.approx(np.mean(RUNS)),
        pytest.approx(np.std(RUNS, ddof=1)),
    )
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    wider = mean_interval(RUNS, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_three_runs_by_hand() -> None:
    # Mean 2, sd 1, t(0.975, 2) = 4.302653.
    found = mean_interval([1.0, 2.0, 3.0])
    assert (found.low, found.high) == (
        pytest.approx(2 - 4.302653 / math.sqrt(3)),
        pytest.approx(2 + 4.302653 / math.sqrt(3)),
    )


def test_missing_and_diverged_runs_are_left_out_of_a_mean() -> None:
    assert mean_interval([*RUNS, NAN, INF, -INF]) == mean_interval(RUNS)


def test_one_run_has_a_mean_and_no_interval() -> None:
    found = mean_interval([0.9])
    assert (found.n, found.mean) == (1, 0.9)
    assert math.isnan(found.low)
    assert math.isnan(found.sd)
    nothing = mean_interval([NAN])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)


def test_equal_runs_have_no_interval_of_zero_width() -> None:
    found = mean_interval([0.9, 0.9, 0.9])
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(0.9), 0.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_rounding_errors_do_not_count_as_variation() -> None:
    differences = np.array([0.9, 0.2]) - np.array([0.8, 0.1])
    assert np.ptp(differences) > 0
    assert not varies(differences, scale=0.9)
    assert varies([0.9, 0.9 + 1 / 360])
    assert not varies([0.0, 0.0])


@pytest.mark.parametrize("df", [1.0, 2.5, 4.0, 30.0])
def test_p_values_and_intervals_agree_and_match_scipy(df: float) -> None:
    assert t_p_value(-2.0, error=0.7, df=df) == pytest.approx(2 * stats.t.sf(2 / 0.7, df))
    assert t_p_value(0.0, error=0.7, df=df) == 1.0
    low, _ = t_interval(2.0, error=0.7, df=df)
    assert (low > 0) == (t_p_value(2.0, error=0.7, df=df) < 0.05)


def test_effective_degrees_of_freedom_match_welch() -> None:
    a, b = [1.0, 2.0, 4.0], [2.0, 9.0, 3.0, 5.0]
    parts = [(float(np.var(x, ddof=1)) / len(x), len(x) - 1.0) for x in (a, b)]
    welch: Any = stats.ttest_ind(a, b, equal_var=False)
    assert effective_df(parts) == pytest.approx(welch.df)
    error = math.sqrt(sum(v for v, _ in parts))
    assert t_p_value(float(np.mean(a) - np.mean(b)), error=error, df=effective_df(parts)) == pytest.approx(
        welch.pvalue
    )
    assert effective_df([(1.0, 0.5)]) == 1.0


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (5, 0), (0, 6), (9, 1), (20, 7)])
def test_the_sign_test_matches_the_exact_binomial_test(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


def test_the_sign_test_cannot_decide_on_five_seeds_but_can_on_six() -> None:
    assert sign_test(5, 0) == 0.0625
    assert sign_test(6, 0) == 0.03125


def test_the_effect_size_has_the_small_sample_correction() -> None:
    differences = np.array([1.0, 2.0, 3.0, 2.0])
    # J(3) = gamma(1.5) / (sqrt(1.5) gamma(1)) = 0.723601.
    assert effect_size(differences) == pytest.approx(0.723601 * 2 / np.std(differences, ddof=1), rel=1e-5)
    assert effect_size(-differences) == pytest.approx(-effect_size(differences))
    many = np.random.default_rng(1).normal(0.4, 1.0, 20_000)
    assert effect_size(many) == pytest.approx(0.4, abs=0.02)


def test_the_effect_size_is_unbiased_on_few_seeds() -> None:
    samples = np.random.default_rng(2).normal(0.8, 1.0, (6000, 5))
    assert np.mean([effect_size(sample) for sample in samples]) == pytest.approx(0.8, abs=0.03)
    assert np.mean(samples.mean(axis=1) / samples.std(axis=1, ddof=1)) > 0.95


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 1.0]])
def test_no_effect_size_where_none_is_defined(differences: list[float]) -> None:
    assert math.isnan(effect_size(differences))
