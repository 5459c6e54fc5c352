import pytest
from records import Arm, record

from studies.analysis.analyse import analyse
from studies.states import StudyState

__all__: list[str] = []


def test_the_best_and_the_defaults_have_a_mean_and_an_interval() -> None:
    arm = Arm(search=[0.8, 0.95, 0.9], best=[0.90, 0.92, 0.94], defaults=[0.7, 0.8, 0.9])
    best, defaults = analyse(record({"adamw": arm})).confirmed
    assert (best.configuration, best.number, best.completed, best.seeds) == ("best", 1, 3, 3)
    assert best.test_mean == pytest.approx(0.92)
    # Student's t with two degrees of freedom: 4.303 * 0.02 / sqrt(3).
    assert best.test_low == pytest.approx(0.92 - 0.0497, abs=1e-4)
    assert best.test_high == pytest.approx(0.92 + 0.0497, abs=1e-4)
    assert (defaults.configuration, defaults.number, defaults.test_mean) == (
        "defaults",
        0,
        pytest.approx(0.8),
    )


@pytest.mark.parametrize(("workload", "search"), [("digits-mlp", 0.95), ("char-lm", 0.89)])
def test_shrinkage_is_positive_if_the_search_value_was_too_good(workload: str, search: float) -> None:
    worse = 0.7 if workload == "digits-mlp" else 1.2
    arm = Arm(search=[worse, search], best=[0.92, 0.92])
    assert analyse(record({"adamw": arm}, workload=workload)).confirmed[0].shrinkage == pytest.approx(0.03)


def test_runs_that_diverged_are_counted_and_left_out_of_the_mean() -> None:
    (best,) = analyse(record({"adamw": Arm(search=[0.9], best=[0.9, "diverged"])})).confirmed[:1]
    assert (best.completed, best.diverged, best.test_mean, best.test_low) == (1, 1, 0.9, None)


def test_when_the_defaults_are_the_best_their_runs_serve_both() -> None:
    best, defaults = analyse(record({"adamw": Arm(search=[0.9, 0.8], best=[0.88, 0.89])})).confirmed
    assert (best.configuration, defaults.configuration) == ("best", "defaults")
    assert best.runs == defaults.runs


def test_while_the_study_runs_the_planned_seeds_are_reported() -> None:
    (best, *_) = analyse(
        record({"adamw": Arm(search=[0.7, 0.9], best=[0.9, "running"])}, state=StudyState.RUNNING)
    ).confirmed
    assert (best.seeds, best.completed) == (5, 1)


def test_runs_of_an_earlier_best_do_not_count_for_the_current_one() -> None:
    before = record({"adamw": Arm(search=[0.7, 0.9], best=[0.9, 0.9])})
    after = record({"adamw": Arm(search=[0.7, 0.9, 0.95])})
    grown = after.model_copy(update={"confirmations": before.confirmations})
    analysis = analyse(grown)
    assert analysis.confirmed == ()
    assert "nothing has been confirmed" in analysis.finding.sentence


def test_time_to_target_is_a_median_in_which_a_miss_is_never() -> None:
    arm = Arm(search=[0.99], best=[0.96, 0.97, 0.5])
    (time,) = analyse(record({"adamw": arm}, workload="digits-mlp")).time_to_target
    assert (time.target, time.runs, time.reached, time.is_solo) == (0.95, 3, 2, True)
    assert time.epochs_median is not None
    assert time.elapsed_s_median == pytest.approx(0.5 * time.epochs_median)
    (missed,) = analyse(record({"adamw": Arm(search=[0.99], best=[0.5, 0.6, 0.97])})).time_to_target
    assert (missed.reached, missed.epochs_median) == (1, None)


def test_arms_without_confirmation_runs_have_no_time_to_target() -> None:
    assert analyse(record({"adamw": Arm(search=[0.99])})).time_to_target == ()
