"""Sessions of browsers: a token was shown once.

A cookie stands for it until it expires, is logged out or its token is revoked.

They lie in the database, so that each of several services knows them, and of the cookie only the SHA-256 is
kept.
"""

__all__ = ["begin", "end", "owner"]

import secrets
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select

from studies.store import clock, tables
from studies.store.tokens import digest, view
from studies.views import TokenView


def begin(connection: Connection, token: str, *, lasts: timedelta) -> str:
    """Store a session of a token and return its secret; those that have expired are removed."""
    s, now = tables.session.c, clock.now(connection)
    connection.execute(delete(tables.session).where(s.expires_at < now))
    secret = secrets.token_urlsafe(32)
    row = {"digest": digest(secret), "token": token, "created_at": now, "expires_at": now + lasts}
    connection.execute(insert(tables.session).values(row))
    return secret


def owner(connection: Connection, secret: str) -> TokenView | None:
    """Return the token whose session this is.

    None when it has expired, was ended, or its token was revoked.
    """
    s, t = tables.session.c, tables.token.c
    query = select(tables.token).join(tables.session, s.token == t.name)
    found = connection.execute(
        query.where(s.digest == digest(secret), s.expires_at > clock.now(connection), t.revoked_at.is_(None))
    ).one_or_none()
    return None if found is None else view(found)


def end(connection: Connection, secret: str) -> bool:
    """Remove a session; return whether it was there."""
    return (
        connection.execute(delete(tables.session).where(tables.session.c.digest == digest(secret))).rowcount
        > 0
    )
