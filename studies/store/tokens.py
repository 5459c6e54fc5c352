"""API tokens: 256 random bits each, of which the database holds only the SHA-256.

A slow password hash would add nothing: the secret cannot be guessed, so its digest cannot be searched.
"""

__all__ = [
    "all_tokens",
    "authenticate",
    "create",
    "digest",
    "is_last_use_outdated",
    "record_use",
    "revoke",
    "set_quotas",
    "token",
    "view",
    "with_usage",
]

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from studies.actors import Actor, check_role
from studies.control_characters import escape_controls
from studies.errors import Conflict, SpecInvalid, SpecProblem, TokenNotFound, shown
from studies.store import audit, quotas, tables, webhooks
from studies.views import Quotas, Role, TokenView

_LAST_USE_RESOLUTION = timedelta(minutes=1)
_SECRET = re.compile(r"[\x21-\x7e]{32,256}")
# Built once: every request reads its token.
_VALID = select(tables.token).where(
    tables.token.c.digest == bindparam("digest"), tables.token.c.revoked_at.is_(None)
)
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,64}")


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, which is what the database stores."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def view(row: Any) -> TokenView:
    """Return a token's row as a view, without its usage."""
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
    """Store a new token and return its secret, which cannot be read again.

    Args:
        connection: an open write transaction.
        name: the token's name.
        role: the token's role.
        bounds: the token's quotas.
        by: who creates it.
        secret: the token's secret; a random one by default.

    Raises:
        Forbidden: the actor is not an admin.
        SpecInvalid: the name is empty, too long (64 characters) or not printable, or the secret is too short.
        Conflict: the name is taken.
    """
    if secret is not None and not _SECRET.fullmatch(secret):
        raise SpecInvalid(
            [
                SpecProblem(
                    "/secret",
                    "expected a secret of 32 to 256 printable ASCII characters "
                    "without spaces; generate a random one",
                )
            ]
        )
    if not _NAME.fullmatch(name) or escape_controls(name, multiline=False) != name:
        raise SpecInvalid(
            [
                SpecProblem(
                    "/name", f"expected a token name of 1 to 64 printable characters, got {shown(name)}"
                )
            ]
        )
    check_role(by, "admin")
    secret = secret or f"tangent_{secrets.token_urlsafe(32)}"
    try:
        with connection.begin_nested():
            row = {
                "name": name,
                "digest": digest(secret),
                "role": role,
                "created_at": datetime.now(UTC),
                **bounds.model_dump(),
            }
            connection.execute(insert(tables.token).values(row))
    except IntegrityError:
        raise Conflict(f"a token named {name!r} already exists; choose another name") from None
    audit.record(connection, by, "token.create", subject=name)
    return secret


def set_quotas(connection: Connection, name: str, bounds: Quotas, *, by: Actor) -> None:
    """Replace a token's quotas; studies that are already open go on.

    Raises:
        Forbidden: the actor is not an admin.
        TokenNotFound: the token does not exist.
    """
    check_role(by, "admin")
    token(connection, name)
    connection.execute(update(tables.token).where(tables.token.c.name == name).values(bounds.model_dump()))
    audit.record(connection, by, "token.change", subject=name)


def revoke(connection: Connection, name: str, *, by: Actor) -> None:
    """Revoke a token, delete its sessions and disable its webhooks; the token stays listed.

    Revoking a token twice changes nothing.

    Raises:
        Forbidden: the actor is not an admin.
        TokenNotFound: the token does not exist.
    """
    check_role(by, "admin")
    token(connection, name)
    t = tables.token.c
    revocation = (
        update(tables.token)
        .where(t.name == name, t.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    if connection.execute(revocation).rowcount:
        connection.execute(delete(tables.session).where(tables.session.c.token == name))
        webhooks.disable_all_of(connection, name, "the token that created it was revoked")
        audit.record(connection, by, "token.revoke", subject=name)


def token(connection: Connection, name: str) -> TokenView:
    """Return the token of this name, without its usage.

    Raises:
        TokenNotFound: the token does not exist.
    """
    row = connection.execute(select(tables.token).where(tables.token.c.name == name)).one_or_none()
    if row is None:
        raise TokenNotFound(name)
    return view(row)


def all_tokens(connection: Connection) -> tuple[TokenView, ...]:
    """Return all tokens, oldest first, without their usage."""
    return tuple(
        view(row) for row in connection.execute(select(tables.token).order_by(tables.token.c.created_at))
    )


def with_usage(connection: Connection, token: TokenView) -> TokenView:
    """Return a token with its usage: open studies and GPU-hours."""
    usage = {
        "open_studies": quotas.count_open_studies(connection, token.name),
        "gpu_hours": quotas.gpu_hours(connection, token.name),
    }
    return token.model_copy(update=usage)


def authenticate(connection: Connection, secret: str) -> TokenView | None:
    """Return the valid token with this secret, or None."""
    row = connection.execute(_VALID, {"digest": digest(secret)}).one_or_none()
    return None if row is None else view(row)


def is_last_use_outdated(token: TokenView) -> bool:
    """Return whether `last_used_at` of a token that is used now has to be written again."""
    return token.last_used_at is None or datetime.now(UTC) - token.last_used_at > _LAST_USE_RESOLUTION


def record_use(connection: Connection, name: str) -> None:
    """Set a token's `last_used_at` to now, unless another transaction has locked the token."""
    t = tables.token.c
    is_free = t.name.in_(select(t.name).where(t.name == name).with_for_update(skip_locked=True))
    connection.execute(update(tables.token).where(is_free).values(last_used_at=datetime.now(UTC)))
