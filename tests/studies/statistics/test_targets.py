import math

import pytest

from studies.statistics.targets import summary, time_to_target

NAN, INF = math.nan, math.inf


def test_the_time_is_that_of_the_first_value_as_good_as_the_target() -> None:
    assert (
        time_to_target([0.5, 0.9, 0.85, 0.95], [10.0, 20.0, 30.0, 40.0], target=0.9, direction="maximize")
        == 20.0
    )
    assert time_to_target([0.5, NAN, 0.2], [1, 2, 3], target=0.3, direction="minimize") == 3


def test_a_run_that_never_reaches_the_target_takes_infinite_time() -> None:
    assert time_to_target([0.5, 0.6], [1, 2], target=0.9, direction="maximize") == INF
    assert time_to_target([1.0, INF], [1, 2], target=0.9, direction="minimize") == INF
    assert time_to_target([], [], target=0.9, direction="maximize") == INF


@pytest.mark.parametrize(
    ("times", "runs", "reached", "median"),
    [
        ([3, 1, 2], 3, 3, 2),
        ([3, 1, INF], 3, 2, 3),
        ([1, INF, INF], 3, 1, None),
        ([1, 3], 2, 2, 2),
        ([1, INF], 2, 1, None),
        ([NAN, 4, NAN], 1, 1, 4),
        ([], 0, 0, None),
    ],
)
def test_a_miss_counts_as_never(times: list[float], runs: int, reached: int, median: float | None) -> None:
    found = summary(times)
    assert (found.runs, found.reached, found.median) == (runs, reached, median)
