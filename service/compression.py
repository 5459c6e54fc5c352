"""Compression of responses, for clients that accept gzip."""

__all__ = ["Compression", "accepts_gzip", "gzip_parts"]

import gzip
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Not HTML and CSV, which pages compress themselves, nor event streams, nor files that are compressed already.
_TYPES: Final = frozenset({"application/json", "application/x-tex", "text/markdown"})
# Their body is a whole representation. An ETag is the same in the POST that creates something and the GET
# that reads it.
_STATUSES: Final = frozenset({200, 201})
_LEAST_BYTES: Final = 1024
# Larger bodies take so long that they would delay other requests on the event loop.
_MOST_BYTES_ON_LOOP: Final = 1 << 16
_LEVEL: Final = 5


def accepts_gzip(headers: Headers) -> bool:
    """Return whether a client accepts gzip: it names it, or `*`, with a weight above zero."""
    weights: dict[str, float] = {}
    for part in ",".join(headers.getlist("accept-encoding")).lower().split(","):
        coding, _, parameter = part.partition(";")
        name, _, weight = parameter.partition("=")
        try:
            weights[coding.strip()] = float(weight) if name.strip() == "q" else 1.0
        except ValueError:
            weights[coding.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def gzip_parts(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a body compressed part by part, so that it is never whole in memory."""
    # 31: with the header and the checksum of gzip.
    compressor = zlib.compressobj(_LEVEL, wbits=31)
    for part in parts:
        if compressed := compressor.compress(part):
            yield compressed
    yield compressor.flush()


class Compression:
    """Compresses complete JSON, Markdown and LaTeX responses of at least a kilobyte.

    A compressed response has a weak ETag, because its bytes differ from those that the strong one names. What
    must not be stored is not compressed: those responses contain secrets, whose length must not be revealed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Headers(scope=scope)
        is_accepted = accepts_gzip(request)
        start: Message | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_compressible(message):
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Accept-Encoding")
                if message["status"] == 304 and f"W/{headers.get('etag')}" in request.get(
                    "if-none-match", ""
                ):
                    # The client's copy is the compressed one.
                    headers["etag"] = f"W/{headers['etag']}"
                if is_accepted and message["status"] in _STATUSES:
                    start = message
                    return
            if start is not None:
                first, start = start, None
                body = message.get("body", b"")
                if not message.get("more_body", False) and len(body) >= _LEAST_BYTES:
                    body = await _compressed(body)
                    message = {**message, "body": body}
                    _describe(first, len(body))
                await send(first)
            await send(message)

        await self._app(scope, receive, send_compressed)


def _is_compressible(start: Message) -> bool:
    headers = Headers(scope=start)
    kind = headers.get("content-type", "").partition(";")[0]
    return (
        (kind in _TYPES or start["status"] == 304)
        and "content-encoding" not in headers
        and "no-store" not in headers.get("cache-control", "")
    )


def _describe(start: Message, size: int) -> None:
    headers = MutableHeaders(scope=start)
    headers["content-encoding"], headers["content-length"] = "gzip", str(size)
    if headers.get("etag", "").startswith('"'):
        headers["etag"] = f"W/{headers['etag']}"


async def _compressed(body: bytes) -> bytes:
    if len(body) <= _MOST_BYTES_ON_LOOP:
        return gzip.compress(body, compresslevel=_LEVEL, mtime=0)
    return await run_in_threadpool(gzip.compress, body, compresslevel=_LEVEL, mtime=0)
