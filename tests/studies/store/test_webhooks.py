"""Stored webhooks and their outbox."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from catalogs import study_body
from simulated_dispatch import SimulatedDispatcher
from sqlalchemy import func, select, update

from studies.actors import Actor
from studies.errors import Conflict, Forbidden, IllegalMove, QuotaExceeded, SpecInvalid, WebhookNotFound
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store, events, tables
from studies.webhooks import (
    MAX_ATTEMPTS,
    MAX_WEBHOOKS_PER_OWNER,
    AttemptResult,
    Delivery,
    WebhookWithSecret,
    parse_webhook,
)

__all__: list[str] = []

ADA, BOB = Actor(name="ada", role="submitter"), Actor(name="bob", role="submitter")
VERA, ROOT = Actor(name="vera", role="viewer"), Actor(name="root", role="admin")
SPEC = parse_spec(study_body())
TAKEN = AttemptResult(status_code=200)
BROKEN = AttemptResult(status_code=500, error="the receiver answered 500")


def make(store: Store, *, by: Actor = ADA, **fields: object) -> WebhookWithSecret:
    return store.create_webhook(parse_webhook({"url": "https://hooks.example/tangent", **fields}), by=by)


def claim(store: Store, *, limit: int = 64, limit_per_webhook: int = 2) -> list[Delivery]:
    return list(store.claim_deliveries(lease_s=60.0, limit=limit, limit_per_webhook=limit_per_webhook))


def claimed_events(store: Store) -> list[tuple[str, str]]:
    """Claim all due deliveries, and return the webhook and the event of each."""
    found: list[tuple[str, str]] = []
    while batch := store.claim_deliveries(lease_s=60.0, limit_per_webhook=100):
        for delivery in batch:
            found.append((delivery.webhook_id, delivery.event))
            store.settle_delivery(delivery, TAKEN)
    return found


def age(store: Store, *, due: bool = True, **columns: datetime) -> None:
    """Make pending deliveries due now, and set the webhook's columns to these times."""
    with store._database.write() as connection:
        if due:
            now = datetime.now(UTC) - timedelta(seconds=1)
            connection.execute(
                update(tables.delivery).where(tables.delivery.c.state == "pending").values(due_at=now)
            )
        if columns:
            connection.execute(update(tables.webhook).values(**columns))


def test_webhooks_report_each_state_except_stopping_and_cancelling(store: Store) -> None:
    webhook = make(store)
    study = store.submit(SPEC, by=ADA).id
    run = SimulatedDispatcher(store).claim()
    store.move(study, StudyMove.PAUSE, by=ADA)
    store.move(study, StudyMove.RESUME, by=ADA)
    run.writer.resume_running()
    run.begin(0)
    store.move(study, StudyMove.STOP, by=ADA)
    run.writer.close(StudyMove.FINISH)
    bodies = [
        json.loads(delivery.body)
        for delivery in sorted(
            claim(store, limit_per_webhook=100), key=lambda each: json.loads(each.body)["data"]["event"]
        )
    ]
    assert [body["type"] for body in bodies] == [
        "study.queued",
        "study.running",
        "study.paused",
        "study.queued",
        "study.running",
        "study.completed",
    ]
    assert [(body["data"]["state_before"], body["data"]["state"]) for body in bodies] == [
        (None, "queued"),
        ("queued", "running"),
        ("running", "paused"),
        ("paused", "queued"),
        ("queued", "running"),
        ("stopping", "completed"),
    ]
    last, view = bodies[-1], store.study(study)
    assert last["data"] == {
        "study_id": study,
        "name": view.name,
        "workload": view.workload,
        "suite": None,
        "owner": "ada",
        "state_before": "stopping",
        "state": "completed",
        "state_reason": "stopped before its budget was spent",
        "event": store.events(study)[-1].id,
        "path": f"/v1/studies/{study}",
    }
    assert datetime.fromisoformat(last["timestamp"]) == store.events(study)[-1].at
    assert store.webhook(webhook.id, by=ADA).deliveries[0].study_id == study


def test_rolled_back_events_are_not_reported(store: Store) -> None:
    make(store)
    study = store.submit(SPEC, by=ADA).id
    assert len(claimed_events(store)) == 1
    with pytest.raises(IllegalMove):
        store.move(study, StudyMove.RESUME, by=ADA)
    with store._database.write() as connection:
        events.append(
            connection, study, [("study.state", {"from": "queued", "to": "failed", "reason": None})]
        )
        assert (
            connection.execute(
                select(func.count()).select_from(tables.delivery).where(tables.delivery.c.state == "pending")
            ).scalar_one()
            == 1
        )
        connection.rollback()
    assert claimed_events(store) == []


def test_a_submitters_webhook_reports_their_studies_and_an_admins_may_report_all(store: Store) -> None:
    adas, roots, everybodys = make(store), make(store, by=ROOT), make(store, by=ROOT, studies="all")
    nobodys = make(store, by=Actor(name=None, role="admin"))
    for owner in (ADA, BOB, ROOT, Actor(name=None, role="admin")):
        store.submit(SPEC, by=owner)
    found = sorted(webhook for webhook, _ in claimed_events(store))
    assert found == sorted([adas.id, roots.id, nobodys.id, *[everybodys.id] * 4])
    with pytest.raises(Forbidden):
        make(store, studies="all")


def test_a_webhook_reports_only_its_events_and_suite(store: Store) -> None:
    ends = make(store, events=["study.cancelled", "study.failed"])
    suite = make(store, suite="small", events=["study.queued"])
    study = store.submit(SPEC, by=ADA).id
    store.submit(parse_spec(study_body(suite="small")), by=ADA)
    store.move(study, StudyMove.CANCEL, by=ADA)
    assert sorted(claimed_events(store)) == sorted([(suite.id, "study.queued"), (ends.id, "study.cancelled")])


def test_only_its_owner_and_admins_see_a_webhook(store: Store) -> None:
    webhook = make(store)
    for actor in (BOB, VERA, Actor(name="ada", role="viewer")):
        for forbidden in (store.webhook, store.ping_webhook, store.enable_webhook, store.remove_webhook):
            with pytest.raises(WebhookNotFound):
                forbidden(webhook.id, by=actor)
    assert store.webhooks(by=BOB).items == ()
    assert (
        [each.id for each in store.webhooks(by=ADA).items]
        == [each.id for each in store.webhooks(by=ROOT).items]
        == [webhook.id]
    )
    with pytest.raises(Forbidden):
        make(store, by=VERA)
    store.remove_webhook(webhook.id, by=ROOT)
    with pytest.raises(WebhookNotFound):
        store.webhook(webhook.id, by=ADA)
    assert [(entry.actor, entry.verb, entry.subject) for entry in store.audit().items] == [
        ("root", "webhook.remove", webhook.id),
        ("ada", "webhook.create", webhook.id),
    ]


def test_a_secret_is_shown_once(store: Store) -> None:
    webhook = make(store)
    store.ping_webhook(webhook.id, by=ADA)
    seen = [
        store.webhook(webhook.id, by=ADA),
        store.webhooks(by=ADA),
        store.enable_webhook(webhook.id, by=ADA),
        store.audit(),
        *claim(store),
    ]
    assert webhook.secret.startswith("whsec_")
    assert all(webhook.secret not in repr(each) for each in seen)


def test_the_number_of_webhooks_of_an_owner_is_bounded(store: Store) -> None:
    *_, last = [make(store) for _ in range(MAX_WEBHOOKS_PER_OWNER)]
    with pytest.raises(QuotaExceeded, match="20"):
        make(store)
    make(store, by=BOB)
    store.remove_webhook(last.id, by=ADA)
    make(store)
    page = store.webhooks(by=ADA, page_size=15)
    rest = store.webhooks(by=ADA, page_size=15, page_token=page.next_page_token)
    assert (page.total, len({each.id for each in (*page.items, *rest.items)}), rest.next_page_token) == (
        20,
        20,
        None,
    )
    with pytest.raises(SpecInvalid):
        store.webhooks(by=BOB, page_token=page.next_page_token)


def test_a_claimed_delivery_cannot_be_claimed_until_its_lease_ends(store: Store, database_url: str) -> None:
    make(store)
    store.submit(SPEC, by=ADA)
    other = Store.open(database_url, migrate=False)
    (first,) = claim(store)
    assert claim(other) == []
    age(store)
    (second,) = claim(other)
    assert (second.id, second.body, first.attempt, second.attempt) == (first.id, first.body, 1, 2)
    assert store.settle_delivery(first, TAKEN) == "superseded", (
        "a late result of the first service must be rejected"
    )
    assert other.settle_delivery(second, TAKEN) == "delivered"
    assert other.settle_delivery(second, BROKEN) == "superseded"
    other.close()


def test_concurrent_services_never_claim_the_same_delivery(store: Store, database_url: str) -> None:
    for _ in range(5):
        make(store)
    for _ in range(6):
        store.submit(SPEC, by=ADA)
    taken: list[str] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        other = Store.open(database_url, migrate=False)
        barrier.wait()
        misses = 0
        while misses < 3:
            batch = other.claim_deliveries(lease_s=60.0, limit=3)
            misses = 0 if batch else misses + 1
            for delivery in batch:
                taken.append(delivery.id)
                assert other.settle_delivery(delivery, TAKEN) == "delivered"
        other.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    taken += [delivery.id for delivery in claim(store, limit_per_webhook=100)]
    assert (len(taken), len(set(taken))) == (30, 30)


def test_one_webhook_cannot_take_all_claims(store: Store) -> None:
    many = make(store)
    for _ in range(10):
        store.submit(SPEC, by=ADA)
    few = make(store, by=BOB)
    store.submit(SPEC, by=BOB)
    found = [delivery.webhook_id for delivery in claim(store, limit=4, limit_per_webhook=2)]
    assert sorted(found) == sorted([many.id, many.id, few.id])
    assert store.claim_deliveries(lease_s=60.0, busy={many.id}) == ()
    assert len(claim(store, limit_per_webhook=100)) == 8


def test_a_failed_delivery_is_retried_and_given_up_after_a_day(store: Store) -> None:
    webhook = make(store, events=["study.queued"])
    store.submit(SPEC, by=ADA)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (delivery,) = claim(store)
        assert delivery.attempt == attempt
        became = store.settle_delivery(delivery, AttemptResult(error="no answer within 10 s"))
        assert became == ("retried" if attempt < MAX_ATTEMPTS else "given_up")
        assert claim(store) == [], "the retry is not due yet"
        if attempt == 1:
            (waiting,) = store.webhook(webhook.id, by=ADA).deliveries
            assert waiting.due_at is not None
            assert 3.5 < (waiting.due_at - datetime.now(UTC)).total_seconds() < 6.5
        age(store)
    seen = store.webhook(webhook.id, by=ADA)
    (delivery,) = seen.deliveries
    assert (delivery.state, delivery.attempts, delivery.status_code, delivery.error) == (
        "failed",
        10,
        None,
        "no answer within 10 s",
    )
    assert (delivery.due_at, seen.disabled_at) == (None, None)
    assert delivery.ended_at is not None
    assert seen.failing_since is not None
    store.submit(SPEC, by=ADA)
    assert len(claimed_events(store)) == 1
    assert store.webhook(webhook.id, by=ADA).failing_since is None


def test_retry_after_is_respected(store: Store) -> None:
    webhook = make(store)
    store.submit(SPEC, by=ADA)
    store.settle_delivery(
        claim(store)[0],
        AttemptResult(status_code=429, error="the receiver answered 429", retry_after_s=3600.0),
    )
    (delivery,) = store.webhook(webhook.id, by=ADA).deliveries
    assert delivery.due_at is not None
    assert 3500 < (delivery.due_at - datetime.now(UTC)).total_seconds() < 3700
    age(store)
    store.settle_delivery(claim(store)[0], AttemptResult(status_code=503, error="x", retry_after_s=1e9))
    (delivery,) = store.webhook(webhook.id, by=ADA).deliveries
    assert delivery.due_at is not None
    assert (delivery.due_at - datetime.now(UTC)).total_seconds() < 8 * 3600 + 60


def test_a_410_disables_a_webhook_until_it_is_enabled(store: Store) -> None:
    webhook = make(store, events=["study.queued"])
    for _ in range(3):
        store.submit(SPEC, by=ADA)
    delivery = claim(store)[0]
    assert (
        store.settle_delivery(
            delivery, AttemptResult(status_code=410, error="the receiver answered 410 Gone")
        )
        == "disabled"
    )
    seen = store.webhook(webhook.id, by=ADA)
    assert (seen.disabled_reason, {each.state for each in seen.deliveries}) == (
        "its receiver answered 410 Gone",
        {"failed"},
    )
    store.submit(SPEC, by=ADA)
    age(store)
    assert claimed_events(store) == []
    with pytest.raises(Conflict, match="410 Gone"):
        store.ping_webhook(webhook.id, by=ADA)
    assert store.enable_webhook(webhook.id, by=ADA).disabled_at is None
    store.submit(SPEC, by=ADA)
    assert claimed_events(store) == [(webhook.id, "study.queued")]


def test_a_webhook_is_disabled_after_days_without_an_accepted_delivery(store: Store) -> None:
    webhook = make(store, events=["study.queued"])
    store.submit(SPEC, by=ADA)
    long_ago = datetime.now(UTC) - timedelta(days=6)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (delivery,) = claim(store)
        became = store.settle_delivery(delivery, BROKEN)
        assert became == ("retried" if attempt < MAX_ATTEMPTS else "disabled")
        age(store, failing_since=long_ago)
    reason = store.webhook(webhook.id, by=ADA).disabled_reason or ""
    assert reason.startswith(f"its receiver has accepted nothing since {long_ago:%Y-%m-%d}")


def test_a_ping_is_sent_once(store: Store) -> None:
    webhook = make(store)
    ping = store.ping_webhook(webhook.id, by=ADA)
    assert store.ping_webhook(webhook.id, by=ADA).id == ping.id, "only one ping may be pending"
    (delivery,) = claim(store)
    assert (delivery.id, delivery.event, json.loads(delivery.body)["data"]) == (
        ping.id,
        "webhook.ping",
        {"webhook_id": webhook.id},
    )
    assert store.settle_delivery(delivery, BROKEN) == "given_up"
    assert store.ping_webhook(webhook.id, by=ADA).id != ping.id


def test_a_released_delivery_is_due_at_once(store: Store) -> None:
    make(store)
    store.submit(SPEC, by=ADA)
    (delivery,) = claim(store)
    store.release_delivery(delivery)
    (again,) = claim(store)
    assert (again.id, again.attempt) == (delivery.id, 2)
    assert store.settle_delivery(delivery, TAKEN) == "superseded"
    store.release_delivery(delivery)
    assert claim(store) == []


def test_removing_a_webhook_deletes_its_deliveries(store: Store) -> None:
    webhook = make(store)
    store.submit(SPEC, by=ADA)
    (delivery,) = claim(store)
    store.remove_webhook(webhook.id, by=ADA)
    assert store.settle_delivery(delivery, TAKEN) == "superseded"
    age(store)
    assert claim(store) == []


def test_revoking_a_token_disables_its_webhooks(store: Store) -> None:
    store.create_token("ada", role="submitter")
    webhook = make(store)
    store.submit(SPEC, by=ADA)
    store.revoke_token("ada")
    seen = store.webhook(webhook.id, by=ROOT)
    assert (seen.disabled_reason, [each.state for each in seen.deliveries]) == (
        "the token that created it was revoked",
        ["failed"],
    )
    assert claimed_events(store) == []
    with pytest.raises(Conflict, match="belongs to token 'ada', which is revoked"):
        store.enable_webhook(webhook.id, by=ROOT)


def test_old_deliveries_are_deleted(store: Store) -> None:
    webhook = make(store)
    store.submit(SPEC, by=ADA)
    claimed_events(store)
    store.submit(SPEC, by=ADA)
    assert store.delete_settled_deliveries(older_than=timedelta(days=1)) == 0
    assert store.delete_settled_deliveries(older_than=timedelta(seconds=-1)) == 1
    assert [each.state for each in store.webhook(webhook.id, by=ADA).deliveries] == ["pending"]


def test_a_ping_during_a_removal_is_queued_once_or_not_at_all(store: Store, database_url: str) -> None:
    other = Store.open(database_url, migrate=False)
    made: list[str] = []

    def ping(webhook_id: str) -> None:
        try:
            made.append(other.ping_webhook(webhook_id, by=ADA).id)
        except WebhookNotFound:
            made.append("")

    for _ in range(10):
        webhook_id = make(store).id
        pings = [threading.Thread(target=ping, args=(webhook_id,)) for _ in range(2)]
        for thread in pings:
            thread.start()
        store.remove_webhook(webhook_id, by=ADA)
        for thread in pings:
            thread.join(30)
        assert len(made) == 2, "both pings must return"
        assert len({ping_id for ping_id in made if ping_id}) <= 1
        made.clear()
    other.close()


def test_removing_webhooks_while_events_are_added_breaks_neither(store: Store, database_url: str) -> None:
    faults: list[Exception] = []
    done = threading.Event()

    def come_and_go() -> None:
        other = Store.open(database_url, migrate=False)
        try:
            while not done.is_set():
                webhook = make(other)
                other.claim_deliveries(lease_s=60.0)
                other.remove_webhook(webhook.id, by=ADA)
        except Exception as error:  # noqa: BLE001 # re-raised in the test's main thread
            faults.append(error)
        other.close()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    for _ in range(15):
        study = store.submit(SPEC, by=ADA).id
        store.move(study, StudyMove.CANCEL, by=ADA)
        for delivery in claim(store):
            store.settle_delivery(delivery, BROKEN)
    done.set()
    thread.join(60)
    assert faults == []
    assert store.studies().total == 15
