"""Archived studies leave only the list, and deleted studies leave nothing but entries of the audit log."""

from typing import Any

import optuna
import pytest
from catalogs import study_body
from optuna_copies import storage_at
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report
from sqlalchemy import func, select

from studies.actors import Actor
from studies.artifacts import NewArtifact
from studies.errors import Forbidden, IllegalMove, NotOwner, StudyNotFound, VersionConflict
from studies.extension import more_seeds
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState
from studies.store import Store, tables
from studies.study_filter import StudyFilter
from studies.webhooks import WebhookSpec

__all__: list[str] = []

ADA, BOB = Actor(name="ada", role="submitter"), Actor(name="bob", role="submitter")
VERA, ROOT = Actor(name="vera", role="viewer"), Actor(name="root", role="admin")


@pytest.fixture(autouse=True)
def quietly() -> None:
    """Keep Optuna's log of every study out of the tests' output."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def weights(number: int) -> NewArtifact:
    id_ = f"{number:032x}"
    return NewArtifact(id=id_, kind="weights", name="a.pt", size=10, sha256="ab" * 32, url=f"/kept/{id_}")


def finished(play: SimulatedDispatcher, number: int = 1, **fields: Any) -> SimulatedRun:
    """Return a completed study with something in each table."""
    run = play.run(suite="small", **fields)
    first, second = run.begin(0, 1)
    last = run.study.epochs
    run.writer.record([report(first, last, ended="completed", value=0.5, artifacts=[weights(number)])])
    run.complete(second, 0.9)
    play.store.move(run.claim.study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    return run


def rows_of(store: Store, study_id: str) -> dict[str, int]:
    """Return how many rows of each table belong to a study."""
    found: dict[str, int] = {}
    with store._database.read() as connection:
        for table in tables.metadata.sorted_tables:
            key = next((name for name in ("study_id", "trial_id") if name in table.c), None)
            if table.name in {"audit", "deletion"} or (key is None and table.name != "study"):
                continue
            column = table.c.id if key is None else table.c[key]
            is_own = column == study_id if key != "trial_id" else column.like(f"{study_id}.%")
            count = connection.execute(select(func.count()).select_from(table).where(is_own)).scalar_one()
            if count:
                found[table.name] = count
    return found


def listed(store: Store, *, is_archived: bool = False) -> list[str]:
    return [study.id for study in store.studies(StudyFilter(is_archived=is_archived)).items]


def test_a_label_moves_a_study_into_a_suite_and_out_of_it(play: SimulatedDispatcher) -> None:
    store = play.store
    first, other = (store.submit(parse_spec(study_body(suite=suite)), by=ADA).id for suite in ("small", None))
    before = store.study(other)
    for actor, error in ((VERA, Forbidden), (BOB, NotOwner)):
        with pytest.raises(error):
            store.label([other], "small", by=actor)
    with pytest.raises(StudyNotFound):
        store.label([other, "nosuch"], "small", by=ADA)
    with pytest.raises(VersionConflict):
        store.label([other], "small", by=ADA, if_version=before.version + 1)
    assert store.study(other) == before, "all studies or none"
    store.label([other, other], "small", by=ADA, if_version=before.version)
    after = store.study(other)
    assert (after.suite, after.spec.suite, after.version) == ("small", "small", before.version + 1)
    assert after.spec == before.spec.model_copy(update={"suite": "small"})
    store.label([other], "small", by=ADA)
    assert store.study(other) == after, "a repetition changes nothing"
    assert store.study_ids_of_suite("small") == (first, other)
    store.label([first, other], None, by=ROOT)
    assert store.suites() == ()
    entries = [(entry.verb, entry.actor, entry.subject) for entry in store.audit(study_id=other).items]
    assert entries == [("label", "root", None), ("label", "ada", "small"), ("submit", "ada", None)]


def test_an_archived_study_is_only_in_the_list_of_archived_studies(play: SimulatedDispatcher) -> None:
    store, run = play.store, finished(play)
    other = play.submit()
    study_id, before = run.claim.study_id, rows_of(store, run.claim.study_id)
    archived = store.archive(study_id, by=ROOT)
    assert archived.archived_at is not None
    assert (listed(store), listed(store, is_archived=True)) == ([other], [study_id])
    assert store.archive(study_id, by=ROOT).version == archived.version, "a repetition changes nothing"
    assert rows_of(store, study_id) == before
    assert store.study_ids_of_suite("small") == (study_id,)
    store.archive(study_id, is_archived=False, by=ROOT)
    assert sorted(listed(store)) == sorted([other, study_id])
    assert [entry.verb for entry in store.audit(study_id=study_id).items][:2] == ["unarchive", "archive"]


def test_an_archived_study_that_is_extended_is_in_the_list_again(play: SimulatedDispatcher) -> None:
    run = finished(play, confirmation={"seeds": 1})
    play.store.archive(run.claim.study_id)
    play.store.extend(run.claim.study_id, more_seeds(run.study.spec, seeds=2))
    assert listed(play.store) == [run.claim.study_id]


def test_deleting_a_study_removes_what_was_announced_and_nothing_else(play: SimulatedDispatcher) -> None:
    store = play.store
    store.create_webhook(
        WebhookSpec(url="https://hooks.example/x", events=("study.completed",), studies="all"), by=ROOT
    )
    kept, doomed = finished(play, 1), finished(play, 2)
    kept_id, study_id = kept.claim.study_id, doomed.claim.study_id
    for each in (kept_id, study_id):
        store.copy_to_optuna(each)
    before, others = rows_of(store, study_id), rows_of(store, kept_id)
    assert {"study", "arm", "trial", "measurement", "artifact", "event", "delivery"} <= before.keys()
    announced = store.contents(study_id)
    assert (announced.trials, announced.measurements) == (before["trial"], before["measurement"])
    assert (announced.artifacts, announced.artifact_bytes, announced.copies) == (1, 10, 2)
    assert (announced.events, announced.deliveries) == (before["event"], before["delivery"])
    assert (announced.suite, announced.left_in_suite) == ("small", 1)
    assert store.delete(study_id, by=ROOT) == announced
    assert rows_of(store, study_id) == {}
    assert rows_of(store, kept_id) == others
    with pytest.raises(StudyNotFound):
        store.study(study_id)
    (entry,) = store.audit(verb="delete").items
    assert (entry.actor, entry.study_id, entry.subject) == ("root", study_id, announced.name)
    assert store.deleted_ids([study_id, kept_id, "unknown"]) == {study_id}
    assert store.last_deleted_at() is not None


def test_copies_of_a_deleted_study_are_removed_from_optunas_tables(
    play: SimulatedDispatcher, database_url: str
) -> None:
    store, runs = play.store, [finished(play, number) for number in (1, 2)]
    kept_id, study_id = (run.claim.study_id for run in runs)
    for each in (kept_id, study_id):
        store.copy_to_optuna(each)
    store.delete(study_id)
    assert store.remove_deleted_copies() == 1
    assert store.remove_deleted_copies() == 0
    with storage_at(database_url) as storage:
        assert optuna.get_all_study_names(storage=storage) == [f"tangent/{kept_id}/adamp"]
        assert len(optuna.load_study(study_name=f"tangent/{kept_id}/adamp", storage=storage).trials) == 2
    with store._database.read() as connection:
        for table in ("trials", "trial_params", "trial_values", "trial_user_attributes"):
            ids = connection.exec_driver_sql(f"SELECT count(DISTINCT trial_id) FROM {table}").scalar_one()
            assert ids == 2, table


def test_only_a_closed_study_is_archived_or_deleted(store: Store) -> None:
    study_id = store.submit(parse_spec(study_body())).id
    for change in (store.archive, store.delete):
        with pytest.raises(IllegalMove, match="stop or cancel it first"):
            change(study_id)
    store.move(study_id, StudyMove.CANCEL)
    assert store.delete(study_id).state is StudyState.CANCELLED


def test_only_its_owner_or_an_admin_archives_or_deletes_a_study(store: Store) -> None:
    study = store.submit(parse_spec(study_body()), by=ADA)
    version = store.move(study.id, StudyMove.CANCEL, by=ADA).version
    for change in (store.archive, store.delete):
        for actor, error in ((BOB, NotOwner), (VERA, Forbidden)):
            with pytest.raises(error):
                change(study.id, by=actor)
        with pytest.raises(VersionConflict):
            change(study.id, by=ADA, if_version=version + 1)
    store.delete(study.id, by=ADA, if_version=version)


def test_quotas_count_the_gpu_hours_of_deleted_studies(store: Store) -> None:
    store.create_token("ada", role="submitter")
    resources = {"resources": {"gpus_per_pack": 1.0}}
    study_id = store.submit(parse_spec(study_body(**resources)), by=ADA).id
    run = SimulatedDispatcher(store).claim()
    (trial,) = run.begin(0)
    run.writer.record([report(trial, run.study.epochs, ended="completed", value=0.5, charged_s=3600.0)])
    store.move(study_id, StudyMove.STOP)
    run.writer.close(StudyMove.FINISH)
    (before,) = store.tokens_with_usage()
    store.delete(study_id)
    assert before.gpu_hours == 1.0
    assert store.tokens_with_usage() == (before,)


def test_the_last_run_of_a_deleted_study_ends(play: SimulatedDispatcher) -> None:
    run = finished(play)
    play.store.delete(run.claim.study_id)
    assert play.store.overdue_claims([run.claim], closed_for_s=600.0) == (run.claim,)
    play.store.release(run.claim)
    assert play.store.copy_to_optuna(run.claim.study_id) == 0
