"""Who may do what.

Without tokens the service is open, and listens to this machine only; with one token, every request needs a
token.

A program sends its token; a browser shows it once, at /login, and from then on sends a cookie
(`service.session_cookie`). What a role may do with another user's study is decided where that study changes,
in `studies.actors`.
"""

__all__ = [
    "CurrentActor",
    "CurrentAdmin",
    "address_of",
    "authorize",
    "caller_of",
    "check_exposure",
    "check_rate_limit",
    "could_be_secret",
    "is_open",
    "is_still_authorized",
]

import base64
import binascii
import re
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from service import errors
from service.client_address import client_address, neighbourhood
from service.errors import HTTPProblem
from service.rate_limits import RateLimits
from service.session_cookie import session_secret
from service.settings import ServiceSettings, is_loopback
from studies.actors import Actor, check_role
from studies.errors import NotPermitted, Unauthenticated
from studies.store import Store
from studies.views import TokenView

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Anything else is no secret of ours, and need not be looked for.
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")


def check_exposure(settings: ServiceSettings, store: Store) -> None:
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


def could_be_secret(secret: str) -> bool:
    """Return whether a text could be the secret of a token."""
    return _SECRET.fullmatch(secret) is not None


def is_open(request: Request) -> bool:
    """Return whether the service asks nobody for a token.

    A revoked token still closes the house: an open one would be a surprise to whoever revoked it.
    """
    settings: ServiceSettings = request.app.state.settings
    store: Store = request.app.state.store
    return is_loopback(settings.host) and not store.tokens()


def address_of(request: Request) -> str | None:
    """Return the address that a request came from: behind a proxy that is not trusted the proxy's."""
    settings: ServiceSettings = request.app.state.settings
    peer = None if request.client is None else request.client.host
    return client_address(peer, request.headers.getlist("x-forwarded-for"), trusted=settings.trusted_proxies)


def caller_of(request: Request) -> str | None:
    """Return the name of the token that a request was permitted by; None on an open service."""
    return getattr(request.state, "caller", None)


def check_rate_limit(request: Request, key: str) -> None:
    """Return when a caller has not made too many requests.

    Args:
        request: what was asked.
        key: whose requests are counted together.

    Raises:
        Refusal: there were too many; says when to come again.
    """
    limits: RateLimits = request.app.state.rate_limits
    wait_s = limits.wait_s(key)
    if wait_s:
        settings: ServiceSettings = request.app.state.settings
        detail = (
            f"more than {settings.rate_per_s:g} requests a second came from "
            f"{key}; send the next in {wait_s} s"
        )
        raise HTTPProblem(errors.RATE_LIMITED, detail, headers={"retry-after": str(wait_s)})


def _secret_of(request: Request) -> str | None:
    """Return the token that came with a request, as Bearer or as the password of Basic.

    None when none did.
    """
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


def _token_of(request: Request, secret: str | None) -> TokenView | None:
    store: Store = request.app.state.store
    if secret is not None:
        return store.authenticate(secret) if could_be_secret(secret) else None
    session = session_secret(request)
    return None if session is None else store.session_owner(session)


def authorize(request: Request) -> Actor:
    """Return who sent the request: a viewer may read, a submitter may also change.

    Raises:
        Refusal: whoever sent it sends too many.
        Unauthenticated: a token is needed, and no valid one came.
        Forbidden: the token's role is too low.
    """
    secret = _secret_of(request)
    token = _token_of(request, secret)
    address = address_of(request)
    if token is None:
        if is_open(request):
            return Actor(name=None, role="admin", address=address)
        check_rate_limit(request, f"address {neighbourhood(address)}")
        if secret is None:
            raise Unauthenticated("this service needs an API token; send it as `Authorization: Bearer TOKEN`")
        raise Unauthenticated(
            "the API token is not valid: it was revoked or never existed; "
            "`tangent token create` makes a new one"
        )
    # For the log: it names the caller of what is refused, too.
    request.state.caller = token.name
    check_rate_limit(request, f"token {token.name!r}")
    actor = Actor(name=token.name, role=token.role, address=address)
    check_role(actor, "viewer" if request.method in _SAFE_METHODS else "submitter")
    return actor


CurrentActor = Annotated[Actor, Depends(authorize)]
"""A route's parameter: who asks, once they may do what they ask for."""


def is_still_authorized(request: Request) -> bool:
    """Return whether whoever was permitted to read would be again.

    A stream lasts for hours, and its reader's token may be revoked meanwhile.
    """
    return _token_of(request, _secret_of(request)) is not None or is_open(request)


def _admin(actor: CurrentActor) -> Actor:
    """Return who sent the request, who must be an admin.

    Raises:
        Forbidden: the token's role is too low.
    """
    check_role(actor, "admin")
    return actor


CurrentAdmin = Annotated[Actor, Depends(_admin)]
"""A route's parameter: the admin who asks."""
