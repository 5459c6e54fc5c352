"""Error responses: `application/problem+json` for programs, an HTML page for browsers."""

__all__ = [
    "ErrorPages",
    "install_exception_handlers",
    "internal_error_response",
    "not_found_response",
    "problem_response",
    "wants_html",
]

import html
import json
import logging
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse
from starlette.routing import Match

from service import errors
from service.errors import FieldError, HTTPProblem, Problem, ProblemKind
from service.public_address import root_path
from service.session_cookie import safe_redirect_path
from studies.drafts import with_catalog_problems
from studies.errors import (
    MAX_PROBLEMS,
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
from studies.spec import as_written
from studies.validation_errors import describe_expected

_LOG = logging.getLogger("tangent.service")
_RETRY_AFTER_S = "5"
_MAX_FAULTS_IN_DETAIL = 5
_MAX_QUOTED = 100


class _ProblemPage(Protocol):
    def __call__(self, title: str, *paragraphs: str) -> str: ...


class _LoginPage(Protocol):
    def __call__(self, to: str, *, is_foreign: bool) -> str: ...


@dataclass(frozen=True)
class ErrorPages:
    """Renders the HTML of error responses. The app provides it, because the dashboard builds on this module.

    Attributes:
        problem: renders a problem from its title and paragraphs.
        login: renders the page that asks for a token, from the path that a login leads to and whether a page
            of another site linked here.
    """

    problem: _ProblemPage
    login: _LoginPage


def wants_html(request: Request) -> bool:
    """Return whether a browser asks for a page. Responses under /v1 are always for programs."""
    return not request.scope["path"].startswith("/v1") and "text/html" in request.headers.get("accept", "")


def _plain_page(title: str, *paragraphs: str) -> str:
    """Return an unstyled page that depends on no template."""
    body = "".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return (
        '<!doctype html><html lang="en"><meta '
        f'charset="utf-8"><title>{html.escape(title)}</title><h1>{html.escape(title)}</h1>{body}</html>'
    )


def problem_response(
    request: Request, problem: Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response for a problem."""
    all_headers = {"cache-control": "no-store", **(headers or {})}
    if wants_html(request):
        pages: ErrorPages = request.app.state.error_pages
        # The internal error may come from a template.
        is_internal = problem.status == HTTPStatus.INTERNAL_SERVER_ERROR
        render = _plain_page if is_internal else pages.problem
        page = render(
            problem.title,
            _sentence(problem.detail),
            f"HTTP {problem.status} {HTTPStatus(problem.status).phrase}",
        )
        # Details quote the request, which may contain lone surrogates; UTF-8 cannot encode those.
        return HTMLResponse(page.encode("utf-8", "replace"), status_code=problem.status, headers=all_headers)
    # Escaped to ASCII for the same reason.
    body = json.dumps(
        problem.model_copy(update={"type": f"{root_path()}{problem.type}"}).model_dump(exclude_none=True)
    ).encode("ascii")
    return Response(body, status_code=problem.status, headers=all_headers, media_type=errors.PROBLEM_JSON)


def _sentence(detail: str) -> str:
    return f"{detail[:1].upper()}{detail[1:].removesuffix('.')}."


def internal_error_response(request: Request, error: Exception) -> Response:
    """Log the cause of an internal error and return a response that does not reveal it."""
    instance = f"urn:uuid:{uuid.uuid4()}"
    _LOG.error("%s %s failed (%s)", request.method, request.scope["path"], instance, exc_info=error)
    return problem_response(
        request, errors.problem_of(errors.INTERNAL, errors.INTERNAL.example, instance=instance)
    )


def _handle_tangent_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TangentError), "registered for it"
    kind = errors.kind_of(type(error))
    if kind is errors.INTERNAL:
        return internal_error_response(request, error)
    match error:
        case SpecInvalid():
            error = _with_catalog_problems(request, error)
            error = as_written(error, getattr(request.state, "written", None))
            # The faults of a request without a body are in its parameters, such as a page token.
            has_body = request.method not in {"GET", "HEAD"}
            kind = kind if has_body else errors.PARAMETER_INVALID
            faults = [
                FieldError(pointer=p.pointer, detail=p.message, where="body" if has_body else "query")
                for p in error.problems
            ]
            return problem_response(request, _problem_with_faults(kind, faults, omitted=error.omitted))
        case StoreUnavailable():
            # The message names the database and its host, which callers must not see.
            _LOG.error("%s", error)
            return problem_response(
                request, errors.problem_of(kind, kind.example), {"retry-after": _RETRY_AFTER_S}
            )
        case CatalogEmpty():
            return problem_response(
                request, errors.problem_of(kind, error=error), {"retry-after": _RETRY_AFTER_S}
            )
        case Unauthenticated():
            # Not Basic: a browser would ask for a name and a password, and then send them with every request.
            headers = {"www-authenticate": 'Bearer realm="Tangent"'}
            if "hx-request" in request.headers:
                # A page that requests an update reloads itself and so reaches the login page.
                headers["hx-refresh"] = "true"
            return (
                _login_response(request, headers)
                if wants_html(request)
                else problem_response(request, errors.problem_of(kind, error=error), headers)
            )
        case _:
            return problem_response(request, errors.problem_of(kind, error=error))


def _with_catalog_problems(request: Request, error: SpecInvalid) -> SpecInvalid:
    """Return the error with what the catalogue says, if the study could not be parsed."""
    if error.draft is None:
        return error
    # Its own faults are enough while the database does not answer.
    with suppress(StoreUnavailable):
        return with_catalog_problems(error, request.app.state.store.catalog())
    return error


def _login_response(request: Request, headers: Mapping[str, str]) -> Response:
    """Return the login page in place of the requested page; it leads to that, or to the page of a form."""
    pages: ErrorPages = request.app.state.error_pages
    is_read = request.method == "GET"
    has_page = _has_route(request, "GET", request.scope["path"])
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    page = pages.login(
        safe_redirect_path(target) if is_read or has_page else "/",
        is_foreign=is_read and request.headers.get("sec-fetch-site") == "cross-site",
    )
    return HTMLResponse(
        page, status_code=HTTPStatus.UNAUTHORIZED, headers={"cache-control": "no-store", **headers}
    )


def _problem_with_faults(kind: ProblemKind, faults: list[FieldError], *, omitted: int) -> Problem:
    first = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in faults[:_MAX_FAULTS_IN_DETAIL])
    more = len(faults) - _MAX_FAULTS_IN_DETAIL + omitted
    detail = first if more <= 0 else f"{first}; and {more} more"
    return errors.problem_of(kind, detail, faults=faults, omitted=omitted)


def _handle_http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPProblem), "registered for it"
    problem = errors.problem_of(error.kind, error.detail, missing=error.missing)
    return problem_response(request, problem, error.headers)


def not_found_response(request: Request) -> Response:
    """Return the response for a path without a resource."""
    path = str(request.scope["path"])
    advice = "GET /v1 lists the entry points"
    verb = ":".join(path.rsplit("/", 1))
    if len(path) <= _MAX_QUOTED and _has_route(request, "POST", verb):
        advice = f"did you mean POST {verb}?"
    path = path if len(path) <= _MAX_QUOTED else path[:_MAX_QUOTED] + "…"
    return problem_response(
        request, errors.problem_of(errors.NOT_FOUND, f"there is nothing at {path}; {advice}")
    )


def _has_route(request: Request, method: str, path: str) -> bool:
    app = cast("FastAPI", request.app)
    scope = {**request.scope, "method": method, "path": path}
    return any(route.matches(scope)[0] is Match.FULL for route in app.routes)


def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it"
    items = cast("list[dict[str, Any]]", list(error.errors()))
    for item in items:
        # No resource can have an invalid name, so the resource does not exist.
        match item["loc"]:
            case ("path", "study_id"):
                return _handle_tangent_error(request, StudyNotFound(str(item["input"])[:_MAX_QUOTED]))
            case ("path", "trial_id"):
                return _handle_tangent_error(request, TrialNotFound(str(item["input"])[:_MAX_QUOTED]))
            case ("path", "suite_name"):
                return _handle_tangent_error(request, SuiteNotFound(str(item["input"])[:_MAX_QUOTED]))
            case ("path", "webhook_id"):
                return _handle_tangent_error(request, WebhookNotFound(str(item["input"])[:_MAX_QUOTED]))
            case ("path", *_):
                return not_found_response(request)
            case _:
                pass
    faults: list[FieldError] = []
    for item in items[:MAX_PROBLEMS]:
        where, *steps = item["loc"]
        name = "/".join(str(step) for step in steps)
        faults.append(FieldError(pointer=f"/{name}", detail=_describe_fault(item), where=where))
    omitted = len(items) - len(faults)
    return problem_response(request, _problem_with_faults(errors.PARAMETER_INVALID, faults, omitted=omitted))


def _describe_fault(item: dict[str, Any]) -> str:
    """Return what was expected of a parameter and what was sent."""
    message, context = str(item["msg"]), item.get("ctx", {})
    if expected := describe_expected(item["type"], context):
        return f"{expected}, got {shown(item.get('input'))}"
    match item["type"]:
        case "extra_forbidden":
            return "there is no such parameter; /docs lists the parameters"
        case "missing":
            return "this parameter is required"
        case "too_short":
            return f"expected at least {context['min_length']} values, got {context['actual_length']}"
        case "too_long":
            return f"expected at most {context['max_length']} values, got {context['actual_length']}"
        case _:
            return f"{message[:1].lower()}{message[1:]}, got {shown(item.get('input'))}"


def _allowed_methods(request: Request) -> str:
    """Return all methods of a path. FastAPI lists only those of the first route that matches."""
    path = str(request.scope["path"])
    # The path of a verb also matches the route that reads a study, but no id contains a colon.
    candidates = ("POST",) if ":" in path else ("GET", "POST", "PUT", "DELETE")
    allowed = [method for method in candidates if _has_route(request, method, path)]
    # Every GET is answered to HEAD too, without its body.
    return ", ".join(
        name for method in allowed for name in ((method, "HEAD") if method == "GET" else (method,))
    )


def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    match error.status_code:
        case 404:
            return not_found_response(request)
        case 405:
            allowed = _allowed_methods(request)
            if not allowed:
                return not_found_response(request)
            detail = f"{request.method} is not allowed here; allowed: {allowed}"
            return problem_response(
                request, errors.problem_of(errors.METHOD_NOT_ALLOWED, detail), {"allow": allowed}
            )
        case status:
            phrase = HTTPStatus(status).phrase
            problem = Problem(
                type="about:blank", title=phrase, status=status, detail=str(error.detail) or phrase
            )
            return problem_response(request, problem, error.headers)


def install_exception_handlers(app: FastAPI, pages: ErrorPages) -> None:
    """Register the handlers. `service.middleware.ErrorBoundary` handles every other exception.

    Args:
        app: the application.
        pages: renders error pages.
    """
    app.state.error_pages = pages
    app.add_exception_handler(TangentError, _handle_tangent_error)
    app.add_exception_handler(HTTPProblem, _handle_http_problem)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
