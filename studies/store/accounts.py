"""The store's methods for users: tokens, browser sessions and the audit log."""

__all__ = ["Accounts"]

from contextlib import suppress
from datetime import timedelta

from studies.actors import OPERATOR, Actor
from studies.errors import StoreUnavailable
from studies.store import audit, sessions, tokens
from studies.store.database import Database
from studies.views import AuditVerb, AuditView, Page, Quotas, Role, TokenView

# Longer than most transactions of other writers.
_USE_WAIT_S = 0.02


class Accounts:
    """Tokens, sessions and the audit log; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def create_token(
        self, name: str, *, role: Role, quotas: Quotas | None = None, by: Actor = OPERATOR
    ) -> str:
        """Create an API token and return its secret, which cannot be read again.

        Raises:
            SpecInvalid: the name is empty, longer than 64 characters or not printable.
            Forbidden: the actor is not an admin.
            Conflict: the name is taken.
        """
        with self._database.write() as connection:
            return tokens.create(connection, name, role=role, bounds=quotas or Quotas(), by=by)

    def create_first_token(self, name: str, *, secret: str) -> bool:
        """Create an admin token with this secret if no token was ever created, and return whether it was.

        Raises:
            SpecInvalid: the name is not valid, or the secret is too short.
        """
        with self._database.exclusive("first-token"), self._database.write() as connection:
            is_first = not tokens.all_tokens(connection)
            if is_first:
                tokens.create(connection, name, role="admin", bounds=Quotas(), by=OPERATOR, secret=secret)
            return is_first

    def set_quotas(self, name: str, quotas: Quotas, *, by: Actor = OPERATOR) -> TokenView:
        """Replace all quotas of a token and return it; studies that are already open go on.

        Raises:
            Forbidden: the actor is not an admin.
            TokenNotFound: the token does not exist.
        """
        with self._database.write() as connection:
            tokens.set_quotas(connection, name, quotas, by=by)
            return tokens.with_usage(connection, tokens.token(connection, name))

    def revoke_token(self, name: str, *, by: Actor = OPERATOR) -> None:
        """Revoke a token, delete its sessions and disable its webhooks.

        Raises:
            Forbidden: the actor is not an admin.
            TokenNotFound: the token does not exist.
        """
        with self._database.write() as connection:
            tokens.revoke(connection, name, by=by)

    def tokens(self) -> tuple[TokenView, ...]:
        """Return all tokens, without their secrets and their usage."""
        with self._database.read() as connection:
            return tokens.all_tokens(connection)

    def tokens_with_usage(self) -> tuple[TokenView, ...]:
        """Return all tokens with their usage, without their secrets."""
        with self._database.read() as connection:
            return tuple(tokens.with_usage(connection, token) for token in tokens.all_tokens(connection))

    def token(self, name: str) -> TokenView:
        """Return a token with its usage.

        Raises:
            TokenNotFound: the token does not exist.
        """
        with self._database.read() as connection:
            return tokens.with_usage(connection, tokens.token(connection, name))

    def authenticate(self, secret: str) -> TokenView | None:
        """Return the valid token with this secret, or None; update its `last_used_at` once a minute."""
        return self._record_use(
            self._database.look(lambda connection: tokens.authenticate(connection, secret))
        )

    def log_in(
        self, secret: str, *, lifetime: timedelta, address: str | None, records_refusal: bool = True
    ) -> str | None:
        """Begin a browser session for the valid token with this secret and return the session's own secret.

        Return None if the token is not valid. The audit log records both.

        Args:
            secret: the token's secret.
            lifetime: how long the session lasts.
            address: where the login comes from.
            records_refusal: whether the audit log records an invalid token. Under attack the caller can turn
                this off, so that the database is only read.
        """
        with self._database.read() as connection:
            is_valid = tokens.authenticate(connection, secret) is not None
        if not is_valid and not records_refusal:
            return None
        with self._database.write() as connection:
            found = tokens.authenticate(connection, secret)
            if found is None:
                audit.record(connection, Actor(name=None, role="viewer", address=address), "login.refused")
                return None
            audit.record(connection, Actor(name=found.name, role=found.role, address=address), "login")
            return sessions.begin(connection, found.name, lifetime=lifetime)

    def delete_refused_logins(self, *, older_than: timedelta) -> int:
        """Delete audit entries of refused logins that are older than this, and return how many."""
        with self._database.write() as connection:
            return audit.delete_old(connection, "login.refused", older_than=older_than)

    def session_owner(self, secret: str) -> TokenView | None:
        """Return the token of a session, or None if the session has ended or the token was revoked.

        Update the token's `last_used_at` once a minute.
        """
        with self._database.read() as connection:
            found = sessions.owner(connection, secret)
        return self._record_use(found)

    def log_out(self, secret: str, *, by: Actor) -> None:
        """End a browser session; a session that has already ended stays ended."""
        with self._database.write() as connection:
            if sessions.end(connection, secret):
                audit.record(connection, by, "logout")

    def audit(
        self,
        *,
        actor: str | None = None,
        verb: AuditVerb | None = None,
        study_id: str | None = None,
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[AuditView]:
        """Return a page of the audit log, newest first.

        Raises:
            SpecInvalid: the page token is invalid or belongs to another query.
        """
        with self._database.read() as connection:
            return audit.entries(
                connection,
                actor=actor,
                verb=verb,
                study_id=study_id,
                page_size=page_size,
                page_token=page_token,
            )

    def _record_use(self, token: TokenView | None) -> TokenView | None:
        """Update a token's `last_used_at` unless another writer is at work, whom a reader must not wait for.

        The token's next request tries again.
        """
        if token is not None and tokens.is_last_use_outdated(token):
            with suppress(StoreUnavailable), self._database.write(wait_s=_USE_WAIT_S) as connection:
                tokens.record_use(connection, token.name)
        return token
