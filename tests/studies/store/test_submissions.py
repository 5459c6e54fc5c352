"""Submitting and moving studies."""

import threading
from collections.abc import Callable

import pytest
from catalogs import catalog, study_body
from simulated_dispatch import SimulatedDispatcher, report

from studies.actors import Actor
from studies.errors import (
    CatalogEmpty,
    Conflict,
    IdempotencyConflict,
    IllegalMove,
    SpecInvalid,
    StudyNotFound,
    VersionConflict,
)
from studies.spec import parse_spec
from studies.states import OWNER_MOVES, StudyMove, StudyState, TrialState
from studies.store import Store

__all__: list[str] = []

SPEC = parse_spec(study_body())


def kinds(store: Store, study_id: str) -> list[str]:
    return [event.kind for event in store.events(study_id)]


def test_a_submitted_study_is_stored_with_its_plan(store: Store) -> None:
    study = store.submit(SPEC, by=Actor(name="ada", role="submitter"))
    assert (study.state, study.version, study.owner, study.state_reason) == (
        StudyState.QUEUED,
        1,
        "ada",
        None,
    )
    assert (study.spec, study.workload_card, study.epochs, study.batch_size) == (
        SPEC,
        catalog().workloads["digits-mlp"],
        2,
        32,
    )
    assert (study.arms, study.verbs) == (("adamp", "adamw"), ("pause", "stop", "cancel"))
    assert (study.progress.trials, study.progress.finished, study.progress.epochs) == (6, 0, 12)
    assert study.created_at.tzinfo is not None
    assert (study.started_at, study.ended_at) == (None, None)
    assert store.study(study.id) == study
    assert kinds(store, study.id) == ["study.submitted"]
    assert store.events(study.id)[0].data == {
        "name": "adamp, adamw on digits-mlp",
        "arms": ["adamp", "adamw"],
    }


def test_ids_are_short_and_all_different(store: Store) -> None:
    ids = {store.submit(SPEC).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(study_id) == 8 and study_id.isalnum() for study_id in ids)


def test_an_invalid_study_is_not_stored(store: Store) -> None:
    with pytest.raises(SpecInvalid, match="did you mean 'adamp'"):
        store.submit(parse_spec(study_body(arms=["adam-p"])), idempotency_key="k")
    assert store.studies().total == 0
    assert store.submit(SPEC, idempotency_key="k"), "a rejected study must not use up its key"


def test_a_key_finds_its_study_after_the_catalog_has_changed(store: Store) -> None:
    first = store.submit(SPEC, idempotency_key="k")
    with store._database.write() as connection:
        connection.exec_driver_sql(f"DELETE FROM offer WHERE name = '{SPEC.workload}'")
    with pytest.raises(SpecInvalid):
        store.submit(SPEC)
    assert store.submit(SPEC, idempotency_key="k").id == first.id


def test_nothing_can_be_submitted_before_a_dispatcher_has_announced_itself(empty_url: str) -> None:
    store = Store.open(empty_url)
    with pytest.raises(CatalogEmpty):
        store.submit(SPEC)
    store.close()


def test_a_repeated_request_returns_the_existing_study(store: Store) -> None:
    first = store.submit(SPEC, by=Actor(name="ada", role="submitter"), idempotency_key="k")
    store.move(first.id, StudyMove.PAUSE)
    again = store.submit(SPEC, by=Actor(name="ada", role="submitter"), idempotency_key="k")
    assert (again.id, again.state) == (first.id, StudyState.PAUSED), (
        "a repeated request returns the study's current state"
    )
    assert store.studies().total == 1
    assert kinds(store, first.id) == ["study.submitted", "study.state"]


def test_a_key_identifies_one_study_of_one_owner(store: Store) -> None:
    first = store.submit(SPEC, by=Actor(name="ada", role="submitter"), idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match=first.id):
        store.submit(
            parse_spec(study_body(seed=1)), by=Actor(name="ada", role="submitter"), idempotency_key="k"
        )
    others = [("bob", "k"), (None, "k"), ("ada", "k2"), ("", "k")]
    made = {
        store.submit(SPEC, by=Actor(name=owner, role="submitter"), idempotency_key=key).id
        for owner, key in others
    }
    assert len(made | {first.id}) == 5
    one = store.submit(SPEC, by=Actor(name="a/b", role="submitter"), idempotency_key="c")
    assert store.submit(SPEC, by=Actor(name="a", role="submitter"), idempotency_key="b/c").id != one.id
    assert store.studies().total == 7


def test_a_key_may_be_any_text(store: Store) -> None:
    for key in ("k" * 10_000, "\0", "\ud800", "", "🐙"):
        assert store.submit(SPEC, idempotency_key=key).id == store.submit(SPEC, idempotency_key=key).id


def at_once(count: int, do: Callable[[int], None]) -> list[BaseException]:
    """Run `do` in this many threads at the same moment, and return the errors."""
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def run(n: int) -> None:
        barrier.wait()
        try:
            do(n)
        except BaseException as error:  # noqa: BLE001 # the test looks at it
            raised.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


def test_one_request_sent_concurrently_creates_one_study(store: Store) -> None:
    ids: list[str] = []
    raised = at_once(8, lambda _: ids.append(store.submit(SPEC, idempotency_key="k").id))
    assert not raised
    assert (len(ids), len(set(ids)), store.studies().total) == (8, 1, 1)


def test_two_concurrent_requests_with_one_key_create_one_study_and_one_conflict(store: Store) -> None:
    specs = [SPEC, parse_spec(study_body(seed=1))]
    raised = at_once(2, lambda n: store.submit(specs[n], idempotency_key="k") and None)
    assert [type(error) for error in raised] == [IdempotencyConflict]
    assert isinstance(raised[0], Conflict)


@pytest.mark.parametrize(
    ("verb", "after", "reason"),
    [
        (StudyMove.PAUSE, StudyState.PAUSED, None),
        (StudyMove.STOP, StudyState.COMPLETED, "stopped before its budget was spent"),
        (StudyMove.CANCEL, StudyState.CANCELLED, "cancelled by its owner"),
    ],
)
def test_a_verb_takes_effect_at_once_on_a_study_without_a_run(
    store: Store, verb: StudyMove, after: StudyState, reason: str | None
) -> None:
    study = store.submit(SPEC)
    moved = store.move(study.id, verb)
    assert (moved.state, moved.state_reason) == (after, reason)
    assert moved.version > study.version
    assert (moved.ended_at is None) is (verb is StudyMove.PAUSE)
    last = store.events(study.id)[-1]
    assert (last.kind, last.data["to"], last.data["reason"]) == ("study.state", after, reason)


def test_a_paused_study_can_be_resumed(store: Store) -> None:
    study = store.submit(SPEC)
    assert store.move(study.id, StudyMove.PAUSE).verbs == ("resume", "stop", "cancel")
    assert store.claim_next(dispatcher="here", lease_s=60) is None, "a paused study must not be claimed"
    assert store.move(study.id, StudyMove.RESUME).state is StudyState.QUEUED
    assert store.claim_next(dispatcher="here", lease_s=60) is not None


@pytest.mark.parametrize(
    ("verb", "between"), [(StudyMove.STOP, StudyState.STOPPING), (StudyMove.CANCEL, StudyState.CANCELLING)]
)
def test_a_study_with_a_run_is_closed_by_its_run(
    play: SimulatedDispatcher, verb: StudyMove, between: StudyState
) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    assert play.store.move(run.claim.study_id, verb).state is between
    assert run.trial(trial).state is TrialState.RUNNING
    assert run.writer.renew() is between, "the run must see the new state at its next renewal"


def test_running_trials_are_cancelled_with_their_study_and_the_last_event_is_its_state(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    done, running = run.begin(0, 1)
    queued = run.create(2)[0]
    run.complete(done, 0.9)
    play.store.move(run.claim.study_id, StudyMove.CANCEL)
    assert run.writer.close(StudyMove.FINISH) is StudyState.CANCELLED
    assert run.trial(done).state is TrialState.COMPLETED
    for trial in (running, queued):
        assert (run.trial(trial).state, run.trial(trial).reason) == (
            TrialState.CANCELLED,
            "the study was cancelled",
        )
        assert run.trial(trial).ended_at is not None
    *_, (kind, progress), last = run.every_event()
    assert last == (
        "study.state",
        {"from": "cancelling", "to": "cancelled", "reason": "cancelled by its owner"},
    )
    assert kind == "progress"
    assert progress["study"] == run.study.progress.model_dump(), (
        "the last progress event must count the cancelled trials"
    )


def test_moves_of_runs_are_refused_to_users(store: Store) -> None:
    study = store.submit(SPEC)
    for verb in set(StudyMove) - set(OWNER_MOVES):
        with pytest.raises(IllegalMove) as raised:
            store.move(study.id, verb)
        assert raised.value.allowed == ("pause", "stop", "cancel")
    assert store.study(study.id) == study


def test_an_illegal_verb_changes_nothing(store: Store) -> None:
    study = store.submit(SPEC)
    with pytest.raises(
        IllegalMove, match="cannot resume a study that is queued: it allows pause, stop, cancel"
    ):
        store.move(study.id, StudyMove.RESUME)
    assert store.study(study.id) == study
    assert kinds(store, study.id) == ["study.submitted"]


def test_a_closed_study_cannot_be_moved(store: Store) -> None:
    study = store.move(store.submit(SPEC).id, StudyMove.CANCEL)
    for verb in OWNER_MOVES:
        with pytest.raises(IllegalMove):
            store.move(study.id, verb)
    assert store.study(study.id) == study


def test_a_change_of_an_older_version_conflicts(store: Store) -> None:
    study = store.submit(SPEC)
    paused = store.move(study.id, StudyMove.PAUSE, if_version=study.version)
    assert paused.version == study.version + 1
    with pytest.raises(
        VersionConflict, match=f"is at version {paused.version}, not {study.version}; read it again"
    ):
        store.move(study.id, StudyMove.CANCEL, if_version=study.version)
    assert store.study(study.id) == paused


def test_of_two_concurrent_changes_to_one_version_one_succeeds(store: Store) -> None:
    study = store.submit(SPEC)
    raised = at_once(6, lambda _: store.move(study.id, StudyMove.PAUSE, if_version=study.version) and None)
    assert [type(error) for error in raised] == [VersionConflict] * 5
    assert store.study(study.id).version == study.version + 1


def test_a_missing_study_cannot_be_moved_or_read(store: Store) -> None:
    asks = (
        store.study,
        store.arms,
        store.every_trial,
        store.curves,
        store.events,
        store.trials,
        lambda s: store.move(s, StudyMove.PAUSE),
    )
    for study_id in ("nothing", "", "k3f9x2ab" * 100, "a\0b", "\ud800"):
        for ask in asks:
            with pytest.raises(StudyNotFound):
                ask(study_id)


def test_versions_count_changes_of_state_and_nothing_else(play: SimulatedDispatcher) -> None:
    run = play.run()
    version = run.study.version
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1)])
    run.writer.report_progress()
    run.writer.renew()
    assert run.study.version == version
