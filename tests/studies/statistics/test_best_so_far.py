import numpy as np

from studies.statistics.best_so_far import best_so_far, improvements

NAN = float("nan")


def test_the_best_so_far_only_ever_improves() -> None:
    values = [0.2, 0.5, 0.4, 0.9, 0.1]
    np.testing.assert_array_equal(best_so_far(values, "maximize"), [0.2, 0.5, 0.5, 0.9, 0.9])
    np.testing.assert_array_equal(best_so_far(values, "minimize"), [0.2, 0.2, 0.2, 0.2, 0.1])


def test_a_diverged_trial_counts_but_changes_no_best() -> None:
    np.testing.assert_array_equal(best_so_far([NAN, 0.5, NAN, 0.6], "maximize"), [NAN, 0.5, 0.5, 0.6])


def test_without_finished_trials_there_is_no_best() -> None:
    assert best_so_far([], "maximize").shape == (0,)
    assert np.isnan(best_so_far([NAN, NAN], "minimize")).all()


def test_improvements_and_the_end_are_all_a_step_line_needs() -> None:
    best = best_so_far([NAN, 3.0, 3.0, 5.0, 5.0, 5.0], "maximize")
    np.testing.assert_array_equal(improvements(best), [1, 3, 5])
    assert improvements([NAN]).size == 0
    np.testing.assert_array_equal(improvements([1.0]), [0])
