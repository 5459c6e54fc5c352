"""The check of a package's workload before a study's first trial, before any budget is spent."""

from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess
from sqlalchemy import select

from studies.states import StudyState
from studies.store import tables
from studies.views import StudyView

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

PLUGIN = Path(__file__).parents[1] / "plugin" / "tangent_plugin.py"


def ended(dispatcher: DispatcherProcess, workload: str, *, check: bool = True) -> StudyView:
    """Return a study of one trial that has closed."""
    return dispatcher.closed(dispatcher.submit(workload, trials=1, epochs=1, check_workload=check))


def checked(dispatcher: DispatcherProcess, workload: str) -> list[object]:
    """Return the time at which each version of a workload was found to have no errors."""
    c = tables.workload_check.c
    with dispatcher.store._database.read() as connection:
        return list(connection.execute(select(c.checked_at).where(c.workload == workload)).scalars())


def test_a_wrong_workload_spends_no_budget_and_its_check_is_not_kept(dispatcher: DispatcherProcess) -> None:
    first = ended(dispatcher, "mean-metric")
    assert first.state is StudyState.FAILED
    assert dispatcher.store.every_trial(first.id) == ()
    error, *_ = [each for each in first.check_results if each.status == "error"]
    source = PLUGIN.read_text(encoding="utf-8").splitlines()
    line = source.index("class _MeanMetric(_Plane):") + 2
    assert (error.check, error.where) == ("validation metric", f"{PLUGIN}:{line}")
    assert str(error) in str(first.state_reason)
    assert checked(dispatcher, "mean-metric") == []


def test_a_check_can_be_left_out_and_is_not_made_of_a_built_in_workload(
    dispatcher: DispatcherProcess,
) -> None:
    unchecked = ended(dispatcher, "mean-metric", check=False)
    assert (unchecked.state, unchecked.check_results) == (StudyState.COMPLETED, ())
    builtin = ended(dispatcher, "rosenbrock-3d")
    assert (builtin.state, builtin.check_results) == (StudyState.COMPLETED, ())


@pytest.mark.slow
def test_a_check_that_crashes_leaves_the_study_to_its_trials(dispatcher: DispatcherProcess) -> None:
    study = ended(dispatcher, "deadly")
    assert study.state is StudyState.FAILED
    assert len(dispatcher.store.every_trial(study.id)) == 1
    assert [(each.check, each.status) for each in study.check_results] == [("check", "warning")]
    assert checked(dispatcher, "deadly") == []


@pytest.mark.slow
def test_a_program_is_checked_with_the_optimizer_of_its_first_arm(dispatcher: DispatcherProcess) -> None:
    for arms, state in ((["sgd"], StudyState.COMPLETED), (["adamp"], StudyState.FAILED)):
        study_id = dispatcher.submit("sgd-only", arms=arms, trials=1, epochs=2, check_workload=True)
        study = dispatcher.closed(study_id)
        assert (study.state, bool(dispatcher.store.every_trial(study_id))) == (state, arms == ["sgd"])
