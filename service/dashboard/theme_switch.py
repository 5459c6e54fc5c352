"""The switch between the light and the dark theme, as a form that works without a script."""

__all__ = ["theme_router"]

from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse

from service import errors
from service.dashboard.forms import LoginForm
from service.errors import HTTPProblem
from service.public_address import root_path
from service.session_cookie import safe_redirect_path
from service.theme_choice import keep_theme, theme_named


def theme_router() -> APIRouter:
    """Return the route, which changes only a cookie. It requires no token: every page has the switch."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/theme", _choose, methods=["POST"])
    return router


def _choose(request: Request, form: LoginForm) -> RedirectResponse:
    name = form.get("theme", "")
    theme = theme_named(name)
    if theme is None:
        raise HTTPProblem(
            errors.PARAMETER_INVALID, f"expected theme to be light, dark or auto, got {name[:32]!r}"
        )
    response = RedirectResponse(_previous_path(request), status_code=303)
    keep_theme(request, response, theme)
    return response


def _previous_path(request: Request) -> str:
    """Return the path and query of the page that has sent the form; `/` if the browser does not say."""
    # Only our own pages can send the form, and they allow their address in this header.
    try:
        address = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return "/"
    path = address.path.removeprefix(root_path())
    return safe_redirect_path(f"{path}?{address.query}" if address.query else path)
