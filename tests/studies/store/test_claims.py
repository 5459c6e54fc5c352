"""Claims: each study has one run, and a study whose run was lost is recovered by another."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from simulated_dispatch import SimulatedDispatcher, report

from studies.errors import Superseded
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store, clock
from studies.trials import Claim

__all__: list[str] = []


def test_the_study_that_has_waited_longest_is_claimed_first(play: SimulatedDispatcher) -> None:
    first, second, third = play.submit(), play.submit(), play.submit()
    play.store.move(second, StudyMove.PAUSE)
    assert [play.claim().claim.study_id, play.claim().claim.study_id] == [first, third]
    assert play.store.claim_next(dispatcher="here", lease_s=60) is None


def test_a_claimed_study_is_running(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert (run.study.state, run.claim.attempt, run.study.verbs) == (
        StudyState.RUNNING,
        1,
        ("pause", "stop", "cancel"),
    )
    assert run.study.started_at is not None
    assert run.every_event()[-1] == ("study.state", {"from": "queued", "to": "running", "reason": None})


def test_a_study_cannot_be_claimed_until_its_lease_lapses(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    run.lapse()
    run.writer.renew()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    run.lapse()
    assert play.store.claim_next(dispatcher="there", lease_s=60) == Claim(run.claim.study_id, 2)


def test_a_lease_lasts_as_long_as_requested(play: SimulatedDispatcher) -> None:
    play.submit()
    run = play.claim(lease_s=-1)
    assert play.claim(lease_s=-1).claim.attempt == run.claim.attempt + 1


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of the database, which all processes use, to some hours from now."""
    by_the_hour = clock.now

    def set_to(hours: int) -> None:
        monkeypatch.setattr(clock, "now", lambda c: by_the_hour(c) + timedelta(hours=hours))

    return set_to


def test_a_clock_that_is_set_forward_takes_no_study_from_a_live_run(
    play: SimulatedDispatcher, set_clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = play.run()
    flying = run.begin(0)[0]
    play.store.settle_lapsed_leases()
    set_clock(1)
    for _ in range(2):
        play.store.settle_lapsed_leases()
        assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    run.writer.renew()
    assert (run.trial(flying).state, run.trial(flying).attempt) == (TrialState.RUNNING, 1)
    # A run that does not renew its lease after the jump is lost.
    monkeypatch.setattr(clock, "_SETTLES_IN_S", 0.0)
    set_clock(2)
    assert play.store.claim_next(dispatcher="there", lease_s=60) == Claim(run.claim.study_id, 2)


def test_after_a_clock_was_set_back_leases_lapse_in_time_and_studies_end(
    play: SimulatedDispatcher, set_clock: Callable[[int], None]
) -> None:
    lost, run = play.run(), play.run()
    flying, ended = lost.begin(0)[0], run.begin(0)[0]
    set_clock(-1)
    # Each run renews its lease twice a second, and this one then dies.
    lost.writer.renew()
    lost.lapse()
    play.store.settle_lapsed_leases()
    assert (lost.trial(flying).state, lost.trial(flying).attempt) == (TrialState.QUEUED, 2)
    run.complete(ended, 0.5)
    run.writer.close(StudyMove.FINISH)
    assert run.study.state is StudyState.COMPLETED
    assert play.claim().claim.study_id == lost.claim.study_id


def test_a_lease_that_lapses_during_recovery_is_recovered_before_its_study_is_claimed(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    flying = run.begin(0)[0]
    slept: list[str] = []

    def sleep_after_settling(statement: str) -> Callable[[BaseException | None], None]:
        # The first query for leases looks for lapsed ones.
        is_first = "lease_expires_at <" in statement and not slept
        slept.extend([statement] * is_first)
        return lambda _error: time.sleep(1.0 if is_first else 0.0)

    play.store.run_writer(run.claim, lease_s=0.5).renew()
    play.store.on_statement(sleep_after_settling)
    first, second = (play.store.claim_next(dispatcher="there", lease_s=60) for _ in range(2))
    assert (first, second) == (None, Claim(run.claim.study_id, 2))
    assert slept
    assert (run.trial(flying).state, run.trial(flying).attempt) == (TrialState.QUEUED, 2)


def test_a_run_is_overdue_if_its_claim_is_superseded_or_lapsed_or_its_study_closed_long_ago(
    play: SimulatedDispatcher,
) -> None:
    leased, lapsed, stale, closed, paused = (play.run() for _ in range(5))
    lapsed.lapse()
    play.store.settle_lapsed_leases()
    stale.lapse()
    claims = [run.claim for run in (leased, lapsed, stale, closed, paused)]
    assert play.store.overdue_claims(claims, closed_for_s=60) == (lapsed.claim,), (
        "a run whose lease may still be renewed is not overdue"
    )
    play.claim()
    play.claim()
    closed.writer.close(StudyMove.FINISH)
    play.store.move(paused.claim.study_id, StudyMove.PAUSE)
    assert set(play.store.overdue_claims(claims, closed_for_s=60)) == {lapsed.claim, stale.claim}
    assert set(play.store.overdue_claims(claims, closed_for_s=-1)) == {
        lapsed.claim,
        stale.claim,
        closed.claim,
    }


def test_claiming_a_running_study_again_does_not_change_its_state(play: SimulatedDispatcher) -> None:
    run = play.run()
    before = run.study
    run.lapse()
    play.claim(dispatcher="there")
    assert (run.study.state, run.study.version, run.study.started_at) == (
        StudyState.RUNNING,
        before.version,
        before.started_at,
    )


def test_running_trials_of_a_lost_run_are_requeued_with_the_same_parameters_and_cost_a_retry(
    play: SimulatedDispatcher,
) -> None:
    run = play.run(max_retries=3)
    done, flying = run.begin(0, 1)
    waiting = run.create(2)[0]
    run.complete(done, 0.9)
    run.writer.record([report(flying, 1)])
    run.lapse()
    events = len(run.every_event())
    again = play.claim(dispatcher="there")
    found = again.trial(flying)
    assert (found.state, found.attempt, found.retries, found.parameters, found.seed) == (
        TrialState.QUEUED,
        2,
        1,
        flying.parameters,
        flying.seed,
    )
    assert (found.epochs_done, found.cost_s, found.started_at) == (0, 0.0, None)
    assert play.store.measurements(flying.id) == (), "the next attempt must start without epochs"
    assert again.trial(done).state is TrialState.COMPLETED
    assert (again.trial(waiting).attempt, again.trial(waiting).retries) == (1, 0), (
        "a trial that had not started must stay as it is"
    )
    assert run.every_event()[events:] == [
        ("trial.requeued", {"trial": flying.id, "attempt": 2, "reason": "its run was lost"})
    ]


def test_a_trial_without_retries_left_fails(play: SimulatedDispatcher) -> None:
    run = play.run(max_retries=1)
    trial = run.begin(0)[0]
    run.lapse()
    second = play.claim()
    second.writer.start(second.writer.queued_trials())
    second.lapse()
    third = play.claim()
    found = third.trial(trial)
    assert (found.state, found.attempt, found.retries) == (TrialState.FAILED, 2, 1)
    assert found.reason == "its run was lost; given up after 2 attempts"
    assert found.ended_at is not None
    kind, data = third.every_event()[-1]
    assert (kind, data["trial"], data["state"], data["reason"]) == (
        "trial.finished",
        trial.id,
        "failed",
        found.reason,
    )


def test_without_retries_the_first_loss_fails_a_trial(play: SimulatedDispatcher) -> None:
    run = play.run(max_retries=0)
    trial = run.begin(0)[0]
    run.lapse()
    assert (play.claim().trial(trial).state, run.trial(trial).reason) == (
        TrialState.FAILED,
        "its run was lost",
    )


def test_a_paused_study_keeps_its_run_until_the_run_has_drained(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.move(run.claim.study_id, StudyMove.PAUSE)
    assert run.writer.renew() is StudyState.PAUSED
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    run.complete(trial, 0.9)
    assert run.trial(trial).state is TrialState.COMPLETED


def test_a_paused_study_whose_run_was_lost_is_recovered_and_stays_paused(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.move(run.claim.study_id, StudyMove.PAUSE)
    run.lapse()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    assert (run.study.state, run.trial(trial).state, run.trial(trial).retries) == (
        StudyState.PAUSED,
        TrialState.QUEUED,
        1,
    )
    with pytest.raises(Superseded, match="lapsed"):
        run.writer.renew()
    play.store.move(run.claim.study_id, StudyMove.RESUME)
    assert play.claim().claim.attempt == run.claim.attempt + 1


def test_a_paused_study_whose_run_ended_early_has_no_running_trials(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.move(run.claim.study_id, StudyMove.PAUSE)
    play.store.release(run.claim)
    assert (run.study.state, run.trial(trial).state) == (StudyState.PAUSED, TrialState.QUEUED)


def test_a_stop_or_cancel_takes_effect_though_the_run_died_before(play: SimulatedDispatcher) -> None:
    runs = [play.run(), play.run()]
    for run, verb in zip(runs, (StudyMove.STOP, StudyMove.CANCEL), strict=True):
        run.begin(0)
        play.store.move(run.claim.study_id, verb)
        run.lapse()
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None
    assert [run.study.state for run in runs] == [StudyState.COMPLETED, StudyState.CANCELLED]
    assert all(trial.state is TrialState.CANCELLED for run in runs for trial in run.writer.trials())


def test_studies_to_recover_do_not_delay_other_claims(play: SimulatedDispatcher) -> None:
    lost = [play.run(), play.run()]
    waiting = play.submit()
    for run, verb in zip(lost, (StudyMove.STOP, StudyMove.PAUSE), strict=True):
        play.store.move(run.claim.study_id, verb)
        run.lapse()
    assert play.claim().claim.study_id == waiting
    assert [run.study.state for run in lost] == [StudyState.COMPLETED, StudyState.PAUSED]


def test_a_released_study_can_be_claimed_at_once(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.release(run.claim)
    assert run.trial(trial).state is TrialState.QUEUED
    assert play.claim(dispatcher="there").claim.attempt == 2
    assert (run.trial(trial).attempt, run.trial(trial).retries) == (2, 1), "a retry must be charged only once"


def test_a_study_that_is_released_with_a_failure_fails_with_that_reason(play: SimulatedDispatcher) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    play.store.release(run.claim, failure="its run broke down 3 times\0\ud800")
    assert (run.study.state, run.study.state_reason) == (StudyState.FAILED, "its run broke down 3 times??")
    assert run.trial(trial).state is TrialState.CANCELLED
    assert run.study.ended_at is not None
    assert play.store.claim_next(dispatcher="there", lease_s=60) is None


def test_releasing_a_study_with_a_failure_that_was_being_cancelled_cancels_it(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    play.store.move(run.claim.study_id, StudyMove.CANCEL)
    play.store.release(run.claim, failure="it broke down")
    assert (run.study.state, run.study.state_reason) == (StudyState.CANCELLED, "it broke down")


def test_a_superseded_claim_releases_nothing(play: SimulatedDispatcher) -> None:
    old = play.run()
    old.lapse()
    new = play.claim(dispatcher="there")
    trial = new.begin(0)[0]
    play.store.release(old.claim, failure="too late")
    assert (new.study.state, new.trial(trial).state) == (StudyState.RUNNING, TrialState.RUNNING)
    assert play.store.claim_next(dispatcher="here", lease_s=60) is None


def test_releasing_a_closed_study_does_nothing(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.writer.close(StudyMove.FINISH)
    before = run.study
    play.store.release(run.claim, failure="too late")
    assert run.study == before


def test_writes_of_the_run_that_closed_a_study_are_rejected_after_an_extension(
    play: SimulatedDispatcher,
) -> None:
    old = play.run()
    old.writer.close(StudyMove.FINISH)
    play.extend(old.claim.study_id, seeds=9)
    before = old.study
    play.store.release(old.claim, failure="its run broke down 3 times")
    for late in (
        old.writer.renew,
        old.writer.resume_running,
        old.writer.report_progress,
        lambda: old.writer.close(StudyMove.FAIL),
    ):
        with pytest.raises(Superseded):
            late()
    assert old.study == before
    new = play.claim()
    play.store.release(old.claim, failure="its run broke down 3 times")
    assert (new.study.state, new.claim.attempt > old.claim.attempt) == (StudyState.RUNNING, True)


def test_an_extended_study_is_queued_behind_studies_submitted_before_the_extension(
    play: SimulatedDispatcher,
) -> None:
    old = play.run()
    old.writer.close(StudyMove.FINISH)
    waiting = play.submit()
    play.extend(old.claim.study_id, seeds=9)
    later = play.submit()
    assert [play.claim().claim.study_id for _ in range(3)] == [waiting, old.claim.study_id, later]


def test_racing_dispatchers_never_claim_one_study_twice(play: SimulatedDispatcher, database_url: str) -> None:
    submitted = {play.submit() for _ in range(12)}
    claims: list[Claim] = []
    barrier = threading.Barrier(4)

    def claim_all(name: str) -> None:
        # Each dispatcher has connections of its own, as in production.
        store = Store.open(database_url, migrate=False)
        barrier.wait()
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        while len(claims) < len(submitted) and datetime.now(UTC) < deadline:
            claim = store.claim_next(dispatcher=name, lease_s=60)
            if claim is not None:
                claims.append(claim)
        store.close()

    threads = [threading.Thread(target=claim_all, args=(f"d{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(claims) == len(submitted)
    assert {claim.study_id for claim in claims} == submitted
    assert {claim.attempt for claim in claims} == {1}


def test_racing_dispatchers_make_one_attempt_of_a_lapsed_study(
    play: SimulatedDispatcher, database_url: str
) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.lapse()
    claims: list[Claim | None] = []
    barrier = threading.Barrier(4)

    def claim_once() -> None:
        store = Store.open(database_url, migrate=False)
        barrier.wait()
        claims.append(store.claim_next(dispatcher="there", lease_s=60))
        store.close()

    threads = [threading.Thread(target=claim_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claims, key=str) == [Claim(run.claim.study_id, 2), None, None, None]
    assert run.trial(trial).retries == 1


@pytest.mark.parametrize(
    ("verb", "after"), [(StudyMove.STOP, StudyState.COMPLETED), (StudyMove.CANCEL, StudyState.CANCELLED)]
)
def test_a_study_that_was_being_stopped_or_cancelled_is_closed_when_it_is_released(
    play: SimulatedDispatcher, verb: StudyMove, after: StudyState
) -> None:
    run = play.run()
    run.begin(0)
    play.store.move(run.claim.study_id, verb)
    play.store.release(run.claim)
    assert run.study.state is after
    assert run.study.progress.running == 0


def test_a_lost_run_leaves_no_running_trials_even_if_no_dispatcher_can_claim_its_study(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.lapse()
    play.store.settle_lapsed_leases()
    assert (run.study.state, run.trial(trial).state, run.trial(trial).retries) == (
        StudyState.RUNNING,
        TrialState.QUEUED,
        1,
    )
    with pytest.raises(Superseded, match="lapsed"):
        run.writer.renew()
    assert play.claim().claim == Claim(run.claim.study_id, run.claim.attempt + 1)
