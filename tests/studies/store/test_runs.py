"""Writes of a run: trials and reports. Writes of superseded runs are rejected."""

import math
from collections.abc import Callable

import pytest
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report

from studies.errors import Superseded
from studies.states import StudyMove, StudyState, TrialState
from studies.trials import Measurement, NewTrial, PendingTrial, Report

__all__: list[str] = []


def test_a_created_trial_waits_with_its_configuration(play: SimulatedDispatcher) -> None:
    run = play.run()
    pending = run.create(0, 1)
    assert [trial.id for trial in pending] == [f"{run.claim.study_id}.adamp.{n}" for n in (0, 1)]
    found = run.trial(pending[1])
    assert (found.state, found.arm, found.number, found.origin) == (TrialState.QUEUED, "adamp", 1, "sampled")
    assert (found.parameters, found.seed, found.attempt, found.retries) == (pending[1].parameters, 7, 1, 0)
    assert (found.value, found.epochs_done, found.cost_s, found.started_at, found.ended_at) == (
        None,
        0,
        0.0,
        None,
        None,
    )
    assert list(found.parameters) == list(pending[1].parameters), "parameters must be in the card's order"


def test_parameters_are_read_back_as_created(play: SimulatedDispatcher) -> None:
    run = play.run()
    parameters = {
        "lr": 0.1 + 0.2,
        "k": 2**53,
        "tiny": 5e-324,
        "on": True,
        "off": False,
        "rule": "plain",
        "whole": 1.0,
    }
    run.writer.create([NewTrial("adamp", 0, "sampled", parameters, seed=2**53 - 1)])
    found = run.writer.trials()[0]
    assert (found.parameters, found.seed) == (parameters, 2**53 - 1)
    assert [type(value) for value in found.parameters.values()] == [
        type(value) for value in parameters.values()
    ]


def test_creating_nothing_creates_nothing(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert run.create() == ()
    assert run.writer.trials() == ()


def test_a_sign_of_life_counts_for_the_running_attempt_until_the_next_report(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    first, second, waiting = *run.begin(0, 1), *run.create(2)
    attempts = {trial.id: trial.attempt for trial in (first, second, waiting)}
    started_at = run.trial(first).heard_at
    assert started_at == run.trial(first).started_at
    run.writer.hear({**attempts, second.id: 2}, {first.id: 7})
    assert [run.trial(trial).step for trial in (first, second, waiting)] == [7, None, None]
    assert run.trial(second).heard_at == started_at
    assert run.trial(waiting).heard_at is None
    heard_at = run.trial(first).heard_at
    assert heard_at is not None
    assert started_at is not None
    assert heard_at > started_at
    run.writer.hear(attempts, {})
    assert run.trial(first).step == 7
    run.writer.record([report(first, 1)])
    assert run.trial(first).step is None


def test_a_started_trial_is_running_and_has_an_event(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    assert run.trial(trial).state is TrialState.RUNNING
    assert run.trial(trial).started_at is not None
    place = {"trial": trial.id, "arm": "adamp", "phase": "search", "number": 0, "attempt": 1}
    assert run.every_event()[-1] == ("trial.started", {**place, "parameters": trial.parameters})
    assert run.study.progress.running == 1


def test_a_trial_starts_once(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    events = run.every_event()
    run.writer.start([trial])
    run.complete(trial, 0.9)
    run.writer.start([trial])
    assert run.trial(trial).state is TrialState.COMPLETED
    assert [event for event in run.every_event() if event[0] == "trial.started"] == [events[-1]]


def test_a_report_is_stored_epoch_by_epoch(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    whole = {
        "epoch": 1,
        "elapsed_s": 0.25,
        "lr": 1e-3,
        "train_loss": 2.0,
        "validation_loss": 2.1,
        "validation_metric": 0.4,
        "metrics": {},
        "weight_norm": 10.0,
        "effective_step": 1e-4,
        "projected_fraction": 0.5,
        "gradient_cosine": 0.01,
    }
    assert run.writer.record([Report(trial.id, 1, Measurement.model_validate(whole), worker="host:1")]) == {
        trial.id
    }
    assert run.writer.record([report(trial, 2)]) == {trial.id}
    measured = run.store.measurements(trial.id)
    assert measured[0].model_dump() == whole
    assert measured[1].epoch == 2
    assert measured[1].lr is None
    assert (run.trial(trial).state, run.trial(trial).epochs_done, run.trial(trial).cost_s) == (
        TrialState.RUNNING,
        2,
        1.0,
    )


def test_a_trial_completes_with_its_values(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.complete(trial, 0.9, cost_s=3.5)
    found = run.trial(trial)
    assert (found.state, found.value, found.best_epoch, found.test_value) == (
        TrialState.COMPLETED,
        0.9,
        2,
        0.89,
    )
    assert (found.epochs_done, found.cost_s, found.worker, found.reason) == (2, 3.5, "host:1", None)
    assert found.ended_at is not None
    place = {"trial": trial.id, "arm": "adamp", "phase": "search", "number": 0}
    assert run.every_event()[-1] == (
        "trial.finished",
        {**place, "state": "completed", "value": 0.9, "reason": None},
    )


def test_a_diverged_trial_has_a_reason_and_no_value(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record(
        [
            report(
                trial,
                1,
                ended="diverged",
                value=0.5,
                best_epoch=1,
                test_value=0.5,
                reason="the loss became nan\0\udfff",
            )
        ]
    )
    found = run.trial(trial)
    assert (found.state, found.value, found.best_epoch, found.test_value) == (
        TrialState.DIVERGED,
        None,
        None,
        None,
    )
    assert found.reason == run.every_event()[-1][1]["reason"] == "the loss became nan??"


def test_a_pruned_trial_has_no_value(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1, ended="pruned", value=0.5)])
    assert (run.trial(trial).state, run.trial(trial).value) == (TrialState.PRUNED, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_trial_with_a_value_that_is_not_finite_diverges(
    play: SimulatedDispatcher, value: float | None
) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1, ended="completed", value=value, best_epoch=1)])
    assert (run.trial(trial).state, run.trial(trial).value) == (TrialState.DIVERGED, None)
    assert run.trial(trial).reason == "its validation value is not finite"


def test_a_measurement_that_is_not_finite_is_stored_as_none(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    numbers = {
        "epoch": 1,
        "elapsed_s": 0.5,
        "train_loss": math.nan,
        "weight_norm": math.inf,
        "validation_loss": -math.inf,
        "lr": 0.1,
    }
    run.writer.record([Report(trial.id, 1, Measurement.model_validate(numbers))])
    found = run.store.measurements(trial.id)[0]
    assert (found.train_loss, found.weight_norm, found.validation_loss, found.lr) == (None, None, None, 0.1)


def test_values_of_further_metrics_are_read_back_by_name(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    for epoch, near in ((1, 0.25), (2, math.nan)):
        measured = Measurement(
            epoch=epoch, elapsed_s=1.0, validation_metric=0.5, metrics={"near": near, "b": 2}
        )
        is_last = epoch == 2
        run.writer.record(
            [
                Report(
                    trial.id,
                    trial.attempt,
                    measured,
                    ended="completed" if is_last else None,
                    value=0.5 if is_last else None,
                    test_value=0.4 if is_last else None,
                    test_metrics={"near": 0.125, "b": math.inf} if is_last else {},
                )
            ]
        )
    assert [m.metrics for m in play.store.measurements(trial.id)] == [
        {"near": 0.25, "b": 2},
        {"near": None, "b": 2},
    ]
    assert run.trial(trial).test_metrics == {"near": 0.125, "b": None}
    (arm, *_others) = play.store.arms(run.claim.study_id)
    assert arm.best is not None
    assert arm.best.test_metrics == {"near": 0.125, "b": None}
    assert play.store.study_record(run.claim.study_id).measurements[trial.id][0].metrics == {
        "near": 0.25,
        "b": 2,
    }


def test_a_trial_keeps_the_most_memory_of_its_packs_and_an_arm_that_of_its_trials(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    first, second = run.begin(0, 1)
    run.writer.record([report(first, 1, memory_bytes=300), report(second, 1)])
    run.writer.record([report(first, 2, memory_bytes=700, device_memory_bytes=5), report(second, 2)])
    run.writer.record([report(first, 3, memory_bytes=400)])
    found = run.trial(first)
    assert (found.memory_bytes, found.device_memory_bytes) == (700, 5)
    assert run.trial(second).memory_bytes is None
    arm = run.store.arms(run.study.id)[0]
    assert (arm.memory_bytes, arm.device_memory_bytes) == (700, 5)


def test_a_packs_report_is_one_transaction(play: SimulatedDispatcher) -> None:
    run = play.run()
    trials = run.begin(0, 1, 2)
    ended = {"ended": "completed", "value": 0.9, "best_epoch": 2}
    assert run.writer.record([report(trial, 1) for trial in trials]) == {trial.id for trial in trials}
    run.writer.record(
        [report(trials[0], 2, **ended), report(trials[1], 2, ended="diverged"), report(trials[2], 2)]
    )
    assert [run.trial(trial).state for trial in trials] == [
        TrialState.COMPLETED,
        TrialState.DIVERGED,
        TrialState.RUNNING,
    ]


def test_a_repeated_report_is_stored_once(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    other = run.begin(1)[0]
    run.writer.record([report(trial, 1, validation_metric=0.1)])
    assert run.writer.record([report(trial, 1, validation_metric=0.2), report(other, 1)]) == {
        trial.id,
        other.id,
    }
    assert run.writer.record([report(trial, 2), report(trial, 2)]) == {trial.id}
    assert [m.validation_metric for m in run.store.measurements(trial.id)] == [0.1, 0.5], (
        "the first report must be kept"
    )
    assert run.trial(other).epochs_done == 1, "other reports in the batch must be stored"
    run.complete(trial, 0.9)
    assert run.trial(trial).state is TrialState.COMPLETED


def test_a_repeated_outcome_is_stored_once(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    last = report(trial, 1, ended="completed", value=0.9, best_epoch=1)
    assert run.writer.record([last, last]) == {trial.id}
    assert run.writer.record([last]) == frozenset()
    assert [kind for kind, _ in run.every_event()].count("trial.finished") == 1


def test_an_outcome_is_accepted_though_its_epoch_was_reported_before(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1)])
    run.writer.record([report(trial, 1, ended="pruned")])
    assert run.trial(trial).state is TrialState.PRUNED


def test_later_reports_of_a_finished_trial_in_a_batch_are_dropped(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record(
        [report(trial, 1, ended="diverged", reason="nan"), report(trial, 2, ended="completed", value=0.9)]
    )
    assert (run.trial(trial).state, run.trial(trial).epochs_done) == (TrialState.DIVERGED, 1)
    assert len(run.store.measurements(trial.id)) == 1


def test_a_report_of_a_superseded_attempt_is_dropped(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    again = run.writer.requeue([(trial.id, 1)], reason="its worker was lost", max_retries=3)
    run.writer.start(again)
    assert run.writer.record([report(trial, 1, ended="completed", value=0.9)]) == frozenset()
    assert (run.trial(trial).state, run.trial(trial).attempt) == (TrialState.RUNNING, 2)
    assert run.store.measurements(trial.id) == ()
    assert run.writer.record([report(again[0], 1)]) == {trial.id}


def test_a_report_of_a_trial_that_is_not_running_is_dropped(play: SimulatedDispatcher) -> None:
    run = play.run()
    queued = run.create(0)[0]
    done = run.begin(1)[0]
    run.complete(done, 0.9)
    nowhere = PendingTrial("nothing.adamp.0", "adamp", 0, 1, {}, 0, 2)
    foreign = play.run().begin(0)[0]
    assert run.writer.record([report(trial, 3) for trial in (queued, done, nowhere, foreign)]) == frozenset()
    assert (run.trial(queued).state, run.trial(done).epochs_done, run.trial(foreign).epochs_done) == (
        TrialState.QUEUED,
        2,
        0,
    )


def test_a_requeued_trial_waits_for_its_next_attempt(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1)])
    (again,) = run.writer.requeue([(trial.id, 1)], reason="its worker was lost", max_retries=3)
    assert again == PendingTrial(trial.id, "adamp", 0, 2, trial.parameters, 7, 2)
    found = run.trial(trial)
    assert (found.state, found.attempt, found.retries, found.epochs_done) == (TrialState.QUEUED, 2, 1, 0)
    assert run.every_event()[-1] == (
        "trial.requeued",
        {"trial": trial.id, "attempt": 2, "reason": "its worker was lost"},
    )


def test_requeueing_on_purpose_costs_no_retry(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    (again,) = run.writer.requeue(
        [(trial.id, 1)], reason="its run was asked to leave", max_retries=0, is_charged=False
    )
    assert (again.attempt, run.trial(trial).retries, run.trial(trial).state) == (2, 0, TrialState.QUEUED)


def test_a_trial_without_retries_fails_with_the_reason(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    assert run.writer.requeue([(trial.id, 1)], reason="ValueError: no such layer", max_retries=0) == ()
    assert (run.trial(trial).state, run.trial(trial).reason) == (
        TrialState.FAILED,
        "ValueError: no such layer",
    )


def test_requeueing_a_trial_that_has_moved_on_does_nothing(play: SimulatedDispatcher) -> None:
    run = play.run()
    done, twice = run.begin(0, 1)
    run.complete(done, 0.9)
    run.writer.requeue([(twice.id, 1)], reason="lost", max_retries=3)
    assert (
        run.writer.requeue([(done.id, 1), (twice.id, 1), ("nothing", 1)], reason="lost", max_retries=3) == ()
    )
    assert (run.trial(done).state, run.trial(twice).attempt) == (TrialState.COMPLETED, 2)


def test_a_finished_study_is_completed(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.complete(trial, 0.9)
    assert run.writer.close(StudyMove.FINISH) is StudyState.COMPLETED
    assert run.study.ended_at is not None
    assert (run.study.state_reason, run.study.verbs) == (None, ("confirm", "extend"))
    assert run.every_event()[-1] == ("study.state", {"from": "running", "to": "completed", "reason": None})


def test_a_run_can_fail_its_study(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert (
        run.writer.close(StudyMove.FAIL, reason="no workload of this name is installed") is StudyState.FAILED
    )
    assert run.study.state_reason == "no workload of this name is installed"


def test_renewing_the_lease_returns_the_state_that_the_owner_set(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert run.writer.renew() is StudyState.RUNNING
    for verb, wanted in ((StudyMove.PAUSE, StudyState.PAUSED), (StudyMove.RESUME, StudyState.QUEUED)):
        play.store.move(run.claim.study_id, verb)
        assert run.writer.renew() is wanted
    assert run.writer.resume_running() is StudyState.RUNNING
    assert run.writer.resume_running() is StudyState.RUNNING
    play.store.move(run.claim.study_id, StudyMove.STOP)
    assert run.writer.resume_running() is run.writer.renew() is StudyState.STOPPING


def test_a_run_that_has_finished_closes_a_study_that_was_resumed_meanwhile(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.complete(run.begin(0)[0], 0.9)
    play.store.move(run.claim.study_id, StudyMove.PAUSE)
    play.store.move(run.claim.study_id, StudyMove.RESUME)
    assert run.writer.close(StudyMove.FINISH) is StudyState.COMPLETED


WRITES: dict[str, Callable[[SimulatedRun, PendingTrial], object]] = {
    "renew": lambda run, _: run.writer.renew(),
    "go on": lambda run, _: run.writer.resume_running(),
    "create": lambda run, _: run.writer.create([NewTrial("adamp", 9, "sampled", {"lr": 0.1}, seed=0)]),
    "start": lambda run, trial: run.writer.start([trial]),
    "record": lambda run, trial: run.writer.record(
        [report(trial, 1, ended="completed", value=0.9, best_epoch=1)]
    ),
    "give back": lambda run, trial: run.writer.requeue([(trial.id, 1)], reason="lost", max_retries=3),
    "settle": lambda run, trial: run.writer.settle(promoted=[(trial.id, 1, 2)], pruned=[]),
    "remember a fit": lambda run, _: run.writer.record_stack_width(
        {"workload": "digits-mlp", "optimizer": "adamp", "batch_size": 32, "device": "cpu", "width": 4}
    ),
    "say progress": lambda run, _: run.writer.report_progress(),
    "close": lambda run, _: run.writer.close(StudyMove.FINISH),
}


def everything(run: SimulatedRun) -> object:
    return (
        run.study,
        run.writer.trials(),
        run.every_event(),
        [run.store.measurements(trial.id) for trial in run.writer.trials()],
    )


@pytest.mark.parametrize("write", WRITES)
def test_a_superseded_run_stores_nothing(play: SimulatedDispatcher, write: str) -> None:
    old = play.run()
    trial = old.begin(0)[0]
    old.lapse()
    new = play.claim(dispatcher="there")
    new.writer.start(new.writer.queued_trials())
    before = everything(new)
    with pytest.raises(Superseded, match="attempt 1 is superseded by attempt 2"):
        WRITES[write](old, trial)
    assert everything(new) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_run_of_a_closed_study_stores_nothing(play: SimulatedDispatcher, write: str) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.move(run.claim.study_id, StudyMove.CANCEL)
    run.writer.close(StudyMove.FINISH)
    before = everything(run)
    with pytest.raises(Superseded, match="is closed: cancelled"):
        WRITES[write](run, trial)
    assert everything(run) == before
