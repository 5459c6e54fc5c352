"""The actor behind a request, and the changes that its role permits."""

__all__ = ["OPERATOR", "RANK", "Actor", "check_may_change", "check_role", "may_change", "may_submit"]

from dataclasses import dataclass

from studies.errors import Forbidden, NotOwner
from studies.views import Role

RANK: dict[Role, int] = {"viewer": 0, "submitter": 1, "admin": 2}
"""The roles by rank: a higher rank permits everything that a lower one does."""


@dataclass(frozen=True)
class Actor:
    """Who makes a request.

    Attributes:
        name: the token's name; None on an open service and for direct access to the database.
        role: what the actor may do.
        address: where the request came from, if known.
    """

    name: str | None
    role: Role
    address: str | None = None


OPERATOR = Actor(name=None, role="admin")
"""An actor with direct access to the database, which needs no token."""


def check_role(actor: Actor, needed: Role) -> None:
    """Raise Forbidden if the actor's role is lower than `needed`.

    Raises:
        Forbidden: the role is too low.
    """
    if RANK[actor.role] < RANK[needed]:
        raise Forbidden(
            f"token {actor.name!r} has the role {actor.role}, but this needs the role {needed} or higher; "
            "use another token, or ask an admin"
        )


def may_submit(actor: Actor) -> bool:
    """Return whether the actor may submit studies."""
    return RANK[actor.role] >= RANK["submitter"]


def may_change(actor: Actor, owner: str | None) -> bool:
    """Return whether the actor may change a study of this owner.

    An admin may change every study, a submitter only their own, a viewer none.
    """
    return actor.role == "admin" or (actor.role == "submitter" and owner == actor.name)


def check_may_change(actor: Actor, study_id: str, owner: str | None) -> None:
    """Raise unless `may_change` allows the actor to change a study.

    Raises:
        Forbidden: the actor is a viewer.
        NotOwner: the study belongs to someone else.
    """
    check_role(actor, "submitter")
    if not may_change(actor, owner):
        whose = "has no owner" if owner is None else f"belongs to {owner!r}"
        raise NotOwner(
            f"study {study_id!r} {whose}, and {actor.name!r} may change only their own studies; clone it, "
            "or ask an admin"
        )
