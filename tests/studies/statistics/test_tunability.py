import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.statistics.tunability import chance_to_beat, defaults_place

NAN, INF = math.nan, math.inf


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 5))
def test_the_chance_is_the_fraction_of_sets_whose_best_beats_the_baseline(
    values: list[int], baseline: int
) -> None:
    trials = range(1, len(values) + 1)
    expected = [np.mean([max(chosen) > baseline for chosen in combinations(values, k)]) for k in trials]
    np.testing.assert_allclose(
        chance_to_beat(values, list(trials), baseline=baseline, direction="maximize"), expected, atol=1e-12
    )


def test_a_diverged_baseline_is_beaten_by_any_value_and_a_diverged_trial_beats_nothing() -> None:
    np.testing.assert_allclose(
        chance_to_beat([1.0, INF, NAN], [1, 2], baseline=INF, direction="minimize"), [0.5, 1.0]
    )
    np.testing.assert_allclose(
        chance_to_beat([INF, INF], [1, 2], baseline=INF, direction="minimize"), [0.0, 0.0]
    )


def test_the_chance_stays_exact_with_very_many_trials() -> None:
    n = 100_000
    found = chance_to_beat(np.arange(n), [1, 2, n - 1, n], baseline=n - 2, direction="maximize")
    np.testing.assert_allclose(found, [1 / n, 2 / n, (n - 1) / n, 1.0], rtol=1e-9)


@pytest.mark.parametrize(("trials", "baseline"), [([0], 1.0), ([3], 1.0), ([1], NAN)])
def test_invalid_arguments_are_refused(trials: list[int], baseline: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        chance_to_beat([1.0, 2.0, NAN], trials, baseline=baseline, direction="maximize")


def test_the_defaults_are_ranked_among_all_trials() -> None:
    place = defaults_place(0.8, [0.9, 0.8, 0.7, -INF, NAN], direction="maximize")
    assert (place.rank, place.of) == (2, 5)
    assert place.gain == pytest.approx(0.1)
    best = defaults_place(0.1, [0.2, 0.3], direction="minimize")
    assert (best.rank, best.of, best.gain) == (1, 3, 0.0)


def test_diverged_defaults_are_last_and_their_gain_has_no_number() -> None:
    place = defaults_place(-INF, [0.9, 0.8, -INF], direction="maximize")
    assert (place.rank, place.of, place.gain) == (3, 4, None)
    nothing = defaults_place(NAN, [0.9], direction="maximize")
    assert (nothing.rank, nothing.of, nothing.gain) == (None, 1, None)
