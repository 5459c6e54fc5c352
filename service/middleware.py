"""Middleware: security headers, host and cross-site checks, a limit on bodies, and a last error boundary.

It is plain ASGI, so that event streams pass through unbuffered.
"""

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "BodyLimit",
    "CrossSiteCheck",
    "ErrorBoundary",
    "HeadRequests",
    "HostCheck",
    "QueryLimit",
    "SecurityHeaders",
]

from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.errors import HTTPProblem, problem_of
from service.exception_handlers import internal_error_response, problem_response
from service.settings import is_loopback
from service.strict_json import MAX_BODY_BYTES

# Larger bodies wait for one of a few places, so that many at once stay within bounded memory. Bodies of the
# usual size never wait.
_SMALL_BODY_BYTES = 1 << 16
_LARGE_BODIES = 16
_MAX_PARAMETERS = 100

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What the pages may load: only what the service itself serves, and no inline script or style."""

_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not 'no-referrer': with it, browsers send `Origin: null` even from our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Studies change while their trials run, so a cached copy must be revalidated before it is used.
    "cache-control": "no-cache",
}

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityHeaders:
    """Adds security headers to every response, except those that a route has set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class ErrorBoundary:
    """Responds to exceptions that no handler took, inside the security headers.

    The framework's own error middleware is outside them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except ClientDisconnect:
            return
        except Exception as error:
            response = internal_error_response(Request(scope), error)
            # A response that was cut off must not look complete: the server closes the connection.
            if has_begun:
                raise
            await response(scope, receive, send)


class HostCheck:
    """Refuses requests whose `Host` is not one of the service's names, as after DNS rebinding.

    Args:
        app: the next application.
        hosts: the service's names besides those of this machine; None accepts every name, for a service that
            requires a token of each caller.
        exempt_paths: paths that probes and scrapers request by whatever address a replica has.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str] | None, exempt_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._exempt_paths = exempt_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and self._hosts is not None and scope["path"] not in self._exempt_paths:
            host = _host_name(Headers(scope=scope).get("host", ""))
            if not (is_loopback(host) or host in self._hosts):
                detail = (
                    f"{host[:100]!r} is not a host name of this service; if it should be, add it to "
                    "TANGENT_ALLOWED_HOSTS"
                )
                response = problem_response(Request(scope), problem_of(errors.HOST_REFUSED, detail))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _host_name(authority: str) -> str:
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:
        return ""


class CrossSiteCheck:
    """Refuses changes that another site's page makes a browser request, with or without a token.

    A browser attaches credentials by itself, and can reach services that listen only to its own machine.
    Programs send neither of the two headers and pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            headers = Headers(scope=scope)
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            # Another port of the same host counts as 'same-site', but it is another program.
            is_own = (
                site in {"same-origin", "none"}
                if site is not None
                else origin is None or origin.partition("://")[2] == headers.get("host")
            )
            if not is_own:
                sender = "another site" if origin in {None, "null"} else str(origin)[:100]
                detail = f"a page of {sender} may not change anything here"
                response = problem_response(Request(scope), problem_of(errors.CROSS_SITE, detail))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


class QueryLimit:
    """Refuses queries with more parameters than any route has, before each becomes a fault of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        count = scope["query_string"].count(b"&") + 1 if scope["type"] == "http" else 0
        if count > _MAX_PARAMETERS:
            detail = f"expected at most {_MAX_PARAMETERS} parameters in the query, got {count}"
            response = problem_response(Request(scope), problem_of(errors.PARAMETER_INVALID, detail))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


class HeadRequests:
    """Answers HEAD wherever GET works: with the status and headers of GET, and without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_answered = False

        async def send_without_body(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                await send(message)
                is_answered = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            elif message.get("more_body", False):
                # Ends a stream.
                raise ClientDisconnect

        async def receive_until_answered() -> Message:
            return {"type": "http.disconnect"} if is_answered else await receive()

        # Not a copy, in which the log would not see the route.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive_until_answered, send_without_body)
        finally:
            scope["method"] = "HEAD"


class BodyLimit:
    """Refuses bodies above `MAX_BODY_BYTES`, with or without a `Content-Length`.

    It also limits how many large bodies are received and handled at once.

    Args:
        app: the next application.
        wait_s: how long a large body waits for its turn before it is refused.
    """

    def __init__(self, app: ASGIApp, wait_s: float = 10.0) -> None:
        self._app = app
        self._wait_s = wait_s
        self._places = anyio.CapacityLimiter(_LARGE_BODIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body may have at most {MAX_BODY_BYTES} bytes"
        content_length = Headers(scope=scope).get("content-length", "0")
        if not content_length.isdecimal() or int(content_length[:20]) > MAX_BODY_BYTES:
            response = problem_response(Request(scope), problem_of(errors.BODY_TOO_LARGE, detail))
            await response(scope, receive, send)
            return
        # No route reads the body of a safe method; an event stream drops it.
        is_kept = scope["method"] not in _SAFE_METHODS
        received, has_place = 0, False

        async def receive_counted() -> Message:
            nonlocal received, has_place
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPProblem(errors.BODY_TOO_LARGE, detail)
            if is_kept and received > _SMALL_BODY_BYTES and not has_place:
                # The server stops reading from the client meanwhile.
                with anyio.move_on_after(self._wait_s):
                    await self._places.acquire_on_behalf_of(receive_counted)
                    has_place = True
                if not has_place:
                    raise HTTPProblem(
                        errors.TOO_MANY_BODIES, errors.TOO_MANY_BODIES.example, headers={"retry-after": "5"}
                    )
            return message

        try:
            await self._app(scope, receive_counted, send)
        finally:
            if has_place:
                self._places.release_on_behalf_of(receive_counted)
