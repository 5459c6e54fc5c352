import itertools
from typing import Literal

import numpy as np
import pytest

from studies.statistics.search_luck import search_luck

NAN = float("nan")
INF = float("inf")


def variance_between_parts(values: np.ndarray, tests: np.ndarray, size: int) -> float:
    """Return the variance, over all subsets of a size, of the test value of the best trial by validation."""
    chosen = [
        tests[max(part, key=lambda n: values[n])] for part in itertools.combinations(range(len(values)), size)
    ]
    return float(np.var(chosen))


@pytest.mark.parametrize(("adaptive", "size"), [(False, 5), (True, 2)])
def test_it_is_the_variance_between_the_choices_of_all_halves_or_quarters(adaptive: bool, size: int) -> None:
    rng = np.random.default_rng(5)
    values, tests = rng.normal(size=10), rng.normal(size=10)
    found = search_luck(values, direction="maximize", adaptive=adaptive, tests=tests)
    shown = max(variance_between_parts(values, tests, size), variance_between_parts(values, values, size))
    assert found is not None
    assert found.variance(noise=0.0) == pytest.approx(shown)


def test_without_test_values_the_whole_noise_of_a_run_is_added() -> None:
    values = np.random.default_rng(6).normal(size=9)
    found = search_luck(values, direction="maximize", adaptive=False)
    assert found is not None
    assert found.variance(noise=0.3) == pytest.approx(variance_between_parts(values, values, 4) + 0.3**2)


def test_with_test_values_half_of_it_is_added_to_what_validation_shows() -> None:
    values = np.random.default_rng(7).normal(size=9)
    found = search_luck(values, direction="maximize", adaptive=False, tests=values)
    assert found is not None
    assert found.variance(noise=5.0) == pytest.approx(variance_between_parts(values, values, 4) + 12.5)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_direction_only_changes_the_sign(direction: Literal["maximize", "minimize"]) -> None:
    values, tests = np.random.default_rng(8).normal(size=(2, 20))
    sign = 1 if direction == "maximize" else -1
    found = search_luck(sign * values, direction=direction, adaptive=False, tests=sign * tests)
    assert found == search_luck(values, direction="maximize", adaptive=False, tests=tests)


def test_the_order_of_tied_trials_does_not_matter() -> None:
    values, tests = np.array([3.0, 3.0, 3.0, 2.0, 2.0, 1.0]), np.array([5.0, 1.0, 3.0, 2.0, 2.5, 0.0])
    swapped = [2, 0, 1, 4, 3, 5]
    found = search_luck(values, direction="maximize", adaptive=False, tests=tests)
    other = search_luck(values[swapped], direction="maximize", adaptive=False, tests=tests[swapped])
    assert found is not None
    assert other is not None
    assert found.variance(noise=0.0) == pytest.approx(other.variance(noise=0.0))
    # Three tied trials are the best of nearly every half, each equally often.
    assert 1.5 < found.variance(noise=0.0) < 3.0


def test_pruned_and_diverged_trials_are_never_chosen() -> None:
    values = np.array([0.9, 0.8, 0.7, 0.6])
    plain = search_luck(values, direction="maximize", adaptive=False)
    assert search_luck([*values, NAN, NAN], direction="maximize", adaptive=False) == plain
    with_diverged = search_luck(
        [*values, -INF, -INF], direction="maximize", adaptive=False, tests=[*values, NAN, NAN]
    )
    assert with_diverged is not None
    assert np.isfinite(with_diverged.variance(noise=0.1))


def test_a_search_that_chose_nothing_has_no_luck() -> None:
    found = search_luck([0.9], direction="maximize", adaptive=False)
    assert found is not None
    assert found.variance(noise=0.2) == 0.0


@pytest.mark.parametrize("values", [[], [0.9, -INF, -INF], [0.9, NAN], [NAN, NAN]])
def test_the_luck_of_a_search_with_one_value_is_unknown(values: list[float]) -> None:
    assert search_luck(values, direction="maximize", adaptive=False) is None


def test_missing_test_values_of_the_best_trials_fall_back_on_validation() -> None:
    values = np.linspace(1.0, 0.0, 8)
    tests = values.copy()
    tests[0] = NAN
    found = search_luck(values, direction="maximize", adaptive=False, tests=tests)
    assert found == search_luck(values, direction="maximize", adaptive=False)


def test_test_values_of_other_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="as many test values"):
        search_luck([1.0, 2.0], direction="maximize", adaptive=False, tests=[1.0])


def test_ten_thousand_trials_cause_no_overflow() -> None:
    values = np.random.default_rng(9).random(10_000)
    found = search_luck(values, direction="maximize", adaptive=False, tests=values)
    assert found is not None
    assert 0 < found.variance(noise=0.0) < 1e-6
    assert found.df == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0, 3.0])
def test_it_is_at_least_about_the_variance_between_searches(noise: float) -> None:
    rng = np.random.default_rng(10)
    true = rng.normal(size=(1500, 24))
    values, tests = (true + noise * rng.normal(size=true.shape) for _ in range(2))
    between = np.var(np.take_along_axis(true, values.argmax(axis=1)[:, None], 1))
    lucks = [
        search_luck(v, direction="maximize", adaptive=False, tests=t)
        for v, t in zip(values, tests, strict=True)
    ]
    mean = np.mean([luck.variance(noise=noise) for luck in lucks if luck is not None])
    assert 0.6 * between < mean < 10 * between
