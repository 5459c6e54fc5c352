"""Who may do what. Without tokens the service is open, and listens to this machine only; with one token, every request needs a token."""

__all__ = ["Caller", "Permitted", "check_exposure", "permitted"]

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from service.settings import Settings, is_loopback
from studies.errors import Forbidden, NotPermitted, Unauthenticated
from studies.store import Store
from studies.views import Role

_RANK: dict[Role, int] = {"viewer": 0, "submitter": 1, "admin": 2}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Anything else is no secret of ours, and need not be looked for.
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: the token's name; None on an open service.
        role: what they may do.
    """

    name: str | None
    role: Role


def check_exposure(settings: Settings, store: Store) -> None:
    """Return when the service may listen where its settings say.

    Raises:
        NotPermitted: others than this machine could reach it, and no token guards it.
    """
    if is_loopback(settings.host) or any(token.revoked_at is None for token in store.tokens()):
        return
    raise NotPermitted(
        f"anyone who reaches {settings.host} could use this service, for no API token exists: make one with "
        "`tangent token create NAME --role admin`, or listen on 127.0.0.1"
    )


def _secret_of(request: Request) -> str | None:
    """Return the token that came with a request, as Bearer or as the password of Basic; None when none did."""
    scheme, given = get_authorization_scheme_param(request.headers.get("authorization"))
    match scheme.lower():
        case "bearer":
            return given
        case "basic":
            try:
                return base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return ""
        case _:
            return None


def permitted(request: Request) -> Caller:
    """Return who sent the request: a viewer may read, a submitter may also change.

    Raises:
        Unauthenticated: a token is needed, and no valid one came.
        Forbidden: the token's role is too low.
    """
    store: Store = request.app.state.store
    settings: Settings = request.app.state.settings
    secret = _secret_of(request)
    token = store.authenticate(secret) if secret is not None and _SECRET.fullmatch(secret) else None
    if token is None:
        # A revoked token still closes the house: an open one would be a surprise to whoever revoked it.
        if is_loopback(settings.host) and not store.tokens():
            return Caller(name=None, role="admin")
        if secret is None:
            raise Unauthenticated("this service needs an API token; send it as `Authorization: Bearer TOKEN`")
        raise Unauthenticated("the API token is not valid: it was revoked or never existed; `tangent token create` makes a new one")
    needed: Role = "viewer" if request.method in _SAFE_METHODS else "submitter"
    if _RANK[token.role] < _RANK[needed]:
        raise Forbidden(f"token {token.name!r} is a {token.role}, and this needs a {needed}")
    return Caller(name=token.name, role=token.role)


Permitted = Annotated[Caller, Depends(permitted)]
"""A route's parameter: the caller, once they may do what they ask for."""
