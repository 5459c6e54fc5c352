"""The outbox: what webhooks are to be told.

It lies there from the transaction in which it happened until a receiver has taken it.

What is to be told is written together with what happened: it stands if and only if that does. Any service on
the database may send it. One takes a delivery on by moving its `due_at` beyond the end of its attempt, and
the others leave it alone; when a service dies, that moment comes and another takes it on. So each is sent at
least once, and by services that live only once for each attempt.
"""

__all__ = ["claim", "disable", "forget", "is_any_due", "put", "release", "settle", "tell"]

import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from studies.states import StudyState
from studies.store import clock, tables
from studies.webhooks import (
    MOST_ATTEMPTS,
    PING,
    Answer,
    Delivery,
    Notice,
    Settlement,
    StudyNotice,
    is_asked_for,
    wait_s,
)

_HOPELESS_AFTER = timedelta(days=5)
_LONGEST_ASKED_S = 8 * 3600.0
_LONGEST_ERROR = 300
# States in which a study only waits for its run to end are nobody's news.
_TOLD = frozenset(state.value for state in StudyState) - {
    StudyState.STOPPING.value,
    StudyState.CANCELLING.value,
}


def tell(connection: Connection, study_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put what happened to a study into the outbox, for each webhook that asks for it.

    Args:
        connection: the open write transaction in which it happened.
        study_id: the study.
        rows: its new events, as rows of their table.
    """
    news = [(row, found) for row in rows if (found := _states_of(row)) is not None]
    if not news:
        return
    s, w = tables.study.c, tables.webhook.c
    study = connection.execute(select(s.name, s.workload, s.suite, s.owner).where(s.id == study_id)).one()
    is_own = w.owner.is_(None) if study.owner is None else w.owner == study.owner
    is_told = and_(
        w.disabled_at.is_(None),
        or_(w.studies == "all", is_own),
        or_(w.suite.is_(None), w.suite == study.suite),
    )
    # Held until the end: were one removed meanwhile, its delivery could not be stored, and with it what
    # happened.
    asking = connection.execute(
        select(w.id, w.events).where(is_told).with_for_update(read=True, key_share=True)
    ).all()
    for row, (before, after, reason) in news:
        notice = StudyNotice(
            study_id=study_id,
            **{name: getattr(study, name) for name in ("name", "workload", "suite", "owner")},
            state_before=before,
            state=after,
            state_reason=reason,
            event=row["number"],
            path=f"/v1/studies/{study_id}",
        )
        event = f"study.{after.value}"
        body = Notice.model_validate(
            {"type": event, "timestamp": row["at"], "data": notice}
        ).model_dump_json()
        for webhook in asking:
            if is_asked_for(event, webhook.events):
                put(connection, webhook.id, event, body, study_id=study_id)


def _states_of(row: Mapping[str, Any]) -> tuple[StudyState | None, StudyState, str | None] | None:
    """Return the state that an event left, the one that it led to and why.

    None where it led to none that is told.
    """
    if row["kind"] == "study.submitted":
        return None, StudyState.QUEUED, None
    if row["kind"] == "study.state" and row["data"]["to"] in _TOLD:
        return StudyState(row["data"]["from"]), StudyState(row["data"]["to"]), row["data"]["reason"]
    return None


def put(connection: Connection, webhook_id: str, event: str, body: str, *, study_id: str | None) -> str:
    """Put a message for a webhook into the outbox, to be sent now, and return its id."""
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
    """Return whether there may be something to claim; a look that keeps nobody from writing."""
    d, w = tables.delivery.c, tables.webhook.c
    query = (
        select(d.id)
        .join(tables.webhook, w.id == d.webhook_id)
        .where(_is_due(clock.now(connection), busy), w.disabled_at.is_(None))
    )
    return connection.execute(query.limit(1)).one_or_none() is not None


def claim(
    connection: Connection, *, lease_s: float, most: int, most_each: int, busy: Collection[str]
) -> tuple[Delivery, ...]:
    """Take on deliveries that are due, the longest due first; nobody else does so until the lease ends.

    Args:
        connection: an open write transaction.
        lease_s: how long an attempt, and noting what came of it, can take at most.
        most: how many to take on.
        most_each: the same of one webhook's, for a slow receiver must not keep others waiting.
        busy: webhooks of which none are to be taken on.
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
    first = select(ranked.c.id).where(ranked.c.place <= most_each)
    query = (
        select(d.id, d.webhook_id, d.study_id, d.event, d.body, d.attempts, w.url, w.secret)
        .join(tables.webhook, w.id == d.webhook_id)
        # Once more that it is due: another service may have taken it on since it was ranked.
        .where(d.id.in_(first), is_due)
        .order_by(d.due_at, d.id)
        .limit(most)
        .with_for_update(of=tables.delivery, skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        until = clock.now(connection) + timedelta(seconds=lease_s)
        taken = update(tables.delivery).where(d.id.in_([row.id for row in rows]))
        connection.execute(taken.values(attempts=d.attempts + 1, due_at=until))
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
    """Give back a delivery of which nothing is known, because this service ends: it is due at once."""
    connection.execute(update(tables.delivery).where(_is_same(claimed)).values(due_at=clock.now(connection)))


def _is_same(claimed: Delivery) -> ColumnElement[bool]:
    d = tables.delivery.c
    return and_(d.id == claimed.id, d.attempts == claimed.attempt, d.state == "pending")


def settle(connection: Connection, claimed: Delivery, answer: Answer) -> Settlement:
    """Note what came of an attempt, and return what became of the delivery.

    A receiver that is gone (410), or has taken nothing for five days, is not tried again: its webhook is
    disabled.
    """
    w = tables.webhook.c
    # Before the delivery: whoever removes a webhook takes the two in this order.
    webhook = connection.execute(
        select(tables.webhook).where(w.id == claimed.webhook_id).with_for_update(key_share=True)
    ).one_or_none()
    now = clock.now(connection)
    error = None if answer.error is None else tables.storable(answer.error)[:_LONGEST_ERROR]
    noted: dict[str, Any] = {"status_code": answer.status_code, "error": error}
    is_last = claimed.attempt >= MOST_ATTEMPTS or claimed.event == PING
    if answer.is_taken:
        noted |= {"state": "delivered", "due_at": None, "ended_at": now}
    elif is_last or answer.status_code == 410:
        noted |= {"state": "failed", "due_at": None, "ended_at": now}
    else:
        # No secret: it spreads attempts.
        wait = max(wait_s(claimed.attempt, luck=random.random()), min(answer.retry_after_s, _LONGEST_ASKED_S))  # noqa: S311
        noted["due_at"] = now + timedelta(seconds=wait)
    if (
        webhook is None
        or connection.execute(update(tables.delivery).where(_is_same(claimed)).values(noted)).rowcount == 0
    ):
        return "superseded"
    if answer.is_taken:
        connection.execute(
            update(tables.webhook).where(w.id == webhook.id).values(delivered_at=now, failing_since=None)
        )
        return "delivered"
    since = webhook.failing_since or now
    connection.execute(update(tables.webhook).where(w.id == webhook.id).values(failing_since=since))
    if answer.status_code == 410:
        disable(connection, [webhook.id], "its receiver answered 410 Gone")
    elif is_last and now - since >= _HOPELESS_AFTER:
        disable(connection, [webhook.id], f"its receiver has taken nothing since {since:%Y-%m-%d %H:%M} UTC")
    else:
        return "given_up" if is_last else "retried"
    return "disabled"


def disable(connection: Connection, webhook_ids: Collection[str], reason: str) -> None:
    """Send nothing more to these webhooks until they are enabled.

    What they were still to be told is given up.
    """
    d, w, now = tables.delivery.c, tables.webhook.c, clock.now(connection)
    is_one = and_(w.id.in_(webhook_ids), w.disabled_at.is_(None))
    connection.execute(
        update(tables.webhook).where(is_one).values(disabled_at=now, disabled_reason=tables.storable(reason))
    )
    given_up = {
        "state": "failed",
        "error": f"the webhook was disabled: {reason}",
        "due_at": None,
        "ended_at": now,
    }
    connection.execute(
        update(tables.delivery).where(d.webhook_id.in_(webhook_ids), d.state == "pending").values(given_up)
    )


def forget(connection: Connection, *, older_than: timedelta) -> int:
    """Remove deliveries that were settled longer ago; return how many."""
    d = tables.delivery.c
    return connection.execute(
        delete(tables.delivery).where(d.ended_at < clock.now(connection) - older_than)
    ).rowcount
