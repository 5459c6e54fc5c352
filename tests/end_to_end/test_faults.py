"""Faults during a study: no completed trial is lost or counted twice, and no trial stays running."""

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager

import optuna
import pytest
from dispatcher_process import DispatcherProcess, until
from processes import is_alive

from studies.states import StudyState, TrialState

__all__: list[str] = []

Own = Callable[[], AbstractContextManager[DispatcherProcess]]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def _kill_dispatcher(dispatcher: DispatcherProcess, _study_id: str) -> None:
    dispatcher.kill()
    dispatcher.start()


def _kill_run(dispatcher: DispatcherProcess, study_id: str) -> None:
    os.kill(dispatcher.run_of(study_id), signal.SIGKILL)


def _kill_worker(dispatcher: DispatcherProcess, _study_id: str) -> None:
    dispatcher.kill_a_worker()


# Some kills are tested elsewhere with every change: of the run on PostgreSQL (test_on_postgresql.py), and of
# a worker past a rung (test_packs_and_rungs.py).
@pytest.mark.parametrize(
    "kill",
    [_kill_dispatcher, *(pytest.param(kill, marks=pytest.mark.slow) for kill in (_kill_run, _kill_worker))],
)
def test_a_study_survives_a_kill(own: Own, kill: Callable[[DispatcherProcess, str], None]) -> None:
    with own() as dispatcher:
        study_id = dispatcher.submit(
            "slow-plane", arms=["adamp", "sgd"], trials=4, resources={"max_pack_size": 1}
        )
        until(lambda: dispatcher.store.study(study_id).progress.completed >= 1, what="a completed trial")
        before = {t.id: t for t in dispatcher.store.every_trial(study_id) if t.state is TrialState.COMPLETED}
        kill(dispatcher, study_id)
        study = dispatcher.closed(study_id)
        trials = dispatcher.store.every_trial(study_id)
        assert study.state is StudyState.COMPLETED
        assert {(t.arm, t.number) for t in trials} == {(arm, n) for arm in ("adamp", "sgd") for n in range(4)}
        assert len(trials) == 8, "a trial counts twice"
        assert {t.state for t in trials} == {TrialState.COMPLETED}
        assert {t.id: t for t in trials if t.id in before} == before, "a completed trial changed"
        assert 1 <= sum(t.retries for t in trials) <= 2, "trials in flight must be retried"
        for trial in trials:
            assert [m.epoch for m in dispatcher.store.measurements(trial.id)] == list(range(1, 11))
        assert [e.id for e in dispatcher.store.events(study_id)] == list(
            range(1, len(dispatcher.store.events(study_id)) + 1)
        )
        dispatcher.stop()
        for arm in ("adamp", "sgd"):
            assert [t.state for t in dispatcher.copies(study_id, arm)] == [
                optuna.trial.TrialState.COMPLETE
            ] * 4


@pytest.mark.slow
def test_a_study_survives_the_end_of_its_local_ray(own: Own) -> None:
    with own() as dispatcher:
        study_id = dispatcher.submit("slow-plane", trials=2, epochs=40, resources={"max_concurrent_packs": 1})
        # The raylet ends with its agent.
        for epochs, kind in ((4, "raylet/raylet"), (16, "ray::RuntimeEnvAgent")):
            dispatcher.epochs(study_id, epochs)
            (pid,) = dispatcher.processes(kind)
            os.kill(pid, signal.SIGKILL)
            until(lambda: dispatcher.problem is not None, what="the outage's report", timeout_s=15.0)
            until(lambda: dispatcher.problem is None, what="another Ray")
        study = dispatcher.closed(study_id)
        trials = dispatcher.store.every_trial(study_id)
        assert study.state is StudyState.COMPLETED
        assert [t.state for t in trials] == [TrialState.COMPLETED] * 2
        assert [t.retries for t in trials] == [2, 2], "both train in one pack"


@pytest.mark.slow
def test_a_trial_whose_worker_dies_once_is_retried_and_one_whose_worker_always_dies_fails(
    own: Own,
) -> None:
    with own() as dispatcher:
        study = dispatcher.closed(dispatcher.submit("deadly-once", trials=1))
        (trial,) = dispatcher.store.every_trial(study.id)
        assert (study.state, trial.state, trial.attempt, trial.retries) == (
            StudyState.COMPLETED,
            TrialState.COMPLETED,
            2,
            1,
        )
        study = dispatcher.closed(dispatcher.submit("deadly", trials=1, max_retries=1))
        (trial,) = dispatcher.store.every_trial(study.id)
        assert (study.state, trial.state, trial.attempt) == (StudyState.FAILED, TrialState.FAILED, 2)
        assert trial.reason is not None
        assert "its worker was lost: the process crashed" in trial.reason
        assert trial.reason.endswith("; given up after 2 attempts")


def test_a_killed_dispatcher_leaves_no_process(own: Own) -> None:
    with own() as dispatcher:
        study_id = dispatcher.submit("slow-plane", trials=20, resources={"max_pack_size": 1})
        dispatcher.epochs(study_id, 2)
        left = [
            *dispatcher.processes("workers.run"),
            *dispatcher.processes("ray::ResourceTrainable"),
            *dispatcher.processes("raylet"),
        ]
        assert len(left) >= 3
        dispatcher.kill()
        until(
            lambda: not any(is_alive(pid) for pid in left),
            what="the dispatcher's processes to end",
            timeout_s=20.0,
        )
