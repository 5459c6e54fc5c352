"""The expected test value of the best of k by validation equals the mean over all sets of k trials."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from studies.statistics.budget_statistic import chosen_test, chosen_test_without_each

__all__: list[str] = []


def by_enumeration(validation: NDArray[np.float64], test: NDArray[np.float64], k: int) -> float:
    """Return the mean over all sets of k trials; equals within a set are equally likely to be chosen."""
    chosen: list[float] = []
    for places in itertools.combinations(range(len(validation)), k):
        rows = list(places)
        best = validation[rows] == validation[rows].max()
        chosen.append(float(test[rows][best].mean()))
    return float(np.mean(chosen))


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_mean_over_all_sets_also_with_ties_and_without_each_trial(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 8))
    validation = rng.integers(0, 4, n).astype(np.float64)
    validation[rng.random(n) < 0.2] = -np.inf
    test = rng.normal(size=n)
    ks = np.arange(1, n + 1)
    expected = [by_enumeration(validation, test, int(k)) for k in ks]
    assert chosen_test(validation, test, ks) == pytest.approx(expected)
    found = chosen_test_without_each(validation, test, ks[:-1])
    for left_out in range(n):
        rest = np.arange(n) != left_out
        expected = [by_enumeration(validation[rest], test[rest], int(k)) for k in ks[:-1]]
        assert found[:, left_out] == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 5])
def test_a_budget_beyond_the_trials_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="expected budgets from 1 to 4"):
        chosen_test(np.arange(4.0), np.arange(4.0), [k])


def test_many_trials_do_not_leave_the_range_of_floats() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    found = chosen_test(values, values, [1, 50, 1250])
    assert found[0] == pytest.approx(values.mean())
    assert np.all(np.diff(found) > 0)
