"""The pages for logging in with a token, for the account of a token, and for logging out."""

__all__ = ["login_router"]

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from service import errors
from service.auth import CurrentActor, address_of, is_open
from service.client_address import neighbourhood
from service.dashboard.forms import LoginForm
from service.dashboard.rendering import login_html, render
from service.errors import HTTPProblem
from service.rate_limits import RateLimits
from service.session_cookie import (
    clear_session_cookie,
    safe_redirect_path,
    session_secret,
    set_session_cookie,
)
from service.settings import ServiceSettings
from service.write_threads import WriteRoute
from studies.actors import Actor
from studies.store import Store

_PRIVATE = {"cache-control": "no-store"}


def login_router() -> APIRouter:
    """Return the routes; only the account page requires a token."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=WriteRoute)
    router.add_api_route("/login", _ask)
    router.add_api_route("/login", _log_in, methods=["POST"])
    router.add_api_route("/logout", _log_out, methods=["POST"])
    router.add_api_route("/account", _account)
    return router


def _ask(request: Request, to: Annotated[str, Query(alias="next", max_length=1000)] = "/") -> Response:
    if is_open(request):
        return RedirectResponse("/", status_code=303)
    return HTMLResponse(login_html(safe_redirect_path(to)), headers=_PRIVATE)


def _log_in(request: Request, form: LoginForm) -> Response:
    settings: ServiceSettings = request.app.state.settings
    store: Store = request.app.state.store
    limits: RateLimits = request.app.state.login_limits
    address, to = address_of(request), safe_redirect_path(form.get("next", "/"))
    wait_s = limits.take(neighbourhood(address))
    if wait_s:
        raise HTTPProblem(
            errors.RATE_LIMITED,
            f"too many logins from address {address}; try again in {wait_s} s",
            headers={"retry-after": str(wait_s)},
        )
    # A token copied from a terminal often has spaces around it.
    token, lasts = form.get("token", "").strip(), timedelta(hours=settings.session_hours)
    refusals: RateLimits = request.app.state.refusal_limits
    secret = (
        store.log_in(
            token, lifetime=lasts, address=address, records_refusal=refusals.take("all addresses") == 0
        )
        if token
        else None
    )
    if secret is None:
        problem = (
            "This token is not valid: it was revoked or never existed. "
            "Ask the service's administrator for a new one."
        )
        return HTMLResponse(
            login_html(to, problem=problem),
            status_code=401,
            headers={**_PRIVATE, "www-authenticate": 'Bearer realm="Tangent"'},
        )
    # 303 makes the browser get that page, so that a reload does not send the token again.
    response = RedirectResponse(to, status_code=303, headers=_PRIVATE)
    set_session_cookie(request, response, secret, lasts=lasts)
    return response


def _log_out(request: Request) -> Response:
    store: Store = request.app.state.store
    secret = session_secret(request)
    token = None if secret is None else store.session_owner(secret)
    if secret is not None and token is not None:
        store.log_out(secret, by=Actor(name=token.name, role=token.role, address=address_of(request)))
    response = RedirectResponse("/login", status_code=303, headers=_PRIVATE)
    clear_session_cookie(request, response)
    return response


def _account(request: Request, actor: CurrentActor) -> Response:
    store: Store = request.app.state.store
    token = None if actor.name is None else store.token(actor.name)
    has_session = session_secret(request) is not None
    known = {
        "token": token,
        "has_session": has_session,
        "webhooks": store.webhooks(by=actor, only_own=True).items,
    }
    return HTMLResponse(
        render("account.html", **known, here="/account", json_url="/v1/account"), headers=_PRIVATE
    )
