"""The session cookie of a browser that has logged in with a token.

`HttpOnly`: scripts cannot read it. `SameSite=Strict`: pages of other sites cannot send it. With TLS it is
`Secure`, and the prefix of its name keeps neighbouring hosts from setting it. Its value is a random secret;
`studies.store.sessions` knows whose it is.
"""

__all__ = ["clear_session_cookie", "safe_redirect_path", "session_secret", "set_session_cookie"]

import re
from datetime import timedelta

from fastapi import Request, Response

from service.settings import ServiceSettings

_NAME = "tangent"
_SECURE_NAME = "__Host-tangent"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
# A path of this service, and never a text that a browser could take for another site's address.
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")


def _is_tls(request: Request) -> bool:
    """Return whether the browser uses TLS, with the service or with a proxy in front of it.

    A client that forges the proxy's header only gets a cookie that is less useful to it.
    """
    settings: ServiceSettings = request.app.state.settings
    # Each of several proxies may append its own scheme; the first is the scheme that the browser used.
    outermost = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in {request.url.scheme, outermost} or settings.url.startswith("https://")


def session_secret(request: Request) -> str | None:
    """Return the session secret in a request's cookie; None without one."""
    given = request.cookies.get(_SECURE_NAME if _is_tls(request) else _NAME, "")
    return given if _SECRET.fullmatch(given) else None


def set_session_cookie(request: Request, response: Response, secret: str, *, lasts: timedelta) -> None:
    """Set the session cookie in the browser."""
    is_tls = _is_tls(request)
    name = _SECURE_NAME if is_tls else _NAME
    response.set_cookie(
        name,
        secret,
        max_age=int(lasts.total_seconds()),
        path="/",
        secure=is_tls,
        httponly=True,
        samesite="strict",
    )


def clear_session_cookie(request: Request, response: Response) -> None:
    """Delete the session cookie in the browser."""
    is_tls = _is_tls(request)
    response.delete_cookie(
        _SECURE_NAME if is_tls else _NAME, path="/", secure=is_tls, httponly=True, samesite="strict"
    )


def safe_redirect_path(path: str) -> str:
    """Return the path, with its query, to open after a login; `/` if it is not a path of this service."""
    return path if _PATH.fullmatch(path) and not path.startswith(("/login", "/logout")) else "/"
