"""What every request passes before any route sees it.

Security headers, known hosts, no foreign pages, a limit on bodies, no fault untold.

Plain ASGI, so that event streams pass through unbuffered.
"""

__all__ = [
    "CONTENT_SECURITY_POLICY",
    "MAX_BODY_BYTES",
    "BodyLimit",
    "CrossSiteCheck",
    "ErrorBoundary",
    "HostCheck",
    "SecurityHeaders",
]

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.errors import HTTPProblem, problem_of
from service.exception_handlers import internal_error_response, problem_response
from service.settings import is_loopback

MAX_BODY_BYTES = 1 << 20
"""No study needs more than a few kilobytes."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What a page of ours may load.

Nothing that the service does not serve itself, and no script or style written into a page.
"""

_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not 'no-referrer': with it browsers send `Origin: null` on our own forms too.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # What is read changes while trials run; a copy has to be asked about before it is used again.
    "cache-control": "no-cache",
}

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SecurityHeaders:
    """Adds the headers that a browser is told to be careful with; a header that a route has set stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class ErrorBoundary:
    """Answers a fault that nothing else took.

    Inside the security headers, where the framework's own is outside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
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
            # An answer that was cut off in its middle must not look whole: the server closes the connection.
            response = internal_error_response(Request(scope), error)
            if has_begun:
                raise
            await response(scope, receive, send)


class HostCheck:
    """Refuses requests for a name that is not the service's own.

    A foreign page that had its name point to this machine (DNS rebinding).

    Args:
        app: what is behind the fence.
        hosts: names it goes by besides those of this machine; None lets every name pass, for a service that
            asks each caller for a token.
        by_any_name: paths that machinery asks for by whatever address a replica has at the moment.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str] | None, by_any_name: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._by_any_name = by_any_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and self._hosts is not None and scope["path"] not in self._by_any_name:
            host = _host_name(Headers(scope=scope).get("host", ""))
            if not (is_loopback(host) or host in self._hosts):
                detail = (
                    f"this service does not go by the name {host[:100]!r}; list it in "
                    "TANGENT_ALLOWED_HOSTS if it should"
                )
                await problem_response(Request(scope), problem_of(errors.HOST_REFUSED, detail))(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


def _host_name(authority: str) -> str:
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:
        return ""


class CrossSiteCheck:
    """Refuses changes that a browser asks for in the name of another site's page, with or without a token.

    A browser adds by itself the password it was given once, and reaches services that only this machine can
    reach. Programs send neither of the two headers and pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            headers = Headers(scope=scope)
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            # Another port of the same machine is 'same-site': it is another program all the same.
            is_own = (
                site in {"same-origin", "none"}
                if site is not None
                else origin is None or origin.partition("://")[2] == headers.get("host")
            )
            if not is_own:
                detail = (
                    f"a page of {'another site' if origin in {None, 'null'} else str(origin)[:100]} may "
                    "not change anything here"
                )
                await problem_response(Request(scope), problem_of(errors.CROSS_SITE, detail))(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies above `MAX_BODY_BYTES`, whether they announce their size or come in chunks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body may have at most {MAX_BODY_BYTES} bytes"
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal() or int(announced[:20]) > MAX_BODY_BYTES:
            await problem_response(Request(scope), problem_of(errors.BODY_TOO_LARGE, detail))(
                scope, receive, send
            )
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPProblem(errors.BODY_TOO_LARGE, detail)
            return message

        await self._app(scope, receive_counted, send)
