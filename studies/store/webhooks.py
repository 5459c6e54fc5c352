"""Stored webhooks: their owners, the events they report, and whether their receivers accept them.

Webhook secrets are stored in plain text, because every signature needs them; a token's secret is only
compared, so its hash is enough. Someone who can read the database can therefore forge deliveries. Receivers
need not trust them: they can ask the API for what a delivery says.
"""

__all__ = ["create", "detail", "disable_all_of", "enable", "listed", "ping", "remove"]

import secrets
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from studies.actors import Actor, check_role, may_change
from studies.errors import Conflict, QuotaExceeded, WebhookNotFound
from studies.store import audit, clock, outbox, quotas, tables, token_validity
from studies.store.pagination import page
from studies.views import Page
from studies.webhooks import (
    MAX_WEBHOOKS_PER_OWNER,
    PING,
    DeliveryView,
    PingData,
    PingPayload,
    WebhookDetail,
    WebhookSpec,
    WebhookView,
    WebhookWithSecret,
    new_secret,
)

_DELIVERIES_SHOWN = 20
# As a study's id: no vowels and no look-alikes.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in WebhookView.model_fields}


def _delivery(row: Any) -> DeliveryView:
    return DeliveryView(**{name: getattr(row, name) for name in DeliveryView.model_fields})


def _is_own(by: Actor) -> ColumnElement[bool]:
    owner = tables.webhook.c.owner
    return owner.is_(None) if by.name is None else owner == by.name


def _row(connection: Connection, webhook_id: str, by: Actor, *, is_locked: bool = False) -> Any:
    """Return the row of a webhook that the actor may see and change.

    Args:
        connection: an open transaction.
        webhook_id: the webhook.
        by: the actor.
        is_locked: lock the row until the transaction ends.

    Raises:
        WebhookNotFound: the webhook does not exist or belongs to another user; both look alike to the caller.
    """
    query = select(tables.webhook).where(tables.webhook.c.id == webhook_id)
    row = connection.execute(query.with_for_update(key_share=True) if is_locked else query).one_or_none()
    if row is None or not may_change(by, row.owner):
        raise WebhookNotFound(webhook_id)
    return row


def create(connection: Connection, spec: WebhookSpec, *, by: Actor) -> WebhookWithSecret:
    """Store a new webhook for the actor and return it with its secret, which cannot be read again.

    Raises:
        Unauthenticated: the actor's token was revoked during the request.
        Forbidden: the actor is a viewer, or asks for all users' studies without being an admin.
        QuotaExceeded: the actor has the largest number of webhooks already.
    """
    check_role(by, "admin" if spec.studies == "all" else "submitter")
    # Without the lock two requests to two services could both take the last place.
    quotas.lock(connection, by.name)
    token_validity.check_valid(connection, by)
    count = connection.execute(
        select(func.count()).select_from(tables.webhook).where(_is_own(by))
    ).scalar_one()
    if count >= MAX_WEBHOOKS_PER_OWNER:
        owner = "an open service" if by.name is None else f"token {by.name!r}"
        raise QuotaExceeded(
            f"{owner} may have at most {MAX_WEBHOOKS_PER_OWNER} webhooks and has {count}; "
            "remove one (`tangent webhook remove`)"
        )
    row: dict[str, Any] = {
        "id": "".join(secrets.choice(_ALPHABET) for _ in range(8)),
        "owner": by.name,
        "secret": new_secret(),
        "created_at": clock.now(connection),
        **spec.model_dump(mode="json"),
    }
    connection.execute(insert(tables.webhook).values(row))
    audit.record(connection, by, "webhook.create", subject=row["id"])
    return WebhookWithSecret(**_fields(_row(connection, row["id"], by)), secret=row["secret"])


def listed(
    connection: Connection, *, by: Actor, only_own: bool, page_size: int, page_token: str | None
) -> Page[WebhookView]:
    """Return a page of the actor's webhooks, newest first; an admin sees all unless `only_own` is set.

    Raises:
        SpecInvalid: the page token is invalid or belongs to another query.
    """
    w = tables.webhook.c
    query = select(tables.webhook).order_by(w.created_at.desc(), w.id)
    if only_own or by.role != "admin":
        query = query.where(_is_own(by))
    rows, token, total = page(
        connection, query, ["webhooks", by.name, by.role, only_own], page_size, page_token
    )
    return Page[WebhookView](
        items=tuple(WebhookView(**_fields(row)) for row in rows), next_page_token=token, total=total
    )


def detail(connection: Connection, webhook_id: str, *, by: Actor) -> WebhookDetail:
    """Return a webhook with its newest deliveries.

    Raises:
        WebhookNotFound: the webhook does not exist or belongs to another user.
    """
    row = _row(connection, webhook_id, by)
    d = tables.delivery.c
    newest = (
        select(tables.delivery)
        .where(d.webhook_id == webhook_id)
        .order_by(d.created_at.desc(), d.id)
        .limit(_DELIVERIES_SHOWN)
    )
    return WebhookDetail(
        **_fields(row), deliveries=tuple(_delivery(each) for each in connection.execute(newest))
    )


def ping(connection: Connection, webhook_id: str, *, by: Actor) -> DeliveryView:
    """Queue a ping and return it; if one is pending already, return that one.

    Raises:
        WebhookNotFound: the webhook does not exist or belongs to another user.
        Conflict: the webhook is disabled.
    """
    row = _row(connection, webhook_id, by, is_locked=True)
    if row.disabled_at is not None:
        raise Conflict(f"webhook {webhook_id!r} is disabled: {row.disabled_reason}; enable it first")
    d = tables.delivery.c
    pending = select(tables.delivery).where(d.webhook_id == webhook_id, d.event == PING, d.state == "pending")
    earlier = connection.execute(pending.limit(1)).one_or_none()
    if earlier is not None:
        return _delivery(earlier)
    body = PingPayload(
        timestamp=clock.now(connection), data=PingData(webhook_id=webhook_id)
    ).model_dump_json()
    delivery_id = outbox.enqueue(connection, webhook_id, PING, body, study_id=None)
    audit.record(connection, by, "webhook.test", subject=webhook_id)
    return _delivery(connection.execute(select(tables.delivery).where(d.id == delivery_id)).one())


def enable(connection: Connection, webhook_id: str, *, by: Actor) -> WebhookView:
    """Enable a webhook for events from now on, and return it; an enabled webhook stays enabled.

    Raises:
        WebhookNotFound: the webhook does not exist or belongs to another user.
        Conflict: the token that created it is revoked.
    """
    row = _row(connection, webhook_id, by)
    t = tables.token.c
    is_orphaned = select(t.name).where(t.name == row.owner, t.revoked_at.is_not(None))
    if connection.execute(is_orphaned).one_or_none() is not None:
        raise Conflict(
            f"webhook {webhook_id!r} belongs to token {row.owner!r}, which is revoked; "
            "remove it and create your own"
        )
    if row.disabled_at is not None:
        values = {"disabled_at": None, "disabled_reason": None, "failing_since": None}
        connection.execute(update(tables.webhook).where(tables.webhook.c.id == webhook_id).values(values))
        audit.record(connection, by, "webhook.enable", subject=webhook_id)
    return WebhookView(**_fields(_row(connection, webhook_id, by)))


def remove(connection: Connection, webhook_id: str, *, by: Actor) -> None:
    """Delete a webhook and its pending deliveries.

    Raises:
        WebhookNotFound: the webhook does not exist or belongs to another user.
    """
    _row(connection, webhook_id, by)
    connection.execute(delete(tables.webhook).where(tables.webhook.c.id == webhook_id))
    audit.record(connection, by, "webhook.remove", subject=webhook_id)


def disable_all_of(connection: Connection, owner: str, reason: str) -> None:
    """Disable all webhooks of a token and fail their pending deliveries."""
    # Locked in the order of ids, webhooks first, as when a delivery is settled: no two transactions deadlock.
    w = tables.webhook.c
    own = (
        select(w.id)
        .where(w.owner == owner, w.disabled_at.is_(None))
        .order_by(w.id)
        .with_for_update(key_share=True)
    )
    ids = [row.id for row in connection.execute(own)]
    if ids:
        outbox.disable(connection, ids, reason)
