"""Browser sessions: after a login with a token, a cookie authenticates the browser.

A session lasts until it expires, the user logs out or the token is revoked. Sessions are stored in the
database, so that every service on it knows them; of the cookie's secret only the SHA-256 is stored.
"""

__all__ = ["begin", "end", "owner"]

import secrets
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select

from studies.store import clock, tables
from studies.store.tokens import digest, view
from studies.views import TokenView


def begin(connection: Connection, token: str, *, lifetime: timedelta) -> str:
    """Store a session of a token and return the session's secret; delete all expired sessions."""
    s, now = tables.session.c, clock.now(connection)
    connection.execute(delete(tables.session).where(s.expires_at < now))
    secret = secrets.token_urlsafe(32)
    row = {"digest": digest(secret), "token": token, "created_at": now, "expires_at": now + lifetime}
    connection.execute(insert(tables.session).values(row))
    return secret


def owner(connection: Connection, secret: str) -> TokenView | None:
    """Return the token of a session, or None if the session has ended or the token was revoked."""
    s, t = tables.session.c, tables.token.c
    query = select(tables.token).join(tables.session, s.token == t.name)
    found = connection.execute(
        query.where(s.digest == digest(secret), s.expires_at > clock.now(connection), t.revoked_at.is_(None))
    ).one_or_none()
    return None if found is None else view(found)


def end(connection: Connection, secret: str) -> bool:
    """Delete a session and return whether it existed."""
    return (
        connection.execute(delete(tables.session).where(tables.session.c.digest == digest(secret))).rowcount
        > 0
    )
