"""Who uses the service: tokens, the sessions of browsers, and the log of what everybody did."""

__all__ = ["Accounts"]

from datetime import timedelta

from studies.actors import OPERATOR, Actor
from studies.store import audit, sessions, tokens
from studies.store.engine import Database
from studies.views import AuditVerb, AuditView, Page, Quotas, Role, TokenView


class Accounts:
    """The part of the store that knows its users; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        """Wrap an open database whose schema is up to date."""
        self._database = database

    def create_token(
        self, name: str, *, role: Role, quotas: Quotas | None = None, by: Actor = OPERATOR
    ) -> str:
        """Make an API token and return its secret, this once.

        Raises:
            SpecInvalid: the name is empty, longer than 64 characters or not printable.
            Forbidden: the actor is no admin.
            Conflict: the name is taken.
        """
        with self._database.write() as connection:
            return tokens.create(connection, name, role=role, bounds=quotas or Quotas(), by=by)

    def create_first_token(self, name: str, *, secret: str) -> bool:
        """Make an admin's token of a given secret where there is no token yet, not even a revoked one.

        Return whether that was so.

        Raises:
            SpecInvalid: the name is none, or the secret is too short to be one.
        """
        with self._database.exclusive("first-token"), self._database.write() as connection:
            is_first = not tokens.every(connection)
            if is_first:
                tokens.create(connection, name, role="admin", bounds=Quotas(), by=OPERATOR, secret=secret)
            return is_first

    def set_quotas(self, name: str, quotas: Quotas, *, by: Actor = OPERATOR) -> TokenView:
        """Give a token other quotas, all of them anew, and return it; studies that are open already go on.

        Raises:
            Forbidden: the actor is no admin.
            TokenNotFound: there is none.
        """
        with self._database.write() as connection:
            tokens.set_quotas(connection, name, quotas, by=by)
            return tokens.with_use(connection, tokens.named(connection, name))

    def revoke_token(self, name: str, *, by: Actor = OPERATOR) -> None:
        """Make a token worthless, and the sessions that it has begun.

        Raises:
            Forbidden: the actor is no admin.
            TokenNotFound: there is none.
        """
        with self._database.write() as connection:
            tokens.revoke(connection, name, by=by)

    def tokens(self) -> tuple[TokenView, ...]:
        """Return all tokens, without their secrets and without what they have used."""
        with self._database.read() as connection:
            return tokens.every(connection)

    def tokens_with_usage(self) -> tuple[TokenView, ...]:
        """Return all tokens, without their secrets, each with what it has used of its quotas."""
        with self._database.read() as connection:
            return tuple(tokens.with_use(connection, token) for token in tokens.every(connection))

    def token(self, name: str) -> TokenView:
        """Return a token with what it has used of its quotas.

        Raises:
            TokenNotFound: there is none.
        """
        with self._database.read() as connection:
            return tokens.with_use(connection, tokens.named(connection, name))

    def authenticate(self, secret: str) -> TokenView | None:
        """Return the valid token of this secret, or None; its use is noted once a minute."""
        with self._database.read() as connection:
            found = tokens.authenticate(connection, secret)
        return self._used(found)

    def log_in(self, secret: str, *, lasts: timedelta, address: str | None) -> str | None:
        """Begin a browser's session for the valid token of this secret and return the session's own secret.

        None where the token is not valid.

        Either is noted in the log.
        """
        with self._database.write() as connection:
            found = tokens.authenticate(connection, secret)
            if found is None:
                audit.note(connection, Actor(name=None, role="viewer", address=address), "login.refused")
                return None
            audit.note(connection, Actor(name=found.name, role=found.role, address=address), "login")
            return sessions.begin(connection, found.name, lasts=lasts)

    def delete_refused_logins(self, *, older_than: timedelta) -> int:
        """Remove entries of logins that were refused longer ago from the log; return how many."""
        with self._database.write() as connection:
            return audit.forget(connection, "login.refused", older_than=older_than)

    def session_owner(self, secret: str) -> TokenView | None:
        """Return the token whose session this is; None when that has ended, or the token was revoked.

        Its use is noted once a minute.
        """
        with self._database.read() as connection:
            found = sessions.owner(connection, secret)
        return self._used(found)

    def log_out(self, secret: str, *, by: Actor) -> None:
        """End a browser's session; one that has ended already stays so."""
        with self._database.write() as connection:
            if sessions.end(connection, secret):
                audit.note(connection, by, "logout")

    def audit(
        self,
        *,
        actor: str | None = None,
        verb: AuditVerb | None = None,
        study_id: str | None = None,
        page_size: int = 100,
        page_token: str | None = None,
    ) -> Page[AuditView]:
        """Return a page of what was done, newest first.

        Raises:
            SpecInvalid: the page token is none of ours.
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

    def _used(self, token: TokenView | None) -> TokenView | None:
        if token is not None and tokens.is_use_due(token):
            with self._database.write() as connection:
                tokens.note_use(connection, token.name)
        return token
