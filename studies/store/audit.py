"""The audit log: one entry for every change, written in the transaction of the change."""

__all__ = ["delete_old", "entries", "record"]

from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select

from studies.actors import Actor
from studies.store import clock, tables
from studies.store.pagination import page
from studies.views import AuditVerb, AuditView, Page

_MAX_ADDRESS = 255


def record(
    connection: Connection,
    by: Actor,
    verb: AuditVerb,
    *,
    study_id: str | None = None,
    subject: str | None = None,
) -> None:
    """Add an entry.

    Args:
        connection: the write transaction of the change; the entry is stored if and only if the change is.
        by: who made the change.
        verb: what was done.
        study_id: the study that was changed.
        subject: the token or webhook that was changed.
    """
    address = None if by.address is None else by.address[:_MAX_ADDRESS]
    row = {
        "at": clock.now(connection),
        "actor": by.name,
        "verb": verb,
        "study_id": study_id,
        "subject": subject,
        "address": address,
    }
    connection.execute(insert(tables.audit).values(row))


def delete_old(connection: Connection, verb: AuditVerb, *, older_than: timedelta) -> int:
    """Delete the entries of one kind that are older than this, and return how many."""
    a = tables.audit.c
    return connection.execute(
        delete(tables.audit).where(a.verb == verb, a.at < clock.now(connection) - older_than)
    ).rowcount


def entries(
    connection: Connection,
    *,
    actor: str | None,
    verb: AuditVerb | None,
    study_id: str | None,
    page_size: int,
    page_token: str | None,
) -> Page[AuditView]:
    """Return a page of the log, newest first.

    Args:
        connection: an open transaction.
        actor: only entries of this token.
        verb: only entries of this kind.
        study_id: only entries about this study.
        page_size: number of entries at most.
        page_token: the `next_page_token` of the previous page.

    Raises:
        SpecInvalid: the page token is invalid or belongs to another query.
    """
    a = tables.audit.c
    query = select(tables.audit).order_by(a.id.desc())
    for column, wanted in ((a.actor, actor), (a.verb, verb), (a.study_id, study_id)):
        query = query if wanted is None else query.where(column == wanted)
    rows, token, total = page(connection, query, ["audit", actor, verb, study_id], page_size, page_token)
    items = tuple(AuditView(**{name: getattr(row, name) for name in AuditView.model_fields}) for row in rows)
    return Page[AuditView](items=items, next_page_token=token, total=total)
