"""The cookie by which a browser is known once its user has shown a token.

What it is called, how it is set, read and taken back.

`HttpOnly`: no script reads it. `SameSite=Strict`: no page of another site sends it. Behind TLS it is
`Secure`, and its name's prefix keeps neighbouring hosts from planting one. What it holds is a random secret
and says nothing; `studies.store.sessions` knows whose it is.
"""

__all__ = ["clear_session_cookie", "safe_redirect_path", "session_secret", "set_session_cookie"]

import re
from datetime import timedelta

from fastapi import Request, Response

from service.settings import ServiceSettings

_NAME = "tangent"
_SECURE_NAME = "__Host-tangent"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
# A path of this service and nothing that a browser could take for another's address.
_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,1000}")


def _is_tls(request: Request) -> bool:
    """Return whether the browser speaks TLS, with us or with a proxy before us.

    Whoever makes the proxy's header up only gets a cookie that is of less use to them.
    """
    settings: ServiceSettings = request.app.state.settings
    # Of several proxies each may add how it was reached: the first, how the browser reached them.
    outermost = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in {request.url.scheme, outermost} or settings.url.startswith("https://")


def session_secret(request: Request) -> str | None:
    """Return the secret of the session that came with a request; None when none did."""
    given = request.cookies.get(_SECURE_NAME if _is_tls(request) else _NAME, "")
    return given if _SECRET.fullmatch(given) else None


def set_session_cookie(request: Request, response: Response, secret: str, *, lasts: timedelta) -> None:
    """Have the browser send the session's secret from now on."""
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
    """Have the browser forget the session's secret."""
    is_tls = _is_tls(request)
    response.delete_cookie(
        _SECURE_NAME if is_tls else _NAME, path="/", secure=is_tls, httponly=True, samesite="strict"
    )


def safe_redirect_path(asked: str) -> str:
    """Return the path, with its query, that a login was asked to lead to.

    The first page where it is none of this service's.
    """
    return asked if _PATH.fullmatch(asked) and not asked.startswith(("/login", "/logout")) else "/"
