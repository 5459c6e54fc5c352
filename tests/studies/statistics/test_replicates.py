import math

import numpy as np
import pytest

from studies.statistics.replicates import LEAST_REPLICATES, across_replicates

NAN = math.nan


def test_the_median_ends_where_the_shortest_replicate_ends() -> None:
    found = across_replicates([[3.0, 2.0, 1.0], [5.0, 4.0], [1.0, 1.0, 0.5]], direction="minimize")
    np.testing.assert_array_equal(found.trials, [1, 2])
    np.testing.assert_array_equal(found.median, [3.0, 2.0])
    assert found.replicates == 3


def test_a_search_without_a_value_counts_as_the_worst() -> None:
    np.testing.assert_array_equal(
        across_replicates([[NAN, 1.0], [2.0, 2.0], [3.0, 3.0]], direction="maximize").median, [2.0, 2.0]
    )
    np.testing.assert_array_equal(
        across_replicates([[NAN, 1.0], [2.0, 2.0], [3.0, 3.0]], direction="minimize").median, [3.0, 2.0]
    )
    np.testing.assert_array_equal(
        across_replicates([[NAN, 1.0], [2.0, 2.0]], direction="maximize").median, [NAN, 1.5]
    )


def test_below_six_replicates_there_is_no_interval() -> None:
    found = across_replicates([[float(r)] for r in range(LEAST_REPLICATES - 1)], direction="maximize")
    assert found.confidence is None
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


@pytest.mark.parametrize(
    ("replicates", "rank", "confidence"),
    # Exact, e.g. Conover, Practical Nonparametric Statistics: order statistics around a median.
    [(6, 1, 0.96875), (8, 1, 0.9921875), (9, 2, 0.9609375), (12, 3, 0.96142578125), (20, 6, 0.958610534)],
)
def test_the_interval_is_the_narrowest_that_holds_95_percent(
    replicates: int, rank: int, confidence: float
) -> None:
    values = np.random.default_rng(0).permutation(replicates).astype(float)
    found = across_replicates([[v] for v in values], direction="minimize")
    assert found.confidence == pytest.approx(confidence, abs=1e-9)
    assert (found.low[0], found.high[0]) == (rank - 1, replicates - rank)


def test_a_thousand_replicates_are_counted_exactly() -> None:
    found = across_replicates([[float(r)] for r in range(1000)], direction="maximize")
    assert found.confidence == pytest.approx(0.95, abs=0.004)
    assert found.confidence is not None
    assert found.confidence >= 0.95


def test_no_replicate_is_refused() -> None:
    with pytest.raises(ValueError, match="a curve for each replicate"):
        across_replicates([], direction="maximize")
