"""Who asks for a change of what is stored, and what they may change."""

__all__ = ["OPERATOR", "RANK", "Actor", "check_may_change", "check_role", "may_change", "may_submit"]

from dataclasses import dataclass

from studies.errors import Forbidden, NotOwner
from studies.views import Role

RANK: dict[Role, int] = {"viewer": 0, "submitter": 1, "admin": 2}
"""The roles, those that may do more above those that may do less."""


@dataclass(frozen=True)
class Actor:
    """Who asks.

    Attributes:
        name: the token's name; None for whoever needs none: on an open service, or at the database itself.
        role: what they may do.
        address: where the request came from, as far as that is known.
    """

    name: str | None
    role: Role
    address: str | None = None


OPERATOR = Actor(name=None, role="admin")
"""Whoever works at the database itself, where no token is asked for."""


def check_role(actor: Actor, needed: Role) -> None:
    """Return when somebody's role is high enough.

    Raises:
        Forbidden: it is not.
    """
    if RANK[actor.role] < RANK[needed]:
        raise Forbidden(f"token {actor.name!r} is {_article(actor.role)}, and this needs {_article(needed)}")


def may_submit(actor: Actor) -> bool:
    """Return whether somebody may submit studies at all."""
    return RANK[actor.role] >= RANK["submitter"]


def may_change(actor: Actor, owner: str | None) -> bool:
    """Return whether somebody may change a study of this owner.

    An admin any, a submitter their own, a viewer none.
    """
    return actor.role == "admin" or (actor.role == "submitter" and owner == actor.name)


def check_may_change(actor: Actor, study_id: str, owner: str | None) -> None:
    """Return when somebody may change a study, as `may_change` has it.

    Raises:
        Forbidden: a viewer asks.
        NotOwner: the study is another's.
    """
    check_role(actor, "submitter")
    if not may_change(actor, owner):
        whose = "nobody who has a token" if owner is None else repr(owner)
        raise NotOwner(
            f"study {study_id!r} belongs to {whose}, and {actor.name!r} may change only "
            "their own; clone it, or ask an admin"
        )


def _article(role: Role) -> str:
    return f"an {role}" if role == "admin" else f"a {role}"
