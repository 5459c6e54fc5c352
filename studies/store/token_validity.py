"""Whether whoever asked for a change may still ask when it is made."""

__all__ = ["check_valid"]

from sqlalchemy import Connection, select

from studies.actors import Actor
from studies.errors import Unauthenticated
from studies.store import tables


def check_valid(connection: Connection, by: Actor) -> None:
    """Return when an actor's token still stands.

    A request can last for as long as its sender takes to send it: its token was valid when it began, and may
    have been revoked since.

    Raises:
        Unauthenticated: the token was revoked.
    """
    t = tables.token.c
    if (
        by.name is not None
        and connection.execute(select(t.name).where(t.name == by.name, t.revoked_at.is_not(None))).first()
        is not None
    ):
        raise Unauthenticated(f"the API token {by.name!r} was revoked while the request was on its way")
