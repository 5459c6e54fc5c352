"""The outbox: deliveries to webhooks, from the transaction of their event until a receiver has accepted them.

A delivery is written in the transaction of the event that it reports: one is stored if and only if the other
is. Any service on the database may send it. A service claims a delivery by moving its `due_at` beyond the end
of its attempt, so that the others leave it alone; if the service dies, that time comes and another service
claims the delivery. So each delivery is sent at least once, and while services live, once per attempt.
"""

__all__ = [
    "claim",
    "delete_settled",
    "disable",
    "enqueue",
    "enqueue_events",
    "is_any_due",
    "release",
    "settle",
]

import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from studies.states import StudyState
from studies.store import clock, tables
from studies.webhooks import (
    MAX_ATTEMPTS,
    PING,
    AttemptOutcome,
    AttemptResult,
    Delivery,
    StudyEventData,
    WebhookPayload,
    backoff_s,
    is_subscribed,
)

_DISABLE_AFTER = timedelta(days=5)
# The longest wait that a receiver may ask for with Retry-After.
_MAX_RETRY_AFTER_S = 8 * 3600.0
_MAX_ERROR_LENGTH = 300
# Stopping and cancelling only wait for the run to end; no event reports them.
_REPORTED_STATES = frozenset(state.value for state in StudyState) - {
    StudyState.STOPPING.value,
    StudyState.CANCELLING.value,
}


def enqueue_events(connection: Connection, study_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a delivery for each new event of a study and each webhook that asks for it.

    Args:
        connection: the write transaction of the events.
        study_id: the study.
        rows: its new events, as rows of their table.
    """
    reported = [row for row in rows if _is_reported(row)]
    if not reported:
        return
    s, w = tables.study.c, tables.webhook.c
    columns = (s.name, s.workload, s.suite, s.owner, s.state, s.state_reason)
    study = connection.execute(select(*columns).where(s.id == study_id)).one()
    is_own = w.owner.is_(None) if study.owner is None else w.owner == study.owner
    covers_study = and_(
        w.disabled_at.is_(None),
        or_(w.studies == "all", is_own),
        or_(w.suite.is_(None), w.suite == study.suite),
    )
    # Locked until the transaction ends: if a webhook were deleted meanwhile, its delivery could not be
    # stored, and the event would be lost with it.
    subscribed = connection.execute(
        select(w.id, w.events).where(covers_study).with_for_update(read=True, key_share=True)
    ).all()
    for row in reported:
        before, after, reason = _states(row, study)
        notice = StudyEventData(
            study_id=study_id,
            **{name: getattr(study, name) for name in ("name", "workload", "suite", "owner")},
            state_before=before,
            state=after,
            state_reason=reason,
            event=row["number"],
            path=f"/v1/studies/{study_id}",
        )
        event = "study.noted" if row["kind"] == "study.noted" else f"study.{after.value}"
        body = WebhookPayload.model_validate(
            {"type": event, "timestamp": row["at"], "data": notice}
        ).model_dump_json()
        for webhook in subscribed:
            if is_subscribed(event, webhook.events):
                enqueue(connection, webhook.id, event, body, study_id=study_id)


def _is_reported(row: Mapping[str, Any]) -> bool:
    """Return whether webhooks report an event."""
    kinds = {"study.submitted", "study.noted"}
    return row["kind"] in kinds or (row["kind"] == "study.state" and row["data"]["to"] in _REPORTED_STATES)


def _states(row: Mapping[str, Any], study: Any) -> tuple[StudyState | None, StudyState, str | None]:
    """Return a study's states before and after an event, and the reason of the latter."""
    match row["kind"]:
        case "study.submitted":
            return None, StudyState.QUEUED, None
        case "study.state":
            return StudyState(row["data"]["from"]), StudyState(row["data"]["to"]), row["data"]["reason"]
        case _:
            return StudyState(study.state), StudyState(study.state), study.state_reason


def enqueue(connection: Connection, webhook_id: str, event: str, body: str, *, study_id: str | None) -> str:
    """Add a delivery for a webhook that is due now, and return its id."""
    now = clock.now(connection)
    row: dict[str, Any] = {
        "id": f"msg_{secrets.token_hex(16)}",
        "webhook_id": webhook_id,
        "study_id": study_id,
        "event": event,
        "body": body,
        "state": "pending",
        "attempts": 0,
        "created_at": now,
        "due_at": now,
    }
    connection.execute(insert(tables.delivery).values(row))
    return row["id"]


def _is_due(now: datetime, busy: Collection[str]) -> ColumnElement[bool]:
    d = tables.delivery.c
    return and_(d.due_at <= now, d.webhook_id.not_in(busy)) if busy else d.due_at <= now


def is_any_due(connection: Connection, *, busy: Collection[str]) -> bool:
    """Return whether a delivery may be due, without a write lock."""
    d, w = tables.delivery.c, tables.webhook.c
    query = (
        select(d.id)
        .join(tables.webhook, w.id == d.webhook_id)
        .where(_is_due(clock.now(connection), busy), w.disabled_at.is_(None))
    )
    return connection.execute(query.limit(1)).one_or_none() is not None


def claim(
    connection: Connection, *, lease_s: float, limit: int, limit_per_webhook: int, busy: Collection[str]
) -> tuple[Delivery, ...]:
    """Claim deliveries that are due, the longest due first.

    No other service can claim them until the lease ends.

    Args:
        connection: an open write transaction.
        lease_s: the longest time that an attempt and recording its result can take.
        limit: the largest number of deliveries to claim.
        limit_per_webhook: the same for each webhook, because a slow receiver must not keep others waiting.
        busy: ids of webhooks whose deliveries are left alone.
    """
    d, w = tables.delivery.c, tables.webhook.c
    is_due = _is_due(clock.now(connection), busy)
    place = func.row_number().over(partition_by=d.webhook_id, order_by=(d.due_at, d.id)).label("place")
    ranked = (
        select(d.id, place)
        .join(tables.webhook, w.id == d.webhook_id)
        .where(is_due, w.disabled_at.is_(None))
        .subquery()
    )
    first = select(ranked.c.id).where(ranked.c.place <= limit_per_webhook)
    query = (
        select(d.id, d.webhook_id, d.study_id, d.event, d.body, d.attempts, w.url, w.secret)
        .join(tables.webhook, w.id == d.webhook_id)
        # Checked again: another service may have claimed it since it was ranked.
        .where(d.id.in_(first), is_due)
        .order_by(d.due_at, d.id)
        .limit(limit)
        .with_for_update(of=tables.delivery, skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        until = clock.now(connection) + timedelta(seconds=lease_s)
        claimed = update(tables.delivery).where(d.id.in_([row.id for row in rows]))
        connection.execute(claimed.values(attempts=d.attempts + 1, due_at=until))
    return tuple(
        Delivery(
            id=row.id,
            webhook_id=row.webhook_id,
            study_id=row.study_id,
            event=row.event,
            url=row.url,
            secret=row.secret,
            body=row.body,
            attempt=row.attempts + 1,
        )
        for row in rows
    )


def release(connection: Connection, claimed: Delivery) -> None:
    """Make a claimed delivery due again, because this service is shutting down before it knows the result."""
    connection.execute(update(tables.delivery).where(_is_same(claimed)).values(due_at=clock.now(connection)))


def _is_same(claimed: Delivery) -> ColumnElement[bool]:
    d = tables.delivery.c
    return and_(d.id == claimed.id, d.attempts == claimed.attempt, d.state == "pending")


def settle(connection: Connection, claimed: Delivery, answer: AttemptResult) -> AttemptOutcome:
    """Record the result of an attempt, and return what becomes of the delivery.

    If the receiver answers 410 Gone, or has accepted nothing for five days, its webhook is disabled.
    """
    w = tables.webhook.c
    # Locked before the delivery: deleting a webhook locks the two in this order.
    webhook = connection.execute(
        select(tables.webhook).where(w.id == claimed.webhook_id).with_for_update(key_share=True)
    ).one_or_none()
    now = clock.now(connection)
    error = None if answer.error is None else tables.storable(answer.error)[:_MAX_ERROR_LENGTH]
    values: dict[str, Any] = {"status_code": answer.status_code, "error": error}
    is_last = claimed.attempt >= MAX_ATTEMPTS or claimed.event == PING
    if answer.is_delivered:
        values |= {"state": "delivered", "due_at": None, "ended_at": now}
    elif is_last or answer.status_code == 410:
        values |= {"state": "failed", "due_at": None, "ended_at": now}
    else:
        asked_s = min(answer.retry_after_s, _MAX_RETRY_AFTER_S)
        # Jitter needs no cryptographic randomness.
        wait = max(backoff_s(claimed.attempt, luck=random.random()), asked_s)  # noqa: S311
        values["due_at"] = now + timedelta(seconds=wait)
    if (
        webhook is None
        or connection.execute(update(tables.delivery).where(_is_same(claimed)).values(values)).rowcount == 0
    ):
        return "superseded"
    if answer.is_delivered:
        connection.execute(
            update(tables.webhook).where(w.id == webhook.id).values(delivered_at=now, failing_since=None)
        )
        return "delivered"
    since = webhook.failing_since or now
    connection.execute(update(tables.webhook).where(w.id == webhook.id).values(failing_since=since))
    if answer.status_code == 410:
        disable(connection, [webhook.id], "its receiver answered 410 Gone")
    elif is_last and now - since >= _DISABLE_AFTER:
        disable(
            connection, [webhook.id], f"its receiver has accepted nothing since {since:%Y-%m-%d %H:%M} UTC"
        )
    else:
        return "given_up" if is_last else "retried"
    return "disabled"


def disable(connection: Connection, webhook_ids: Collection[str], reason: str) -> None:
    """Disable these webhooks and fail their pending deliveries."""
    d, w, now = tables.delivery.c, tables.webhook.c, clock.now(connection)
    is_one = and_(w.id.in_(webhook_ids), w.disabled_at.is_(None))
    connection.execute(
        update(tables.webhook).where(is_one).values(disabled_at=now, disabled_reason=tables.storable(reason))
    )
    failed = {
        "state": "failed",
        "error": f"the webhook was disabled: {reason}",
        "due_at": None,
        "ended_at": now,
    }
    connection.execute(
        update(tables.delivery).where(d.webhook_id.in_(webhook_ids), d.state == "pending").values(failed)
    )


def delete_settled(connection: Connection, *, older_than: timedelta) -> int:
    """Delete deliveries that ended longer ago than this, and return how many."""
    d = tables.delivery.c
    return connection.execute(
        delete(tables.delivery).where(d.ended_at < clock.now(connection) - older_than)
    ).rowcount
