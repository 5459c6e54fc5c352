"""The check that a token was not revoked while its request was on the way."""

__all__ = ["check_valid"]

from sqlalchemy import Connection, select

from studies.actors import Actor
from studies.errors import Unauthenticated
from studies.store import tables


def check_valid(connection: Connection, by: Actor) -> None:
    """Raise Unauthenticated if the actor's token was revoked.

    A request lasts as long as its sender takes to send it: its token was valid when the request began, and
    may have been revoked since.
    """
    t = tables.token.c
    if (
        by.name is not None
        and connection.execute(select(t.name).where(t.name == by.name, t.revoked_at.is_not(None))).first()
        is not None
    ):
        raise Unauthenticated(f"API token {by.name!r} was revoked during the request; use another token")
