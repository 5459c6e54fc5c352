"""Middleware that gives each request an id, counts it, and logs one line when it is done.

It is plain ASGI, so that event streams pass through unbuffered.
"""

__all__ = ["REQUEST_ID", "RequestLog", "route_of"]

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from service.metrics import Metrics

REQUEST_ID = "x-request-id"
"""The header with a request's id; a caller or a proxy may set it, and the response returns it."""

_LOG = logging.getLogger("tangent.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Ids in the form of the API's routes; a trial's id starts with its study's.
_SUBJECT = re.compile(
    r"(?:/v1)?/(?P<kind>studies|trials)/(?P<id>(?P<study>[a-z0-9]{1,16})"
    r"(?:\.[A-Za-z0-9._-]{1,80})?)(?=[/:]|$)"
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_API = "/v1"
_MAX_PATH = 200
# Requested every few seconds by probes, or with every page.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/*"})
# No response was sent, because the caller disconnected first. nginx uses the same number.
_CLIENT_CLOSED_REQUEST = 499


class RequestLog:
    """Names, counts and logs requests.

    Args:
        app: the next application.
        metrics: counts them.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status, is_counted, began = _CLIENT_CLOSED_REQUEST, False, time.perf_counter()

        def count() -> None:
            nonlocal is_counted
            if not is_counted:
                self._metrics.count_response(
                    method, route_of(scope), status, seconds=time.perf_counter() - began
                )
            is_counted = True

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                # The reader decides how long a stream lasts; only the time to its start is the service's.
                if headers.get("content-type", "").startswith("text/event-stream"):
                    count()
            await send(message)

        # All log lines of this request name the study or the trial in its path.
        with bound_contextvars(request_id=request_id, **_subject(scope["path"])):
            self._metrics.request_started()
            try:
                await self._app(scope, receive, send_and_note)
            except Exception:
                status = 500
                raise
            finally:
                self._metrics.request_finished()
                count()
                _write(
                    scope,
                    method=method,
                    route=route_of(scope),
                    status=status,
                    took_s=time.perf_counter() - began,
                )


def route_of(scope: Scope) -> str:
    """Return the template of a request's route, such as `/v1/studies/{study_id}`; `unmatched` without one."""
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        # The path of an included route does not have the prefix.
        is_prefixed = f"{scope['path']}/".startswith(f"{_API}/") and not route.startswith(_API)
        return f"{_API}{route}" if is_prefixed else route
    mount = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    if mount:
        return f"{mount}/*"
    # Some routes, such as /openapi.json, are not in the scope. A path without parameters is its own template.
    is_plain = "endpoint" in scope and not scope.get("path_params")
    return scope["path"] if is_plain else "unmatched"


def _subject(path: str) -> dict[str, str]:
    """Return the ids of the study and the trial in a path."""
    found = _SUBJECT.match(path)
    if found is None:
        return {}
    return {"study_id": found["study"]} | ({"trial_id": found["id"]} if found["kind"] == "trials" else {})


def _write(scope: Scope, *, method: str, route: str, status: int, took_s: float) -> None:
    # Still percent-encoded and without the query, so that it cannot look like another line.
    path = (
        bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")[:_MAX_PATH]
        or scope["path"][:_MAX_PATH]
    )
    # A 503 of /readyz is a normal response, not a fault.
    level = (
        logging.DEBUG
        if route in _QUIET and status != 500
        else logging.WARNING
        if status >= 500
        else logging.INFO
    )
    fields = {
        "method": method,
        "path": path,
        "route": route,
        "status": status,
        "duration_ms": round(1000 * took_s, 1),
    }
    caller = scope.get("state", {}).get("caller")
    if caller is not None:
        fields["caller"] = caller
    _LOG.log(level, "%s %s %d", method, path, status, extra=fields)
