import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.statistics.best_of_k import budgets, expected_best
from studies.statistics.orientation import oriented

NAN, INF = math.nan, math.inf
SCORES = st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=8)


def _enumerated(values: list[float], k: int) -> float:
    return float(np.mean([max(chosen) for chosen in combinations(values, k)]))


@given(SCORES)
def test_it_equals_the_mean_over_every_set_of_k(values: list[float]) -> None:
    trials = range(1, len(values) + 1)
    expected = [_enumerated(values, k) for k in trials]
    np.testing.assert_allclose(
        expected_best(values, list(trials), direction="maximize"), expected, atol=1e-12
    )
    flipped = expected_best([-v for v in values], list(trials), direction="minimize")
    np.testing.assert_allclose(flipped, [-e for e in expected], atol=1e-12)


@given(SCORES, st.floats(-5, 5, width=16))
def test_a_given_trial_is_in_every_budget(values: list[float], first: float) -> None:
    trials = range(1, len(values) + 2)
    expected = [
        first,
        *(
            float(np.mean([max(first, *chosen) for chosen in combinations(values, k)]))
            for k in range(1, len(values) + 1)
        ),
    ]
    np.testing.assert_allclose(
        expected_best(values, list(trials), direction="maximize", given=first), expected, atol=1e-12
    )


def test_a_budget_that_may_hold_only_diverged_trials_has_no_mean() -> None:
    found = expected_best([INF, 2.0, INF, 1.0, NAN], [1, 2, 3, 4], direction="minimize")
    np.testing.assert_allclose(found, [NAN, NAN, (1 + 1 + 2 + 1) / 4, 1.0])


def test_a_given_trial_with_a_value_saves_budgets_of_diverged_ones() -> None:
    np.testing.assert_allclose(
        expected_best([-INF, 2.0], [1, 2, 3], direction="maximize", given=1.0), [1.0, 1.5, 2.0]
    )
    np.testing.assert_allclose(
        expected_best([-INF, 2.0], [1, 2, 3], direction="maximize", given=-INF), [NAN, NAN, 2.0]
    )
    np.testing.assert_allclose(expected_best([], [1], direction="maximize", given=1.0), [1.0])


def test_it_is_unbiased_where_drawing_with_replacement_is_not() -> None:
    """The best of 8 uniform scores is 8 / 9 on average; estimated from samples of 10 trials."""
    draws = np.random.default_rng(0).random((4000, 10))
    unbiased = [float(expected_best(row, [8], direction="maximize")[0]) for row in draws]
    dodge = np.diff((np.arange(11) / 10) ** 8) @ np.sort(draws, axis=1).T
    error = float(np.std(unbiased)) / math.sqrt(len(draws))
    assert np.mean(unbiased) == pytest.approx(8 / 9, abs=4 * error)
    assert np.mean(dodge) < 8 / 9 - 20 * error


@pytest.mark.parametrize("k", [1, 2, 10, 1000, 99_999, 100_000])
def test_a_hundred_thousand_trials_keep_every_digit(k: int) -> None:
    """The best of k of the numbers 1..n is k (n + 1) / (k + 1) on average."""
    n = 100_000
    found = expected_best(np.arange(1, n + 1), [k], direction="maximize")[0]
    assert found == pytest.approx(k * (n + 1) / (k + 1), rel=1e-11)


@given(st.lists(st.floats(-5, 5, width=16) | st.sampled_from([-INF]), min_size=2, max_size=30))
def test_more_budget_is_never_worse(values: list[float]) -> None:
    found = expected_best(values, list(range(1, len(values) + 1)), direction="maximize")
    finite = found[~np.isnan(found)]
    assert np.all(np.diff(finite) >= -1e-12)
    assert np.isnan(found[: len(found) - len(finite)]).all()


@pytest.mark.parametrize("k", [0, 4])
def test_a_budget_above_the_number_of_trials_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="expected budgets from 1 to 3"):
        expected_best([1.0, 2.0, 3.0, NAN], [1, k], direction="maximize")


def test_the_best_infinity_is_not_a_valid_result() -> None:
    with pytest.raises(ValueError, match="worst infinity"):
        oriented([1.0, INF], "maximize")
    np.testing.assert_array_equal(oriented([1.0, INF], "minimize"), [-1.0, -INF])


def test_budgets_are_all_or_some_in_equal_ratios() -> None:
    np.testing.assert_array_equal(budgets(5), [1, 2, 3, 4, 5])
    many = budgets(100_000, points=100)
    assert (many[0], many[-1]) == (1, 100_000)
    assert 60 < len(many) <= 100
    assert np.all(np.diff(many) > 0)
    assert budgets(0).size == 0
