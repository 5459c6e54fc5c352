import numpy as np
import pytest

from studies.statistics.best_so_far import best_so_far, improvements
from studies.statistics.proportion import standard_error
from studies.statistics.sensitivity import bucket_best, edge_nearby

NAN = float("nan")


def test_the_best_so_far_only_ever_improves() -> None:
    values = [0.2, 0.5, 0.4, 0.9, 0.1]
    np.testing.assert_array_equal(best_so_far(values, "maximize"), [0.2, 0.5, 0.5, 0.9, 0.9])
    np.testing.assert_array_equal(best_so_far(values, "minimize"), [0.2, 0.2, 0.2, 0.2, 0.1])


def test_a_diverged_trial_counts_but_changes_no_best() -> None:
    np.testing.assert_array_equal(best_so_far([NAN, 0.5, NAN, 0.6], "maximize"), [NAN, 0.5, 0.5, 0.6])


def test_nothing_finished_has_no_best() -> None:
    assert best_so_far([], "maximize").shape == (0,)
    assert np.isnan(best_so_far([NAN, NAN], "minimize")).all()


def test_improvements_and_the_end_are_all_a_step_line_needs() -> None:
    best = best_so_far([NAN, 3.0, 3.0, 5.0, 5.0, 5.0], "maximize")
    np.testing.assert_array_equal(improvements(best), [1, 3, 5])
    assert improvements([NAN]).size == 0
    np.testing.assert_array_equal(improvements([1.0]), [0])


def test_a_buckets_best_is_over_all_other_hyperparameters() -> None:
    lr = [1e-4, 2e-4, 1e-2, 2e-2, 0.9]
    best = bucket_best(lr, [0.1, 0.3, 0.8, 0.7, NAN], direction="maximize", low=1e-4, high=1.0, log=True, buckets=4)
    np.testing.assert_array_equal(best, [1, 2])
    best = bucket_best(lr, [0.1, 0.3, 0.8, 0.7, NAN], direction="minimize", low=1e-4, high=1.0, log=True, buckets=4)
    np.testing.assert_array_equal(best, [0, 3])


def test_the_upper_end_belongs_to_the_last_bucket() -> None:
    np.testing.assert_array_equal(bucket_best([0.0, 1.0, 1.5], [1, 2, 3], direction="maximize", low=0, high=1, log=False, buckets=2), [0, 2])


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


def test_an_accuracy_of_90_percent_on_900_examples_is_known_to_one_point() -> None:
    assert standard_error(0.9, 900) == pytest.approx(0.01)
