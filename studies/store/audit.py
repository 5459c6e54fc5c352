"""The log of who did what: a line for every change that was made, in the same transaction as the change."""

__all__ = ["entries", "forget", "note"]

from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select

from studies.actors import Actor
from studies.store import clock, tables
from studies.store.pagination import page
from studies.views import AuditVerb, AuditView, Page

_LONGEST_ADDRESS = 255


def note(
    connection: Connection,
    by: Actor,
    verb: AuditVerb,
    *,
    study_id: str | None = None,
    subject: str | None = None,
) -> None:
    """Add an entry.

    Args:
        connection: the open write transaction of what is noted: the entry stands if and only if that does.
        by: who did it.
        verb: what was done.
        study_id: to which study.
        subject: to which token.
    """
    address = None if by.address is None else by.address[:_LONGEST_ADDRESS]
    row = {
        "at": clock.now(connection),
        "actor": by.name,
        "verb": verb,
        "study_id": study_id,
        "subject": subject,
        "address": address,
    }
    connection.execute(insert(tables.audit).values(row))


def forget(connection: Connection, verb: AuditVerb, *, older_than: timedelta) -> int:
    """Remove the entries of one kind that are older; return how many."""
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

    All of it, or what one token did, what was done to one study, or one kind of thing.

    Raises:
        SpecInvalid: the page token is none of ours, or belongs to another query.
    """
    a = tables.audit.c
    query = select(tables.audit).order_by(a.id.desc())
    for column, wanted in ((a.actor, actor), (a.verb, verb), (a.study_id, study_id)):
        query = query if wanted is None else query.where(column == wanted)
    rows, token, total = page(connection, query, ["audit", actor, verb, study_id], page_size, page_token)
    items = tuple(AuditView(**{name: getattr(row, name) for name in AuditView.model_fields}) for row in rows)
    return Page[AuditView](items=items, next_page_token=token, total=total)
