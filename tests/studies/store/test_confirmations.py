"""Confirmation runs are stored beside the search and kept apart from it."""

import pytest
from simulated_dispatch import SimulatedDispatcher, report
from trained_studies import Trained

from studies.seeds import confirmation_seed
from studies.states import StudyMove, StudyState, TrialFilter, TrialState
from studies.store import Store
from studies.study_filter import StudyFilter
from studies.trials import NewTrial

__all__: list[str] = []

CONFIRMED = {"confirmation": {"seeds": 2}}


def test_a_confirmation_run_has_its_own_number_and_id_and_its_trials_configuration(
    play: SimulatedDispatcher,
) -> None:
    run = play.run(**CONFIRMED)
    run.complete(run.begin(0, 1)[1], 0.9)
    made = run.confirm(1, 0)
    assert [(trial.id.split(".", 1)[1], trial.number, trial.confirms) for trial in made] == [
        ("adamp.c0", 0, 1),
        ("adamp.c1", 1, 1),
        ("adamp.c2", 2, 0),
        ("adamp.c3", 3, 0),
    ]
    confirmed, view = run.store.trial(f"{run.claim.study_id}.adamp.1"), run.trial(made[1])
    assert (view.phase, view.state, view.to_epoch, view.bracket) == ("confirmation", TrialState.QUEUED, 2, 0)
    assert (view.parameters, view.origin, view.replicate) == (
        confirmed.parameters,
        confirmed.origin,
        confirmed.replicate,
    )
    assert view.seed == confirmation_seed(0, 1)
    assert made[0].phase == "confirmation"


def test_the_writer_reads_both_phases_and_others_the_search_by_default(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    run.create(0, 1)
    run.confirm(0)
    study_id, store = run.claim.study_id, play.store
    # Search trials come first, although the word "search" sorts after "confirmation".
    assert [(trial.phase, trial.number) for trial in run.writer.queued_trials()] == [
        ("search", 0),
        ("search", 1),
        ("confirmation", 0),
        ("confirmation", 1),
    ]
    assert [trial.phase for trial in run.writer.trials()] == ["search"] * 2 + ["confirmation"] * 2
    assert [trial.number for trial in store.every_trial(study_id)] == [0, 1]
    assert [trial.id[-2:] for trial in store.every_trial(study_id, phase="confirmation")] == ["c0", "c1"]
    assert len(store.every_trial(study_id, phase=None)) == 4
    assert (
        store.trials(study_id).total,
        store.trials(study_id, phase="confirmation").total,
        store.trials(study_id, phase=None).total,
    ) == (2, 2, 4)
    assert store.trials(study_id, phase="confirmation", state=TrialFilter.QUEUED, arm="adamp").total == 2


def test_queued_confirmation_runs_and_replicates_are_read_back_as_created(play: SimulatedDispatcher) -> None:
    run = play.run(budget={"trials_per_arm": 1, "replicates": 2, "epochs": 2}, **CONFIRMED)
    defaults = run.writer.plan().arms[0].defaults
    made = run.writer.create(
        [
            NewTrial("adamp", 0, "default", defaults, seed=1),
            NewTrial("adamp", 1, "default", defaults, seed=2, replicate=1),
        ]
    )
    made += run.confirm(1)
    assert run.writer.queued_trials() == made
    assert [trial.replicate for trial in made] == [0, 1, 1, 1]


def test_confirmation_runs_are_neither_the_best_trial_nor_on_a_curve(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    run.complete(run.begin(0)[0], 0.8)
    before = run.store.curves(run.claim.study_id)
    for trial in run.confirm(0):
        run.writer.start([trial])
        run.complete(trial, 0.99)
    best = run.store.arms(run.claim.study_id)[0].best
    assert best is not None
    assert (best.trial_id, best.value) == (f"{run.claim.study_id}.adamp.0", 0.8)
    assert run.store.curves(run.claim.study_id) == before


def test_confirmation_runs_have_no_rung_values(play: SimulatedDispatcher) -> None:
    run = play.run(pruner="asha", budget={"trials_per_arm": 3, "epochs": 4}, **CONFIRMED)
    [first] = run.begin(0)
    run.writer.record([report(first, 1, checkpoint="file:///kept")])
    [again, _] = run.confirm(0)
    run.writer.start([again])
    run.writer.record([report(again, 1)])
    assert run.writer.rung_values() == {first.id: {1: 0.5}}


def test_progress_counts_search_and_confirmation_separately(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    progress = run.study.progress
    assert (progress.trials, progress.epochs, progress.confirmations) == (6, 12, 8)
    for trial in run.begin(0, 1, 2):
        run.complete(trial, 0.9)
    first, second = run.confirm(0)
    run.writer.start([first, second])
    run.complete(first, 0.8)
    adamp, adamw = (arm.progress for arm in run.store.arms(run.claim.study_id))
    assert (adamp.finished, adamp.completed, adamp.running, adamp.epochs_done) == (3, 3, 0, 6)
    # The defaults are the best configuration too, so one run on each seed is all that the arm needs.
    assert (adamp.confirmations, adamp.confirmations_finished, adamp.confirmations_running) == (2, 1, 1)
    assert (adamw.confirmations, adamw.confirmations_finished) == (4, 0)
    assert run.study.progress.confirmations == 6


@pytest.mark.parametrize("end", [StudyMove.STOP, StudyMove.CANCEL])
def test_a_search_that_was_stopped_or_cancelled_is_not_confirmed(
    play: SimulatedDispatcher, end: StudyMove
) -> None:
    run = play.run(**CONFIRMED)
    run.store.move(run.claim.study_id, end)
    assert run.study.progress.confirmations == 0
    run.writer.close(StudyMove.FINISH)
    assert run.study.progress.confirmations == 0


def test_a_closed_study_counts_its_existing_confirmation_runs(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    run.begin(0)
    [_, lost] = run.confirm(0)
    run.writer.start([lost])
    run.writer.close(StudyMove.FINISH)
    progress = run.study.progress
    assert (progress.confirmations, progress.confirmations_finished, progress.confirmations_running) == (
        2,
        2,
        0,
    )
    assert progress.cancelled == 1
    assert run.trial(lost).state is TrialState.CANCELLED


def test_replicates_multiply_the_planned_trials(play: SimulatedDispatcher) -> None:
    budget = {"trials_per_arm": 9, "epochs": 9, "replicates": 3}
    once, thrice = (
        play.store.study(play.submit(pruner="asha", budget={**budget, "replicates": n}, **CONFIRMED)).progress
        for n in (1, 3)
    )
    assert (thrice.trials, thrice.epochs) == (3 * once.trials, 3 * once.epochs)
    # The defaults once, and the best configuration of each replicate.
    assert (once.confirmations, thrice.confirmations) == (2 * 2 * 2, 2 * 4 * 2)


def test_a_lost_confirmation_run_is_requeued_like_any_trial(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    run.begin(0)
    [trial, _] = run.confirm(0)
    run.writer.start([trial])
    [again] = run.writer.requeue([(trial.id, 1)], reason="its worker was lost", max_retries=3)
    assert (again.id, again.attempt, again.phase, again.confirms, again.seed) == (
        trial.id,
        2,
        "confirmation",
        0,
        trial.seed,
    )
    [failed] = run.begin(1)
    assert run.writer.requeue([(failed.id, 1)], reason="it broke", max_retries=0) == ()


def test_events_name_the_phase(play: SimulatedDispatcher) -> None:
    run = play.run(**CONFIRMED)
    run.complete(run.begin(0)[0], 0.9)
    [trial, _] = run.confirm(0)
    run.writer.start([trial])
    run.complete(trial, 0.8)
    events = [
        (kind, data["trial"], data["phase"], data["number"])
        for kind, data in run.every_event()
        if kind.startswith("trial.")
    ]
    assert events[2:] == [(kind, trial.id, "confirmation", 0) for kind in ("trial.started", "trial.finished")]
    assert events[0][2] == "search"


def test_a_study_record_holds_both_phases_and_their_measurements(store: Store) -> None:
    study = (
        Trained(store, budget={"trials_per_arm": 4, "epochs": 3, "replicates": 2}, confirmation={"seeds": 3})
        .train()
        .confirm()
        .close()
    )
    record = store.study_record(study.id)
    assert record.study == store.study(study.id)
    assert record.arms == store.arms(study.id)
    assert record.trials == store.every_trial(study.id)
    assert record.confirmations == store.every_trial(study.id, phase="confirmation")
    assert record.study.state is StudyState.COMPLETED
    assert record.study.progress.confirmations_finished == len(record.confirmations) > 0
    best = [arm.best.trial_id for arm in record.arms if arm.best is not None]
    assert set(record.measurements) == {*best, *(trial.id for trial in record.confirmations)}
    assert all(
        record.measurements[trial_id] == store.measurements(trial_id)
        for trial_id in (*best, record.confirmations[-1].id)
    )
    for arm in record.arms:
        runs = [trial for trial in record.confirmations if trial.arm == arm.name]
        assert {trial.seed for trial in runs} == {confirmation_seed(0, index) for index in range(3)}
        assert 0 in {trial.confirms for trial in runs}


def test_environments_of_several_runs_are_merged(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert run.study.environment == {}
    run.writer.record_environment({"python": "3.11.9", "cpu": "A; B\0"})
    run.writer.record_environment({"python": "3.12.1"})
    run.writer.record_environment({"python": "3.11.9", "torch": "2.13"})
    assert run.study.environment == {"python": "3.11.9; 3.12.1", "cpu": "A, B?", "torch": "2.13"}


def test_a_suite_lists_its_studies_in_the_order_of_submission(play: SimulatedDispatcher) -> None:
    first = play.submit(suite="small")
    second = play.submit(suite="small", workload="char-lm")
    play.submit(suite="tiny")
    play.submit()
    assert [(suite.name, suite.studies, suite.workloads) for suite in play.store.suites()] == [
        ("tiny", 1, ("digits-mlp",)),
        ("small", 2, ("char-lm", "digits-mlp")),
    ]
    assert play.store.suites()[1].last_at == play.store.study(second).created_at
    assert play.store.study_ids_of_suite("small") == (first, second)
    assert [study.id for study in play.store.studies(StudyFilter(suite="small")).items] == [second, first]
    assert play.store.studies(StudyFilter(suite="small", workload="char-lm")).total == 1
    assert [study.suite for study in play.store.studies().items] == [None, "tiny", "small", "small"]
