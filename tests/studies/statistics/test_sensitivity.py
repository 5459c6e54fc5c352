import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.statistics.sensitivity import Bucket, bucket_best, edge_nearby, good_range, isolation

NAN, INF = math.nan, math.inf


def test_a_buckets_best_is_over_all_other_hyperparameters() -> None:
    lr = [1e-4, 2e-4, 1e-2, 2e-2, 0.9]
    best = bucket_best(
        lr, [0.1, 0.3, 0.8, 0.7, NAN], direction="maximize", low=1e-4, high=1.0, log=True, buckets=4
    )
    np.testing.assert_array_equal(best, [1, 2])
    best = bucket_best(
        lr, [0.1, 0.3, 0.8, 0.7, NAN], direction="minimize", low=1e-4, high=1.0, log=True, buckets=4
    )
    np.testing.assert_array_equal(best, [0, 3])


def test_the_upper_end_belongs_to_the_last_bucket() -> None:
    np.testing.assert_array_equal(
        bucket_best([0.0, 1.0, 1.5], [1, 2, 3], direction="maximize", low=0, high=1, log=False, buckets=2),
        [0, 2],
    )


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 1.0, False), (0.0, 1.0, True)])
def test_an_impossible_range_is_refused(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match="low < high"):
        bucket_best([0.5], [1.0], direction="maximize", low=low, high=high, log=log)


def test_edges_are_judged_on_the_ranges_own_scale() -> None:
    assert edge_nearby(1e-4, low=1e-4, high=1e-1, log=True) == "lower"
    assert edge_nearby(0.08, low=1e-4, high=1e-1, log=True) == "upper"
    assert edge_nearby(0.01, low=1e-4, high=1e-1, log=True) is None
    assert edge_nearby(0.01, low=1e-4, high=1e-1, log=False) is None
    assert edge_nearby(0.004, low=1e-4, high=1e-1, log=False) == "lower"


def test_an_isolation_curve_counts_what_each_bucket_holds() -> None:
    lr = [1e-4, 2e-4, 3e-4, 1e-2, 2e-2, 5e-2, 0.5]
    values = [0.3, 0.1, NAN, 0.8, -INF, 0.8, -INF]
    curve = isolation(lr, values, direction="maximize", low=1e-4, high=1.0, log=True, buckets=4)
    assert [(b.trials, b.diverged, b.best, b.index) for b in curve] == [
        (2, 0, 0.3, 0),
        (0, 0, None, None),
        (3, 1, 0.8, 3),
        (1, 1, None, None),
    ]
    np.testing.assert_allclose([b.low for b in curve], [1e-4, 1e-3, 1e-2, 1e-1])
    assert curve[0].low == 1e-4
    assert curve[-1].high == 1.0


def test_an_isolation_curve_of_a_loss_keeps_its_sign() -> None:
    curve = isolation(
        [0.1, 0.2, 0.9], [3.0, 2.0, INF], direction="minimize", low=0, high=1, log=False, buckets=2
    )
    assert [(b.best, b.diverged) for b in curve] == [(2.0, 0), (None, 1)]


@given(
    st.lists(st.tuples(st.floats(1e-5, 2), st.sampled_from([NAN, -INF, 0.1, 0.5, 0.9])), max_size=40),
    st.integers(1, 9),
)
def test_every_result_lies_in_one_bucket_and_bests_agree(
    trials: list[tuple[float, float]], buckets: int
) -> None:
    x, values = [t[0] for t in trials], [t[1] for t in trials]
    curve = isolation(x, values, direction="maximize", low=1e-4, high=1, log=True, buckets=buckets)
    assert len(curve) == buckets
    assert sum(b.trials for b in curve) == sum(not math.isnan(v) for v in values)
    assert sum(b.diverged for b in curve) == sum(v == -INF for v in values)
    finite = [v if math.isfinite(v) else NAN for v in values]
    best = bucket_best(x, finite, direction="maximize", low=1e-4, high=1, log=True, buckets=buckets)
    assert [b.index for b in curve if b.index is not None] == best.tolist()


def _curve(*bests: float | None) -> list[Bucket]:
    return [
        Bucket(low=10.0**i, high=10.0 ** (i + 1), trials=1, diverged=0, best=best, index=i)
        for i, best in enumerate(bests)
    ]


def test_the_good_range_ends_at_the_first_gap() -> None:
    found = good_range(_curve(0.975, None, 0.972, 0.98, 0.971, 0.9, 0.979), direction="maximize", within=0.01)
    assert found is not None
    assert (found.low, found.high) == (1e2, 1e5)


def test_the_good_range_of_a_loss_lies_above_the_best() -> None:
    found = good_range(_curve(0.51, 0.5, 0.504, 0.506), direction="minimize", within=0.01)
    assert found is not None
    assert (found.low, found.high) == (1e1, 1e3)
    found = good_range(_curve(-0.9, -1.0, -0.995), direction="minimize", within=0.01)
    assert found is not None
    assert (found.low, found.high) == (1e1, 1e3)


def test_without_a_value_there_is_no_good_range() -> None:
    assert good_range(_curve(None, None), direction="maximize") is None
    assert good_range([], direction="maximize") is None
