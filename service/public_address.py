"""The address by which browsers and programs reach the service, which a proxy in front of it decides.

With `TANGENT_ROOT_PATH=/tangent` the service is at `https://lab.example/tangent/`. Everything inside the
service uses paths without that root; it is removed from requests and added to links and redirects here.
"""

__all__ = ["RootPath", "is_tls", "public_url", "root_path", "with_root"]

import re
from contextvars import ContextVar
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.settings import ServiceSettings

_ROOT: Final[ContextVar[str]] = ContextVar("root_path", default="")
# Attributes with a path of this service. Text from users cannot contain one, because its quotes are escaped.
_LINK: Final = re.compile(r'(?<=\s)(href|src|action|formaction|hx-(?:get|post))="/(?!/)')


class RootPath:
    """Serves an application below a path, whether or not the proxy removes that path from requests.

    Args:
        app: the next application.
        root: the path, without a slash at its end; empty for none.
    """

    def __init__(self, app: ASGIApp, root: str) -> None:
        self._app = app
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not self._root:
            await self._app(scope, receive, send)
            return

        async def send_with_root(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("location", "").startswith("/"):
                    headers["location"] = f"{self._root}{headers['location']}"
            await send(message)

        inner = {**scope, "path": self._below(scope["path"])}
        if scope.get("raw_path") is not None:
            inner["raw_path"] = self._below(scope["raw_path"].decode("latin-1")).encode("latin-1")
        token = _ROOT.set(self._root)
        try:
            await self._app(inner, receive, send_with_root)
        finally:
            _ROOT.reset(token)

    def _below(self, path: str) -> str:
        is_below = path == self._root or path.startswith(f"{self._root}/")
        return (path.removeprefix(self._root) or "/") if is_below else path


def root_path() -> str:
    """Return the path below which the current request was served, such as `/tangent`; empty for none."""
    return _ROOT.get()


def with_root(page: str) -> str:
    """Return a page of HTML with the root path before each path of this service in its links and forms."""
    root = root_path()
    return _LINK.sub(rf'\1="{root}/', page) if root else page


def is_tls(request: Request) -> bool:
    """Return whether the browser uses TLS, with the service or with a proxy in front of it.

    A client that forges the proxy's header only gets a cookie that is less useful to it.
    """
    settings: ServiceSettings = request.app.state.settings
    # Each of several proxies may append its own scheme; the first is the scheme that the browser used.
    outermost = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in {request.url.scheme, outermost} or settings.url.startswith("https://")


def public_url(request: Request) -> str:
    """Return the URL of this service as the caller of a request knows it, without a slash at its end."""
    return f"{'https' if is_tls(request) else 'http'}://{request.url.netloc}{root_path()}"
