"""Owners, quotas and the audit log, on each database."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from catalogs import study_body
from simulated_dispatch import SimulatedDispatcher, report

from studies.actors import OPERATOR, Actor
from studies.errors import (
    Forbidden,
    NotOwner,
    QuotaExceeded,
    SpecInvalid,
    TokenNotFound,
    Unauthenticated,
    VersionConflict,
)
from studies.extension import parse_extension
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.views import Quotas
from studies.webhooks import WebhookSpec

__all__: list[str] = []

SPEC = parse_spec(study_body())
ADA, BOB = Actor(name="ada", role="submitter"), Actor(name="bob", role="submitter")
VERA, ROOT = Actor(name="vera", role="viewer"), Actor(name="root", role="admin", address="10.0.0.1")
GPU = {"gpus_per_pack": 1.0}


def verbs(store: Store) -> list[tuple[str | None, str]]:
    """Return actors and verbs of the audit log, oldest first."""
    return [(entry.actor, entry.verb) for entry in reversed(store.audit().items)]


def test_only_its_owner_or_an_admin_moves_a_study(store: Store) -> None:
    study = store.submit(SPEC, by=ADA).id
    for actor, error in ((BOB, NotOwner), (VERA, Forbidden), (Actor(name="ada", role="viewer"), Forbidden)):
        with pytest.raises(error):
            store.move(study, StudyMove.PAUSE, by=actor)
    assert store.study(study).version == 1
    store.move(study, StudyMove.PAUSE, by=ADA)
    store.move(study, StudyMove.CANCEL, by=ROOT)
    assert verbs(store) == [("ada", "submit"), ("ada", "pause"), ("root", "cancel")]


def test_a_viewer_cannot_submit(store: Store) -> None:
    with pytest.raises(Forbidden, match="'vera' has the role viewer, but this needs the role submitter"):
        store.submit(SPEC, by=VERA)
    assert (store.studies().total, verbs(store)) == (0, [])


def test_only_its_owner_or_an_admin_extends_a_study(store: Store) -> None:
    play = SimulatedDispatcher(store)
    store.submit(SPEC, by=ADA)
    run = play.claim()
    run.writer.close(StudyMove.FINISH)
    with pytest.raises(NotOwner, match="belongs to 'ada', and 'bob' may change only their own studies"):
        store.extend(run.claim.study_id, parse_extension({"trials_per_arm": 4}), by=BOB)
    assert (
        store.extend(run.claim.study_id, parse_extension({"trials_per_arm": 4}), by=ADA).state
        is StudyState.QUEUED
    )


def test_refused_requests_are_not_in_the_audit_log(store: Store) -> None:
    study = store.submit(SPEC, by=ADA).id
    with pytest.raises(VersionConflict):
        store.move(study, StudyMove.PAUSE, by=ADA, if_version=9)
    assert verbs(store) == [("ada", "submit")]


def test_a_repeated_submission_is_in_the_audit_log_once(store: Store) -> None:
    for _ in range(2):
        store.submit(SPEC, by=ADA, idempotency_key="k")
    assert verbs(store) == [("ada", "submit")]


def test_the_audit_log_can_be_filtered_and_paged(store: Store) -> None:
    first, second = store.submit(SPEC, by=ADA).id, store.submit(SPEC, by=BOB).id
    store.move(first, StudyMove.PAUSE, by=ROOT)
    assert [entry.verb for entry in store.audit(study_id=first).items] == ["pause", "submit"]
    assert [entry.study_id for entry in store.audit(actor="bob").items] == [second]
    assert [entry.address for entry in store.audit(verb="pause").items] == ["10.0.0.1"]
    page = store.audit(page_size=2)
    assert (len(page.items), page.total) == (2, 3)
    assert store.audit(page_token=page.next_page_token).items[0].actor == "ada"
    with pytest.raises(SpecInvalid):
        store.audit(actor="ada", page_token=page.next_page_token)


def test_a_long_address_is_shortened_in_the_audit_log(store: Store) -> None:
    store.submit(SPEC, by=Actor(name="ada", role="submitter", address="x" * 5000 + "\0"))
    assert store.audit().items[0].address == "x" * 255


def test_only_an_admin_creates_changes_and_revokes_tokens(store: Store) -> None:
    for call in (
        lambda: store.create_token("eve", role="admin", by=ADA),
        lambda: store.set_quotas("ada", Quotas(), by=ADA),
        lambda: store.revoke_token("ada", by=ADA),
    ):
        with pytest.raises(Forbidden, match="needs the role admin"):
            call()
    store.create_token("ada", role="submitter", by=ROOT)
    store.set_quotas("ada", Quotas(max_studies=1), by=ROOT)
    store.revoke_token("ada", by=ROOT)
    assert [(entry.verb, entry.subject) for entry in reversed(store.audit().items)] == [
        ("token.create", "ada"),
        ("token.change", "ada"),
        ("token.revoke", "ada"),
    ]


def test_a_request_whose_token_was_revoked_meanwhile_changes_nothing(store: Store) -> None:
    store.create_token("ada", role="submitter")
    done, open_one = store.submit(SPEC, by=ADA).id, store.submit(SPEC, by=ADA).id
    SimulatedDispatcher(store).claim().writer.close(StudyMove.FINISH)
    store.revoke_token("ada")
    for late in (
        lambda: store.submit(SPEC, by=ADA),
        lambda: store.move(open_one, StudyMove.CANCEL, by=ADA),
        lambda: store.extend(done, parse_extension({"trials_per_arm": 4}), by=ADA),
        lambda: store.create_webhook(WebhookSpec(url="https://hooks.example/"), by=ADA),
    ):
        with pytest.raises(Unauthenticated):
            late()
    assert verbs(store)[-1] == (None, "token.revoke")


def test_a_token_may_have_as_many_open_studies_as_its_quota(store: Store) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_studies=2))
    first = store.submit(SPEC, by=ADA).id
    store.submit(SPEC, by=ADA, idempotency_key="k")
    with pytest.raises(QuotaExceeded, match="max_studies"):
        store.submit(SPEC, by=ADA)
    assert store.submit(SPEC, by=ADA, idempotency_key="k").owner == "ada", "a repeated request must not count"
    store.submit(SPEC, by=BOB)
    store.move(first, StudyMove.PAUSE, by=ADA)
    with pytest.raises(QuotaExceeded):
        store.submit(SPEC, by=ADA)
    store.move(first, StudyMove.CANCEL, by=ADA)
    assert store.submit(SPEC, by=ADA).state is StudyState.QUEUED
    assert (store.token("ada").open_studies, store.token("ada").quotas.max_studies) == (2, 2)


def test_quotas_of_zero_refuse_everything(store: Store) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_studies=0))
    with pytest.raises(QuotaExceeded):
        store.submit(SPEC, by=ADA)


def test_a_study_may_have_as_many_trials_as_its_owners_quota(store: Store) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_trials=10))
    # Two arms of three trials.
    study = store.submit(SPEC, by=ADA).id
    with pytest.raises(QuotaExceeded, match=r"at most 10 trials .*max_trials.* has 14\b"):
        store.submit(parse_spec(study_body(confirmation={"seeds": 2})), by=ADA)
    SimulatedDispatcher(store).claim().writer.close(StudyMove.FINISH)
    with pytest.raises(QuotaExceeded, match="this study has 12"):
        store.extend(study, parse_extension({"trials_per_arm": 6}), by=ADA)
    assert store.extend(study, parse_extension({"trials_per_arm": 5}), by=ADA).state is StudyState.QUEUED


def test_an_arm_with_few_configurations_counts_with_those(store: Store) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_trials=10))
    fixed = {"optimizer": "adamw", "space": {"lr": 0.001, "betas": [0.9, 0.999], "weight_decay": 0.01}}
    spec = parse_spec(study_body(arms=[fixed], budget={"trials_per_arm": 50, "epochs": 2}))
    study = store.submit(spec, by=ADA).id
    assert store.study(study).progress.trials == 1


def test_a_study_that_needs_a_gpu_is_refused_once_the_gpu_hours_are_used(store: Store) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_gpu_hours=1.0))
    spec = parse_spec(study_body(resources=GPU))
    study = store.submit(spec, by=ADA).id
    run = SimulatedDispatcher(store).claim()
    done, flying = run.begin(0, 1)
    run.complete(done, 0.9, cost_s=1600.0, charged_s=2400.0)
    assert store.token("ada").gpu_hours == pytest.approx(2400 / 3600)
    assert store.submit(spec, by=ADA).owner == "ada"
    run.writer.record([report(flying, 1, elapsed_s=1200.0, charged_s=1800.0)])
    assert store.token("ada").gpu_hours == pytest.approx(4200 / 3600)
    with pytest.raises(QuotaExceeded, match="max_gpu_hours"):
        store.submit(spec, by=ADA)
    assert store.submit(SPEC, by=ADA).owner == "ada", "a study on CPUs must still be accepted"
    store.move(study, StudyMove.PAUSE, by=ADA)
    with pytest.raises(QuotaExceeded):
        store.move(study, StudyMove.RESUME, by=ADA)
    store.set_quotas("ada", Quotas(max_gpu_hours=2.0), by=ROOT)
    assert store.move(study, StudyMove.RESUME, by=ADA).state is StudyState.QUEUED


def test_epochs_that_are_trained_again_are_charged_again(store: Store) -> None:
    store.create_token("ada", role="submitter")
    store.submit(parse_spec(study_body(resources={"gpus_per_pack": 1})), by=ADA)
    run = SimulatedDispatcher(store).claim()
    (lost,) = run.begin(0)
    run.writer.record([report(lost, 1, elapsed_s=100.0, charged_s=150.0)])
    (again,) = run.writer.requeue(
        [(lost.id, lost.attempt)], reason="its worker was lost", max_retries=3, charged_s=50.0
    )
    assert run.trial(lost).cost_s == 0.0
    assert store.token("ada").gpu_hours == pytest.approx(200 / 3600)
    run.writer.start([again])
    run.complete(again, 0.9, cost_s=200.0, charged_s=300.0)
    assert run.trial(again).cost_s == 200.0
    assert store.token("ada").gpu_hours == pytest.approx(500 / 3600)


def test_a_trial_that_fails_is_charged_for_its_last_attempt(store: Store) -> None:
    store.create_token("ada", role="submitter")
    store.submit(parse_spec(study_body(resources={"gpus_per_pack": 1})), by=ADA)
    run = SimulatedDispatcher(store).claim()
    (failing,) = run.begin(0)
    run.writer.requeue([(failing.id, 1)], reason="it broke", max_retries=0, charged_s=36.0)
    assert store.token("ada").gpu_hours == pytest.approx(0.01)


def test_a_report_that_arrives_twice_is_charged_once(store: Store) -> None:
    store.create_token("ada", role="submitter")
    store.submit(parse_spec(study_body(resources={"gpus_per_pack": 1})), by=ADA)
    run = SimulatedDispatcher(store).claim()
    (trial,) = run.begin(0)
    for _ in range(2):
        run.writer.record([report(trial, 1, charged_s=36.0)])
    assert store.token("ada").gpu_hours == pytest.approx(0.01)


def test_a_study_on_cpus_uses_no_gpu_hours(store: Store) -> None:
    store.create_token("ada", role="submitter")
    store.submit(SPEC, by=ADA)
    run = SimulatedDispatcher(store).claim()
    run.complete(run.begin(0)[0], 0.9, cost_s=7200.0, charged_s=7200.0)
    assert store.token("ada").gpu_hours == 0.0


def test_concurrent_submissions_cannot_exceed_a_quota(store: Store, database_url: str) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_studies=2))
    taken: list[str] = []
    refused: list[QuotaExceeded] = []
    barrier = threading.Barrier(6)

    def submit() -> None:
        # Each service has its own connections.
        other = Store.open(database_url, migrate=False)
        barrier.wait()
        try:
            taken.append(other.submit(SPEC, by=ADA).id)
        except QuotaExceeded as error:
            refused.append(error)
        other.close()

    _all_at_once(submit, 6)
    assert (len(taken), len(refused), store.token("ada").open_studies) == (2, 4, 2)


def test_concurrent_submissions_with_one_key_create_one_study(store: Store, database_url: str) -> None:
    store.create_token("ada", role="submitter", quotas=Quotas(max_studies=1))
    made: list[str] = []
    barrier = threading.Barrier(6)

    def submit() -> None:
        other = Store.open(database_url, migrate=False)
        barrier.wait()
        made.append(other.submit(SPEC, by=ADA, idempotency_key="k").id)
        other.close()

    _all_at_once(submit, 6)
    assert (len(made), len(set(made)), verbs(store)[1:]) == (6, 1, [("ada", "submit")])


def test_quotas_of_a_missing_token_cannot_be_set(store: Store) -> None:
    with pytest.raises(TokenNotFound):
        store.set_quotas("nobody", Quotas())
    with pytest.raises(TokenNotFound):
        store.token("nobody")


def test_only_an_admin_may_submit_high_priority(store: Store) -> None:
    high = parse_spec(study_body(resources={"priority": "high"}))
    with pytest.raises(Forbidden, match="'ada'"):
        store.submit(high, by=ADA)
    assert store.submit(high, by=ROOT).spec.resources.priority == "high"
    assert store.submit(high, by=OPERATOR).spec.resources.priority == "high", (
        "on an open service every caller may submit high priority"
    )
    assert (
        store.submit(parse_spec(study_body(resources={"priority": "low"})), by=ADA).spec.resources.priority
        == "low"
    )


def test_every_service_accepts_a_session_until_it_ends(store: Store, database_url: str) -> None:
    secret = store.create_token("ada", role="submitter")
    session = store.log_in(secret, lifetime=timedelta(hours=1), address="10.0.0.9")
    assert session is not None
    other = Store.open(database_url, migrate=False)
    found = other.session_owner(session)
    assert found is not None
    assert (found.name, found.last_used_at is None) == ("ada", True)
    assert store.tokens()[0].last_used_at is not None
    other.log_out(session, by=ADA)
    other.log_out(session, by=ADA)
    assert store.session_owner(session) is None
    assert verbs(store) == [(None, "token.create"), ("ada", "login"), ("ada", "logout")]
    assert store.audit(verb="login").items[0].address == "10.0.0.9"
    other.close()


def test_the_secret_of_a_session_is_not_stored(store: Store) -> None:
    session = store.log_in(
        store.create_token("ada", role="submitter"), lifetime=timedelta(hours=1), address=None
    )
    assert session is not None
    with store._database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM session").all()
    assert len(rows) == 1
    assert session not in str(rows)


def _all_at_once(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
