import math

import pytest

from studies.statistics.proportion import standard_error, wilson_interval


def test_an_accuracy_of_90_percent_on_900_examples_is_known_to_one_point() -> None:
    assert standard_error(0.9, 900) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_matches_the_published_table(count: int, of: int, low: float, high: float) -> None:
    found = wilson_interval(count, of)
    assert found == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(of - count, of)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilsons_interval_has_about_its_stated_coverage() -> None:
    """Exact coverage from binomial probabilities: close to 95 % for each proportion, and 95 % on average."""
    found = [
        sum(
            math.comb(n, x) * p**x * (1 - p) ** (n - x)
            for x in range(n + 1)
            if wilson_interval(x, n)[0] <= p <= wilson_interval(x, n)[1]
        )
        for n in (10, 30, 100)
        for p in (i / 40 for i in range(1, 40))
    ]
    assert min(found) > 0.87
    assert sum(found) / len(found) == pytest.approx(0.95, abs=0.01)


def test_without_observations_the_interval_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


@pytest.mark.parametrize(("count", "of"), [(-1, 5), (6, 5), (1, 0)])
def test_an_impossible_count_is_refused(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="expected a count from 0"):
        wilson_interval(count, of)
