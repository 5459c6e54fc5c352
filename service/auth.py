"""Authentication, roles and rate limits.

While no API token exists, the service is open and listens only to its own machine. Once there is a token,
every request needs one.

A program sends its token. A browser sends it once, at /login, and a cookie afterwards
(`service.session_cookie`). Whether a role may change another user's study is decided in `studies.actors`,
where the study changes.
"""

__all__ = [
    "CurrentActor",
    "CurrentAdmin",
    "address_of",
    "authorize",
    "caller_of",
    "check_exposure",
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
from service.recent_credentials import RecentCredentials
from service.session_cookie import session_secret
from service.settings import ServiceSettings, is_loopback
from studies.actors import Actor, check_role
from studies.errors import NotPermitted, Unauthenticated
from studies.store import Store
from studies.views import TokenView

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# No other text can be a secret of ours, so none is looked up.
_SECRET = re.compile(r"[\x21-\x7e]{1,256}")


def check_exposure(settings: ServiceSettings, store: Store) -> None:
    """Raise NotPermitted if other machines could reach the service and no token guards it."""
    if is_loopback(settings.host) or any(token.revoked_at is None for token in store.tokens()):
        return
    raise NotPermitted(
        f"anyone who reaches {settings.host} could use this service, because no API token exists: create one "
        "with `tangent token create NAME --role admin`, or listen on 127.0.0.1"
    )


def could_be_secret(text: str) -> bool:
    """Return whether a text has the form of a token's secret."""
    return _SECRET.fullmatch(text) is not None


def is_open(request: Request) -> bool:
    """Return whether the service accepts requests without a token.

    It does not once a token has existed, even if every token is revoked: to open the service again would
    surprise the person who revoked them.
    """
    settings: ServiceSettings = request.app.state.settings
    store: Store = request.app.state.store
    return is_loopback(settings.host) and not store.tokens()


def address_of(request: Request) -> str | None:
    """Return the address that a request came from; behind a proxy that is not trusted, the proxy's."""
    settings: ServiceSettings = request.app.state.settings
    peer = None if request.client is None else request.client.host
    return client_address(peer, request.headers.getlist("x-forwarded-for"), trusted=settings.trusted_proxies)


def caller_of(request: Request) -> str | None:
    """Return the name of the token that authorized a request; None on an open service."""
    return getattr(request.state, "caller", None)


def _too_many_requests(request: Request, source: str, wait_s: int) -> HTTPProblem:
    settings: ServiceSettings = request.app.state.settings
    limit = f"{settings.rate_per_s:g} {'request' if settings.rate_per_s == 1 else 'requests'} a second"
    return HTTPProblem(
        errors.RATE_LIMITED,
        f"{source} made more than {limit}; retry in {wait_s} s",
        headers={"retry-after": str(wait_s)},
    )


def _take(request: Request, source: str) -> None:
    """Count a request of a token or an address; raise HTTPProblem if it made too many."""
    limits: RateLimits = request.app.state.rate_limits
    if wait_s := limits.take(source):
        raise _too_many_requests(request, source, wait_s)


def _secret_of(request: Request) -> str | None:
    """Return the token that a request sends, as Bearer or as the password of Basic; None without one."""
    scheme, credentials = get_authorization_scheme_param(request.headers.get("authorization"))
    match scheme.lower():
        case "bearer":
            return credentials
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
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
    """Return who sent a request, if their role allows it: a viewer may read, a submitter may also change.

    Raises:
        HTTPProblem: the token, or the address without a valid one, made too many requests.
        Unauthenticated: a token is required, and the request has no valid one.
        Forbidden: the token's role is too low.
    """
    limits: RateLimits = request.app.state.rate_limits
    recent: RecentCredentials = request.app.state.recent_credentials
    address = address_of(request)
    source = f"address {neighbourhood(address)}"
    # Before the database is asked: an address that sends too many invalid tokens causes no more queries.
    # Callers whose credentials were accepted recently are not held up by others at their address.
    if request not in recent and (wait_s := limits.wait_s(source)):
        raise _too_many_requests(request, source, wait_s)
    secret = _secret_of(request)
    token = _token_of(request, secret)
    if token is None:
        recent.discard(request)
        if is_open(request):
            return Actor(name=None, role="admin", address=address)
        _take(request, source)
        if secret is None:
            raise Unauthenticated("this service needs an API token; send it as `Authorization: Bearer TOKEN`")
        raise Unauthenticated(
            "the API token is not valid: it was revoked or never existed; "
            "`tangent token create` makes a new one"
        )
    recent.add(request)
    # For the log, which names the caller of refused requests too.
    request.state.caller = token.name
    _take(request, f"token {token.name!r}")
    actor = Actor(name=token.name, role=token.role, address=address)
    check_role(actor, "viewer" if request.method in _SAFE_METHODS else "submitter")
    return actor


CurrentActor = Annotated[Actor, Depends(authorize)]
"""A route's parameter: the caller, after authorization."""


def is_still_authorized(request: Request) -> bool:
    """Return whether the reader of an open stream could still read: the token may be revoked meanwhile."""
    return _token_of(request, _secret_of(request)) is not None or is_open(request)


def _require_admin(actor: CurrentActor) -> Actor:
    """Return the caller; raise Forbidden unless they are an admin."""
    check_role(actor, "admin")
    return actor


CurrentAdmin = Annotated[Actor, Depends(_require_admin)]
"""A route's parameter: the caller, who is an admin."""
