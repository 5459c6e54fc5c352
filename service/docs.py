"""/docs: the API's description for people, with Swagger UI served from here; no script of it lies elsewhere."""

__all__ = ["add_docs"]

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tangent: API</title>
<link rel="stylesheet" href="/docs/swagger/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/swagger/favicon-32x32.png">
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="/openapi.json">/openapi.json</a> holds the same for programs.</noscript>
<script src="/docs/swagger/swagger-ui-bundle.js"></script>
<script src="/docs/swagger/start.js"></script>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Add the page and what it loads."""
    app.mount("/docs/swagger", StaticFiles(directory=Path(__file__).parent / "static" / "swagger"))

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        """Return the page."""
        return HTMLResponse(_PAGE)

    _ = get_docs
