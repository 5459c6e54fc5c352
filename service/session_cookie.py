"""The session cookie of a browser that has logged in with a token.

`HttpOnly`: scripts cannot read it. `SameSite=Strict`: pages of other sites cannot send it. With TLS it is
`Secure`, and the prefix of its name keeps neighbouring hosts from setting it. Below a path of its host, the
service's cookie is sent only there. Its value is a random secret;
`studies.store.sessions` knows whose it is.
"""

__all__ = ["clear_session_cookie", "safe_redirect_path", "session_secret", "set_session_cookie"]

import re
from datetime import timedelta

from fastapi import Request, Response

from service.public_address import is_tls, root_path

_NAME = "tangent"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
# A path of this service, and never a text that a browser could take for another site's address.
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")


def _name(request: Request) -> str:
    """Return the cookie's name.

    With TLS, the prefix makes browsers enforce the cookie's attributes. `__Host-` does not allow a path.
    """
    if not is_tls(request):
        return _NAME
    return f"__Secure-{_NAME}" if root_path() else f"__Host-{_NAME}"


def session_secret(request: Request) -> str | None:
    """Return the session secret in a request's cookie; None without one."""
    given = request.cookies.get(_name(request), "")
    return given if _SECRET.fullmatch(given) else None


def set_session_cookie(request: Request, response: Response, secret: str, *, lasts: timedelta) -> None:
    """Set the session cookie in the browser."""
    response.set_cookie(
        _name(request),
        secret,
        max_age=int(lasts.total_seconds()),
        path=root_path() or "/",
        secure=is_tls(request),
        httponly=True,
        samesite="strict",
    )


def clear_session_cookie(request: Request, response: Response) -> None:
    """Delete the session cookie in the browser."""
    response.delete_cookie(
        _name(request), path=root_path() or "/", secure=is_tls(request), httponly=True, samesite="strict"
    )


def safe_redirect_path(path: str) -> str:
    """Return the path, with its query, to open after a login; `/` if it is not a path of this service."""
    return path if _PATH.fullmatch(path) and not path.startswith(("/login", "/logout")) else "/"
