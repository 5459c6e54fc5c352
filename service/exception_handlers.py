"""Turns every error into an answer.

`application/problem+json` for programs, a small page for people who look with a browser.
"""

__all__ = [
    "install_exception_handlers",
    "internal_error_response",
    "not_found_response",
    "page",
    "problem_response",
    "wants_html",
]

import html
import json
import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.routing import Match

from service import errors
from service.dashboard.rendering import login_html, problem_html
from service.errors import FieldError, HTTPProblem, Problem
from service.session_cookie import safe_redirect_path
from studies.errors import (
    CatalogEmpty,
    SpecInvalid,
    StoreUnavailable,
    StudyNotFound,
    SuiteNotFound,
    TangentError,
    TrialNotFound,
    Unauthenticated,
    WebhookNotFound,
    shown,
)

_LOG = logging.getLogger("tangent.service")
_RETRY_S = "5"
_FAULTS_TOLD = 5
_NAME_TOLD = 100


def wants_html(request: Request) -> bool:
    """Return whether a browser asks for something to read; under /v1 all answers are for programs."""
    return not request.scope["path"].startswith("/v1") and "text/html" in request.headers.get("accept", "")


def page(title: str, *paragraphs: str) -> str:
    """Return a page of plain text, in no style: it has to work when nothing else does."""
    said = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return (
        '<!doctype html><html lang="en"><meta '
        f'charset="utf-8"><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>{said}</html>'
    )


def problem_response(
    request: Request, problem: Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer that carries a problem."""
    given = {"cache-control": "no-store", **(headers or {})}
    if wants_html(request):
        # A fault of ours may be one of the templates.
        draw = page if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR else problem_html
        shown = draw(
            problem.title, problem.detail, f"HTTP {problem.status} {HTTPStatus(problem.status).phrase}"
        )
        # What came with the request is quoted in details, lone surrogates and all; UTF-8 cannot carry those.
        return HTMLResponse(shown.encode("utf-8", "replace"), status_code=problem.status, headers=given)
    # Escaped to ASCII for the same reason.
    body = json.dumps(problem.model_dump(mode="python", exclude_none=True)).encode("ascii")
    return Response(body, status_code=problem.status, headers=given, media_type=errors.PROBLEM_JSON)


def internal_error_response(request: Request, error: Exception) -> Response:
    """Return the answer to a fault of ours and log its cause; nothing of the cause leaves the service."""
    instance = f"urn:uuid:{uuid.uuid4()}"
    _LOG.error("%s %s failed (%s)", request.method, request.scope["path"], instance, exc_info=error)
    return problem_response(
        request, errors.problem_of(errors.INTERNAL, errors.INTERNAL.example, instance=instance)
    )


def _tangent_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TangentError), "registered for it"
    kind = errors.kind_of(type(error))
    if kind is errors.INTERNAL:
        return internal_error_response(request, error)
    match error:
        case SpecInvalid():
            # A request without a body has its faults in its parameters: a page token, an order.
            is_body = request.method != "GET"
            kind = kind if is_body else errors.PARAMETER_INVALID
            faults = [
                FieldError(pointer=p.pointer, detail=p.message, where="body" if is_body else "query")
                for p in error.problems
            ]
            return problem_response(request, errors.problem_of(kind, _in_short(faults), faults=faults))
        case StoreUnavailable():
            # The message names the database and its host: for the log, not for callers.
            _LOG.error("%s", error)
            return problem_response(request, errors.problem_of(kind, kind.example), {"retry-after": _RETRY_S})
        case CatalogEmpty():
            return problem_response(request, errors.problem_of(kind, error=error), {"retry-after": _RETRY_S})
        case Unauthenticated():
            # Not Basic: a browser would ask for a name and a password, and send them for ever.
            headers = {"www-authenticate": 'Bearer realm="Tangent"'}
            if "hx-request" in request.headers:
                # The page that wants an update loads itself anew, and so comes to the login.
                headers["hx-refresh"] = "true"
            return (
                _login(request, headers)
                if wants_html(request)
                else problem_response(request, errors.problem_of(kind, error=error), headers)
            )
        case _:
            return problem_response(request, errors.problem_of(kind, error=error))


def _login(request: Request, headers: Mapping[str, str]) -> Response:
    """Return the page that asks for a token, in the place of the page that was asked for."""
    is_read = request.method == "GET"
    to = (
        safe_redirect_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        if is_read
        else "/"
    )
    shown = login_html(to, is_foreign=is_read and request.headers.get("sec-fetch-site") == "cross-site")
    return HTMLResponse(
        shown, status_code=HTTPStatus.UNAUTHORIZED, headers={"cache-control": "no-store", **headers}
    )


def _in_short(faults: list[FieldError]) -> str:
    said = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:_FAULTS_TOLD])
    return said if len(faults) <= _FAULTS_TOLD else f"{said}; and {len(faults) - _FAULTS_TOLD} more"


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPProblem), "registered for it"
    return problem_response(
        request, errors.problem_of(error.kind, error.detail, missing=error.missing), error.headers
    )


def not_found_response(request: Request) -> Response:
    """Return the answer for a path under which nothing stands."""
    path = str(request.scope["path"])
    path = path if len(path) <= _NAME_TOLD else path[:_NAME_TOLD] + "…"
    return problem_response(
        request,
        errors.problem_of(errors.NOT_FOUND, f"there is nothing at {path}; GET /v1 lists where to begin"),
    )


def _bad_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it"
    items = cast("list[dict[str, Any]]", list(error.errors()))
    for item in items:
        # No resource can have such a name, so none is there.
        match item["loc"]:
            case ("path", "study_id"):
                return _tangent_error(request, StudyNotFound(str(item["input"])[:_NAME_TOLD]))
            case ("path", "trial_id"):
                return _tangent_error(request, TrialNotFound(str(item["input"])[:_NAME_TOLD]))
            case ("path", "suite_name"):
                return _tangent_error(request, SuiteNotFound(str(item["input"])[:_NAME_TOLD]))
            case ("path", "webhook_id"):
                return _tangent_error(request, WebhookNotFound(str(item["input"])[:_NAME_TOLD]))
            case ("path", *_):
                return not_found_response(request)
            case _:
                pass
    faults: list[FieldError] = []
    for item in items:
        where, *steps = item["loc"]
        name = "/".join(str(step) for step in steps)
        faults.append(FieldError(pointer=f"/{name}", detail=_said(item), where=where))
    return problem_response(
        request, errors.problem_of(errors.PARAMETER_INVALID, _in_short(faults), faults=faults)
    )


def _said(item: dict[str, Any]) -> str:
    """Return what is wrong with a parameter: what was expected, what came."""
    said, came, context = str(item["msg"]), shown(item.get("input")), item.get("ctx", {})
    match item["type"]:
        case "extra_forbidden":
            return "there is no such parameter; /docs lists those there are"
        case "missing":
            return "this parameter is required"
        case "too_short":
            return f"expected at least {context['min_length']} of it, got {context['actual_length']}"
        case "too_long":
            return f"expected at most {context['max_length']} of it, got {context['actual_length']}"
        case _:
            return f"{said[:1].lower()}{said[1:]}, got {came}"


def _methods(request: Request) -> str:
    """Return every method that the path knows.

    FastAPI itself names only those of the first route that fits.
    """
    app = cast("FastAPI", request.app)
    # A verb's path also fits that of reading a study, but no id has a colon in it.
    asked = ("POST",) if ":" in str(request.scope["path"]) else ("GET", "POST", "DELETE")
    return ", ".join(
        method
        for method in asked
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in app.routes)
    )


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    match error.status_code:
        case 404:
            return not_found_response(request)
        case 405:
            allowed = _methods(request)
            if not allowed:
                return not_found_response(request)
            detail = f"{request.method} is not known here; allowed: {allowed}"
            return problem_response(
                request, errors.problem_of(errors.METHOD_NOT_ALLOWED, detail), {"allow": allowed}
            )
        case status:
            phrase = HTTPStatus(status).phrase
            problem = Problem(
                type="about:blank", title=phrase, status=status, detail=str(error.detail) or phrase
            )
            return problem_response(request, problem, error.headers)


def install_exception_handlers(app: FastAPI) -> None:
    """Register the handlers; what none of them takes is answered by `internal_error`."""
    app.add_exception_handler(TangentError, _tangent_error)
    app.add_exception_handler(HTTPProblem, _refusal)
    app.add_exception_handler(RequestValidationError, _bad_parameters)
    app.add_exception_handler(HTTPException, _http_error)
