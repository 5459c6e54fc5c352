"""Metrics snapshots: counts by state, waiting times, and the cache of closed studies."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from simulated_dispatch import SimulatedDispatcher, report
from sqlalchemy import bindparam, create_engine, text
from sqlalchemy.exc import IntegrityError

from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.store.tables import UTC_TIME
from studies.trials import NewTrial

__all__: list[str] = []


@pytest.fixture
def statements(store: Store) -> list[str]:
    """The statements that the store sends from now on."""
    sent: list[str] = []

    def note(statement: str) -> Callable[[BaseException | None], None]:
        sent.append(statement)
        return lambda _error: None

    store.on_statement(note)
    return sent


@pytest.fixture
def change(database_url: str) -> Iterator[Callable[..., None]]:
    """A function that changes the database without the store: `change(statement, …)`."""
    engine = create_engine(database_url)

    def execute(statement: str, **values: Any) -> None:
        with engine.begin() as connection:
            connection.execute(text(statement).bindparams(bindparam("at", type_=UTC_TIME)), values)

    yield execute
    engine.dispose()


def test_a_snapshot_without_studies_has_every_state_and_no_waits(store: Store) -> None:
    now = store.metrics_reader().snapshot()
    assert now.studies == dict.fromkeys(StudyState, 0)
    assert now.trials == dict.fromkeys(TrialState, 0)
    assert (now.waiting, now.packs, now.epochs, now.retries, now.queued_for_s, now.silent_for_s) == (
        0,
        0,
        0,
        0,
        None,
        None,
    )
    assert list(now.dispatchers) == ["here"]


def test_studies_and_trials_of_both_phases_are_counted_by_state(play: SimulatedDispatcher) -> None:
    run = play.run()
    done, diverged, flying = run.begin(0, 1, 2)
    run.create(3)
    run.complete(done, 0.9)
    run.diverge(diverged)
    run.writer.record([report(flying, 1)])
    run.confirm(0, seeds=2)
    play.submit()
    now = play.store.metrics_reader().snapshot()
    assert {state: count for state, count in now.studies.items() if count} == {
        StudyState.QUEUED: 1,
        StudyState.RUNNING: 1,
    }
    expected = {TrialState.QUEUED: 3, TrialState.RUNNING: 1, TrialState.COMPLETED: 1, TrialState.DIVERGED: 1}
    assert {state: count for state, count in now.trials.items() if count} == expected
    assert now.epochs == 2 + 1 + 1


def test_a_pack_is_counted_once_before_and_after_its_first_report(play: SimulatedDispatcher) -> None:
    run, tally = play.run(), play.store.metrics_reader()
    first = run.begin(0, 1)
    second = run.begin(2, 3)
    assert tally.snapshot().packs == 2
    run.writer.record([report(trial, 1, worker="node-1:7") for trial in first])
    assert tally.snapshot().packs == 2
    run.writer.record([report(trial, 1, worker="node-2:7") for trial in second])
    assert tally.snapshot().packs == 2
    run.diverge(second[0])
    assert tally.snapshot().packs == 2
    run.diverge(second[1])
    assert tally.snapshot().packs == 1


def test_a_lost_attempt_counts_as_a_retry_and_its_epochs_do_not_count(play: SimulatedDispatcher) -> None:
    run, tally = play.run(max_retries=2), play.store.metrics_reader()
    (trial,) = run.begin(0)
    run.writer.record([report(trial, 1)])
    assert (tally.snapshot().epochs, tally.snapshot().retries) == (1, 0)
    run.writer.requeue([(trial.id, trial.attempt)], reason="its worker was lost", max_retries=2)
    assert (tally.snapshot().epochs, tally.snapshot().retries) == (0, 1)


def test_the_epochs_and_retries_of_deleted_studies_still_count(play: SimulatedDispatcher) -> None:
    run, tally = play.run(max_retries=2), play.store.metrics_reader()
    done, lost = run.begin(0, 1)
    run.complete(done, 0.9)
    run.writer.requeue([(lost.id, lost.attempt)], reason="its worker was lost", max_retries=2)
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    empty = play.submit()
    play.store.move(empty, StudyMove.CANCEL)
    before = tally.snapshot()
    assert (before.epochs, before.retries) == (run.study.epochs, 1)
    for study_id in (run.claim.study_id, empty):
        play.store.delete(study_id)
    for reader in (tally, play.store.metrics_reader()):
        now = reader.snapshot()
        assert (now.epochs, now.retries) == (before.epochs, 1)
        assert (sum(now.trials.values()), sum(now.studies.values())) == (0, 0)
    again = play.run()
    again.complete(again.begin(0)[0], 0.8)
    assert tally.snapshot().epochs == before.epochs + again.study.epochs


def test_the_longest_wait_counts_from_when_the_study_was_queued(
    play: SimulatedDispatcher, change: Callable[..., None]
) -> None:
    tally = play.store.metrics_reader()
    first, _ = play.submit(), play.submit()
    change(
        "UPDATE event SET at = :at WHERE study_id = :study",
        at=datetime.now(UTC) - timedelta(seconds=90),
        study=first,
    )
    assert tally.snapshot().queued_for_s == pytest.approx(90, abs=5)
    # A study that was queued again has waited since then, not since its submission.
    play.store.move(first, StudyMove.PAUSE)
    assert tally.snapshot().queued_for_s == pytest.approx(0, abs=5)
    play.store.move(first, StudyMove.RESUME)
    assert tally.snapshot().queued_for_s == pytest.approx(0, abs=5)


def test_the_silence_of_a_running_study_grows_until_its_next_event(
    play: SimulatedDispatcher, change: Callable[..., None]
) -> None:
    run, tally = play.run(), play.store.metrics_reader()
    change("UPDATE event SET at = :at", at=datetime.now(UTC) - timedelta(seconds=40))
    assert tally.snapshot().silent_for_s == pytest.approx(40, abs=5)
    run.begin(0)
    assert tally.snapshot().silent_for_s == pytest.approx(0, abs=5)
    run.writer.close(StudyMove.FINISH)
    assert tally.snapshot().silent_for_s is None


def test_a_clock_that_is_ahead_does_not_make_waits_negative(
    play: SimulatedDispatcher, change: Callable[..., None]
) -> None:
    play.submit()
    change("UPDATE event SET at = :at", at=datetime.now(UTC) + timedelta(seconds=40))
    assert play.store.metrics_reader().snapshot().queued_for_s == 0


def test_the_trials_of_a_closed_study_are_counted_again_only_after_an_extension(
    play: SimulatedDispatcher, statements: list[str]
) -> None:
    run, tally = play.run(), play.store.metrics_reader()
    run.complete(run.begin(0)[0], 0.9)
    run.writer.close(StudyMove.FINISH)
    before = tally.snapshot()
    statements.clear()
    assert tally.snapshot().trials == before.trials
    assert len([one for one in statements if "FROM trial" in one]) == 0
    play.extend(run.claim.study_id, trials_per_arm=2)
    again = play.claim()
    again.complete(again.begin(9)[0], 0.8)
    again.writer.close(StudyMove.FINISH)
    after = tally.snapshot()
    assert after.trials[TrialState.COMPLETED] == before.trials[TrialState.COMPLETED] + 1
    assert after.epochs == before.epochs + 2


def test_a_snapshot_takes_four_queries_for_any_number_of_studies(
    play: SimulatedDispatcher, statements: list[str]
) -> None:
    for _ in range(5):
        play.submit()
    tally = play.store.metrics_reader()
    statements.clear()
    tally.snapshot()
    # Reading the time is not counted.
    assert len([one for one in statements if one.lstrip().startswith("SELECT") and "FROM" in one]) == 4


def test_watchers_get_kind_and_seconds_of_every_transaction_even_if_it_fails(store: Store) -> None:
    calls: list[tuple[str, float]] = []
    store.on_transaction(lambda kind, seconds: calls.append((kind, seconds)))
    store.catalog()
    store.heartbeat("here")
    with pytest.raises(Exception, match="nobody"):
        store.revoke_token("nobody")
    assert [kind for kind, _ in calls] == ["read", "write", "write"]
    assert all(0 < seconds < 10 for _, seconds in calls)


def test_watchers_get_each_statement_without_its_values_and_its_end(
    store: Store,
) -> None:
    calls: list[tuple[str, BaseException | str | None]] = []

    def watch(statement: str) -> Callable[[BaseException | None], None]:
        calls.append((statement, "sent"))
        return lambda error: calls.append((statement, error))

    store.on_statement(watch)
    store.heartbeat("a-dispatcher-of-this-test")
    insert = next(statement for statement, _ in calls if statement.startswith("INSERT"))
    assert [what for statement, what in calls if statement == insert] == ["sent", None]
    assert not any("a-dispatcher-of-this-test" in statement for statement, _ in calls)


def test_watchers_get_the_error_of_a_failed_statement(play: SimulatedDispatcher) -> None:
    errors: list[BaseException] = []

    def watch(_statement: str) -> Callable[[BaseException | None], None]:
        return lambda error: None if error is None else errors.append(error)

    run = play.run()
    run.create(0)
    play.store.on_statement(watch)
    # A different trial with the same number: the database refuses it.
    with pytest.raises(IntegrityError):
        run.writer.create([NewTrial("adamp", 0, "sampled", {"lr": 0.5}, seed=8)])
    assert len(errors) == 1


def test_a_new_store_has_the_newest_revision(store: Store) -> None:
    found, needed = store.revisions()
    assert found is not None
    assert found == needed
