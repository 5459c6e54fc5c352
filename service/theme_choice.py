"""The reader's choice between the light and the dark theme, which a cookie keeps.

Without a choice, pages follow the browser's setting. Pages are rendered with the chosen theme, so that they
never show the other one first.
"""

__all__ = ["Theme", "ThemeChoice", "can_return", "chosen_theme", "dark_media", "keep_theme", "theme_named"]

from contextvars import ContextVar
from datetime import timedelta
from typing import Final, Literal, get_args

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.public_address import is_tls, root_path

Theme = Literal["light", "dark", "auto"]

_CHOSEN: Final[ContextVar[Theme]] = ContextVar("chosen_theme", default="auto")
_CAN_RETURN: Final[ContextVar[bool]] = ContextVar("can_return", default=True)
# Browsers send cookies to every port of a host, and other services there may have a theme, too.
_COOKIE: Final = "tangent-theme"
_KEPT: Final = timedelta(days=365)
_MEDIA: Final[dict[Theme, str]] = {
    "light": "not all",
    "dark": "screen",
    "auto": "screen and (prefers-color-scheme: dark)",
}


class ThemeChoice:
    """Tells the pages of a request which theme its cookie names, and whether a reader can return to them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = theme_named(Request(scope).cookies.get(_COOKIE, ""))
        token = _CHOSEN.set(named or "auto")
        can_return = _CAN_RETURN.set(scope["method"] in {"GET", "HEAD"})
        try:
            await self._app(scope, receive, send)
        finally:
            _CHOSEN.reset(token)
            _CAN_RETURN.reset(can_return)


def theme_named(name: str) -> Theme | None:
    """Return the theme of this name, or None if there is none."""
    return next((theme for theme in get_args(Theme) if theme == name), None)


def chosen_theme() -> Theme:
    """Return the theme that the reader of the current request has chosen."""
    return _CHOSEN.get()


def can_return() -> bool:
    """Return whether a reader who leaves the current page can come back to it by its address.

    The answer to a form cannot be had again, and has what was written in it.
    """
    return _CAN_RETURN.get()


def dark_media(theme: Theme) -> str:
    """Return the media to which the dark style sheet applies in a theme; never to print."""
    return _MEDIA[theme]


def keep_theme(request: Request, response: Response, theme: Theme) -> None:
    """Set the cookie of a theme in the browser, or delete it if the theme is automatic.

    Scripts may read it, and links of other sites lead to pages in the chosen theme, too.
    """
    path, is_secure = root_path() or "/", is_tls(request)
    if theme == "auto":
        response.delete_cookie(_COOKIE, path=path, secure=is_secure, samesite="lax")
        return
    lasts = int(_KEPT.total_seconds())
    response.set_cookie(_COOKIE, theme, max_age=lasts, path=path, secure=is_secure, samesite="lax")
