"""API tokens: 256 random bits each, of which only the SHA-256 is kept.

A slow password hash would add nothing: the secret cannot be guessed, so its digest cannot be searched.
"""

__all__ = [
    "authenticate",
    "create",
    "digest",
    "every",
    "is_use_due",
    "named",
    "note_use",
    "revoke",
    "set_quotas",
    "view",
    "with_use",
]

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from studies.actors import Actor, check_role
from studies.errors import Conflict, SpecInvalid, SpecProblem, TokenNotFound, shown
from studies.store import audit, quotas, tables, webhooks
from studies.views import Quotas, Role, TokenView

_USE_NOTED_EVERY = timedelta(minutes=1)
_SECRET = re.compile(r"[\x21-\x7e]{32,256}")
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,64}")


def digest(secret: str) -> str:
    """Return what is kept of a secret: its SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def view(row: Any) -> TokenView:
    """Return a token's row as a view, without what it has used."""
    bounds = Quotas(**{name: getattr(row, name) for name in Quotas.model_fields})
    return TokenView(
        name=row.name,
        role=row.role,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        quotas=bounds,
    )


def create(
    connection: Connection, name: str, *, role: Role, bounds: Quotas, by: Actor, secret: str | None = None
) -> str:
    """Store a new token and return its secret, which cannot be read again; by default that is a new one.

    Raises:
        Forbidden: the actor is no admin.
        SpecInvalid: the name is empty, longer than 64 characters or not printable; or the secret is too short
            to be one.
        Conflict: the name is taken.
    """
    if secret is not None and not _SECRET.fullmatch(secret):
        raise SpecInvalid(
            [
                SpecProblem(
                    "/secret",
                    "expected a secret of 32 to 256 printable ASCII characters "
                    "without spaces; make it of random ones",
                )
            ]
        )
    if not _NAME.fullmatch(name):
        raise SpecInvalid(
            [
                SpecProblem(
                    "/name", f"expected 1 to 64 printable characters as a token's name, got {shown(name)}"
                )
            ]
        )
    check_role(by, "admin")
    secret = secret or f"tangent_{secrets.token_urlsafe(32)}"
    try:
        with connection.begin_nested():
            made = {
                "name": name,
                "digest": digest(secret),
                "role": role,
                "created_at": datetime.now(UTC),
                **bounds.model_dump(),
            }
            connection.execute(insert(tables.token).values(made))
    except IntegrityError:
        raise Conflict(f"there is a token {name!r} already; choose another name") from None
    audit.note(connection, by, "token.create", subject=name)
    return secret


def set_quotas(connection: Connection, name: str, bounds: Quotas, *, by: Actor) -> None:
    """Give a token other quotas; studies that are open already go on.

    Raises:
        Forbidden: the actor is no admin.
        TokenNotFound: there is none.
    """
    check_role(by, "admin")
    named(connection, name)
    connection.execute(update(tables.token).where(tables.token.c.name == name).values(bounds.model_dump()))
    audit.note(connection, by, "token.change", subject=name)


def revoke(connection: Connection, name: str, *, by: Actor) -> None:
    """Make a token worthless, and the sessions that it has begun, and disable its webhooks; it stays listed.

    One that is worthless already stays so.

    Raises:
        Forbidden: the actor is no admin.
        TokenNotFound: there is none.
    """
    check_role(by, "admin")
    named(connection, name)
    t = tables.token.c
    ended = (
        update(tables.token)
        .where(t.name == name, t.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    if connection.execute(ended).rowcount:
        connection.execute(delete(tables.session).where(tables.session.c.token == name))
        webhooks.disable_all_of(connection, name, "the token that made it was revoked")
        audit.note(connection, by, "token.revoke", subject=name)


def named(connection: Connection, name: str) -> TokenView:
    """Return the token of a name, without what it has used.

    Raises:
        TokenNotFound: there is none.
    """
    row = connection.execute(select(tables.token).where(tables.token.c.name == name)).one_or_none()
    if row is None:
        raise TokenNotFound(name)
    return view(row)


def every(connection: Connection) -> tuple[TokenView, ...]:
    """Return all tokens, oldest first, without what they have used."""
    return tuple(
        view(row) for row in connection.execute(select(tables.token).order_by(tables.token.c.created_at))
    )


def with_use(connection: Connection, token: TokenView) -> TokenView:
    """Return a token with what it has used of its quotas."""
    used = {
        "open_studies": quotas.open_studies(connection, token.name),
        "gpu_hours": quotas.gpu_hours(connection, token.name),
    }
    return token.model_copy(update=used)


def authenticate(connection: Connection, secret: str) -> TokenView | None:
    """Return the valid token of this secret, or None."""
    t = tables.token.c
    row = connection.execute(
        select(tables.token).where(t.digest == digest(secret), t.revoked_at.is_(None))
    ).one_or_none()
    return None if row is None else view(row)


def is_use_due(token: TokenView) -> bool:
    """Return whether a token that was used just now has to be noted as used."""
    return token.last_used_at is None or datetime.now(UTC) - token.last_used_at > _USE_NOTED_EVERY


def note_use(connection: Connection, name: str) -> None:
    """Note that a token was used just now."""
    connection.execute(
        update(tables.token).where(tables.token.c.name == name).values(last_used_at=datetime.now(UTC))
    )
