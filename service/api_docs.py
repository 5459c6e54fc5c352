"""The API's own documentation: /docs for readers, and /openapi.json for programs."""

__all__ = ["add_docs"]

import gzip
import json
from collections.abc import Callable

from fastapi import FastAPI, Request
from starlette.responses import Response

from service.compression import accepts_gzip
from service.dashboard.api_page import api_html
from service.theme_choice import Theme, chosen_theme


class _WrittenOnce:
    """A response that takes long to write and requires no token, so it is written once and kept."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._content = content, gzip.compress(content, mtime=0)
        self._media_type = media_type

    def response(self, request: Request) -> Response:
        is_compressed = accepts_gzip(request.headers)
        # The page has the theme that a cookie names.
        headers = {"vary": "Accept-Encoding, Cookie"}
        if is_compressed:
            headers["content-encoding"] = "gzip"
        return Response(self._content[is_compressed], media_type=self._media_type, headers=headers)


def add_docs(app: FastAPI) -> None:
    """Add the page and the OpenAPI description to an app."""
    written: dict[Theme | None, _WrittenOnce] = {}

    def kept(key: Theme | None, media_type: str, write: Callable[[], str]) -> _WrittenOnce:
        if key not in written:
            written[key] = _WrittenOnce(write().encode(), media_type)
        return written[key]

    @app.get("/openapi.json", include_in_schema=False)
    def get_description(request: Request) -> Response:
        """Return the OpenAPI description."""
        found = kept(None, "application/json", lambda: json.dumps(app.openapi(), ensure_ascii=False))
        return found.response(request)

    @app.get("/docs", include_in_schema=False)
    def get_docs(request: Request) -> Response:
        """Return the page."""
        found = kept(chosen_theme(), "text/html; charset=utf-8", lambda: api_html(app.openapi()))
        return found.response(request)

    _ = get_description, get_docs
