"""The static files: the dashboard's scripts, styles and icon.

Their names contain a hash of their content.
"""

__all__ = ["Assets", "assets"]

import gzip
import hashlib
from functools import cache, cached_property
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from service.compression import accepts_gzip

_OWN = Path(__file__).parent / "static"
_FOREVER = "public, max-age=31536000, immutable"
# Not from `mimetypes`, which depends on the machine: with `nosniff`, a script of another type does not run.
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Assets:
    """An ASGI application for mounting at /static, and the map from names to addresses.

    The file `style.css` is served as `style.1a2b3c4d5e.css`. Browsers may cache it forever, because changed
    content gets another name.
    """

    def __init__(self) -> None:
        """Read every file once, for the life of the process."""
        self._plain: dict[str, bytes] = {
            path.name: path.read_bytes() for path in sorted(_OWN.iterdir()) if path.suffix in _TYPES
        }
        self._names = {name: _hashed(name, content) for name, content in self._plain.items()}

    @cached_property
    def _compressed(self) -> dict[str, bytes]:
        return {
            name: gzip.compress(content, compresslevel=6, mtime=0) for name, content in self._plain.items()
        }

    def url(self, name: str) -> str:
        """Return the address of a file, e.g. `/static/style.1a2b3c4d5e.css`."""
        return f"/static/{self._names[name]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with the file that the last part of the path names."""
        await self._response(scope)(scope, receive, send)

    def _response(self, scope: Scope) -> Response:
        requested = scope["path"].rsplit("/", 1)[-1]
        name = next((name for name, hashed in self._names.items() if hashed == requested), None)
        if name is None or scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("file not found", status_code=404)
        headers = {"Cache-Control": _FOREVER, "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff"}
        content = self._plain[name]
        if accepts_gzip(Headers(scope=scope)):
            content, headers["Content-Encoding"] = self._compressed[name], "gzip"
        return Response(content, media_type=_TYPES[Path(name).suffix], headers=headers)


def _hashed(name: str, content: bytes) -> str:
    stem, suffix = name.split(".", 1)
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:10]}.{suffix}"


@cache
def assets() -> Assets:
    """Return the `Assets` of this process; the files do not change while it runs."""
    return Assets()
