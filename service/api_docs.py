"""/docs: the API documentation, with a copy of Swagger UI that the service itself serves."""

__all__ = ["add_docs"]

import gzip
import json
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from service.compression import accepts_gzip
from service.public_address import with_root

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tangent: API</title>
<link rel="stylesheet" href="/docs/swagger/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/swagger/favicon-32x32.png">
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; \
<a href="/openapi.json">openapi.json</a> has the same content for programs.</noscript>
<script src="/docs/swagger/swagger-ui-bundle.js"></script>
<script src="/docs/swagger/start.js"></script>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Add the page, its scripts and the OpenAPI description."""
    app.mount("/docs/swagger", StaticFiles(directory=Path(__file__).parent / "static" / "swagger"))

    cached: list[bytes] = []

    @app.get("/openapi.json", include_in_schema=False)
    async def get_description(request: Request) -> Response:
        """Return the OpenAPI description. It is long and needs no token, so it is written only once."""
        if not cached:
            plain = json.dumps(app.openapi(), ensure_ascii=False).encode()
            cached.extend((plain, gzip.compress(plain, mtime=0)))
        is_compressed = accepts_gzip(request.headers)
        headers = {"vary": "Accept-Encoding", **({"content-encoding": "gzip"} if is_compressed else {})}
        return Response(cached[is_compressed], media_type="application/json", headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        """Return the page."""
        return HTMLResponse(with_root(_PAGE))

    _ = get_description, get_docs
