"""What every request passes first.

It gets an id, is counted, and leaves one line in the log when it has been answered.

Plain ASGI, so that event streams pass through unbuffered.
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
"""The header that a caller, or a proxy, may name a request in; the answer brings it back."""

_LOG = logging.getLogger("tangent.access")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Ids as the API's own routes know them; a trial's begins with its study's.
_SUBJECT = re.compile(
    r"(?:/v1)?/(?P<kind>studies|trials)/(?P<id>(?P<study>[a-z0-9]{1,16})"
    r"(?:\.[A-Za-z0-9._-]{1,80})?)(?=[/:]|$)"
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_API = "/v1"
_PATH_TOLD = 200
# Asked every few seconds by machinery, or once for every page.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static/*", "/docs/swagger/*"})
# Nobody has sent it: the caller left before there was an answer. The number is nginx's.
_CALLER_LEFT = 499


class RequestLog:
    """Names, counts and logs requests.

    Args:
        app: what answers them.
        metrics: where they are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        method = scope["method"] if scope["method"] in _METHODS else "other"
        status, is_counted, began = _CALLER_LEFT, False, time.perf_counter()

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
                # A stream lasts as long as its reader likes: only its beginning says anything of the service.
                if headers.get("content-type", "").startswith("text/event-stream"):
                    count()
            await send(message)

        # Where the path says more than what it was asked for, the log's other lines of this request say it
        # too.
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
    """Return the template of the route that answered a request, such as `/v1/studies/{study_id}`.

    Of what none did, `unmatched`.
    """
    route = getattr(scope.get("route"), "path", None)
    if isinstance(route, str):
        # A route knows its path without the prefix that it was included under.
        is_prefixed = f"{scope['path']}/".startswith(f"{_API}/") and not route.startswith(_API)
        return f"{_API}{route}" if is_prefixed else route
    mount = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    if mount:
        return f"{mount}/*"
    # The framework's own routes, such as /openapi.json, say nothing of themselves; what has no parameters is
    # its own template.
    is_plain = "endpoint" in scope and not scope.get("path_params")
    return scope["path"] if is_plain else "unmatched"


def _subject(path: str) -> dict[str, str]:
    """Return the study, and the trial, that a path names."""
    found = _SUBJECT.match(path)
    if found is None:
        return {}
    return {"study_id": found["study"]} | ({"trial_id": found["id"]} if found["kind"] == "trials" else {})


def _write(scope: Scope, *, method: str, route: str, status: int, took_s: float) -> None:
    # As it came over the wire, percent signs and all, and without its query: nothing in it can look like
    # another line.
    path = (
        bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("ascii", "replace")[:_PATH_TOLD]
        or scope["path"][:_PATH_TOLD]
    )
    # That a service is not ready yet is an answer of /readyz, no fault.
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
