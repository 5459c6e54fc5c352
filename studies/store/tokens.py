"""API tokens: 256 random bits each, of which only the SHA-256 is kept.

A slow password hash would add nothing: the secret cannot be guessed, so its digest cannot be searched.
"""

__all__ = ["authenticate", "create", "every", "note_use", "revoke"]

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from studies.errors import Conflict, SpecInvalid, SpecProblem, TokenNotFound, shown
from studies.store import tables
from studies.views import Role, TokenView

_USE_NOTED_EVERY = timedelta(minutes=1)
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,64}")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _view(row: Any) -> TokenView:
    return TokenView(name=row.name, role=row.role, created_at=row.created_at, revoked_at=row.revoked_at, last_used_at=row.last_used_at)


def create(connection: Connection, name: str, *, role: Role) -> str:
    """Store a new token and return its secret, which cannot be read again.

    Raises:
        SpecInvalid: the name is empty, longer than 64 characters or not printable.
        Conflict: the name is taken.
    """
    if not _NAME.fullmatch(name):
        raise SpecInvalid([SpecProblem("/name", f"expected 1 to 64 printable characters as a token's name, got {shown(name)}")])
    secret = f"tangent_{secrets.token_urlsafe(32)}"
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.token).values(name=name, digest=_digest(secret), role=role, created_at=datetime.now(UTC)))
    except IntegrityError:
        raise Conflict(f"there is a token {name!r} already; choose another name") from None
    return secret


def revoke(connection: Connection, name: str) -> None:
    """Make a token worthless; it stays listed.

    Raises:
        TokenNotFound: there is none.
    """
    t = tables.token.c
    if connection.execute(select(t.name).where(t.name == name)).one_or_none() is None:
        raise TokenNotFound(name)
    connection.execute(update(tables.token).where(t.name == name, t.revoked_at.is_(None)).values(revoked_at=datetime.now(UTC)))


def every(connection: Connection) -> tuple[TokenView, ...]:
    """Return all tokens, oldest first."""
    return tuple(_view(row) for row in connection.execute(select(tables.token).order_by(tables.token.c.created_at)))


def authenticate(connection: Connection, secret: str) -> tuple[TokenView | None, bool]:
    """Return the valid token of this secret or None, and whether its use is due to be noted."""
    t = tables.token.c
    row = connection.execute(select(tables.token).where(t.digest == _digest(secret), t.revoked_at.is_(None))).one_or_none()
    if row is None:
        return None, False
    return _view(row), row.last_used_at is None or datetime.now(UTC) - row.last_used_at > _USE_NOTED_EVERY


def note_use(connection: Connection, name: str) -> None:
    """Note that a token was used just now."""
    connection.execute(update(tables.token).where(tables.token.c.name == name).values(last_used_at=datetime.now(UTC)))
